package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/vm/libvirt/libvirttest"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := certificate("an authority")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key, a.pem = key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func certificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<60))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
}

// folder makes a folder with the authority's certificate and a pair of its own for server and
// client, under libvirt's names. trusted is the authority that the folder's owner trusts.
func (a *authority) folder(trusted *authority) string {
	a.t.Helper()
	dir := a.t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	write("cacert.pem", trusted.pem)
	for _, role := range []string{"server", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			a.t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, certificate(role), a.cert, &key.PublicKey,
			a.key)
		if err != nil {
			a.t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			a.t.Fatal(err)
		}
		write(role+"cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		write(role+"key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	}
	return dir
}

// TestTLS connects to a daemon over TLS, with certificates that both sides trust, and with others.
func TestTLS(t *testing.T) {
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	ours, others := newAuthority(t), newAuthority(t)
	daemon := ours.folder(ours)
	h := libvirttest.Start(t, "tls", "listen_tls = 1",
		fmt.Sprintf("key_file = %q", daemon+"/serverkey.pem"),
		fmt.Sprintf("cert_file = %q", daemon+"/servercert.pem"),
		fmt.Sprintf("ca_file = %q", daemon+"/cacert.pem"))
	for _, tc := range []struct {
		name, folder string
		status       int
		said         string
	}{
		{"both believe", ours.folder(ours), statusOK, "libvirt "},
		{"the daemon does not believe us", others.folder(ours), statusHost, "fix:"},
		{"we do not believe the daemon", ours.folder(others), statusHost,
			"certificate signed by unknown authority"},
	} {
		uri := "qemu+tls://127.0.0.1/system?" + url.Values{"pkipath": {tc.folder}}.Encode()
		o := finish(t, on(t, h, t.TempDir(), "doctor", "--connect", uri), 2*time.Minute)
		if o.status != tc.status || !strings.Contains(o.stdout, tc.said) {
			t.Errorf("%s: exit status %d\n%s%s", tc.name, o.status, o.stdout, o.stderr)
		}
	}
}
