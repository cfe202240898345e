package shared

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/libvirt/libvirttest"
)

// refused opens a lab that cannot be opened and checks its error for words, a fix and a time limit.
func refused(t *testing.T, options Options, limit time.Duration, words ...string) {
	t.Helper()
	options.Journal = newJournal(t)
	options.Run, options.Tell = "refused", func(note string) { t.Log(note) }
	if options.DUT.VCPUs == 0 {
		options.DUT = vm.Machine{Name: "dut", VCPUs: 1, MemoryBytes: 256 << 20}
	}
	began := time.Now()
	lab, err := Connect(t.Context(), options)
	if err == nil {
		t.Fatalf("it was opened: %v", lab.Close())
	}
	holds(t, err, words...)
	if err := options.Journal.Close(); err != nil {
		t.Errorf("something is left: %v", err)
	}
	if took := time.Since(began); took > limit {
		t.Errorf("it took %v, longer than %v", took, limit)
	}
}

// holds checks that an error reports something the host lacks, with a fix and with words in it.
func holds(t *testing.T, err error, words ...string) {
	t.Helper()
	missing, ok := errors.AsType[*guest.MissingError](err)
	if !ok {
		t.Fatalf("%v is no MissingError", err)
	}
	t.Logf("%v", err)
	if missing.Fix == "" {
		t.Errorf("%v: no way out is named", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v\nlacks %q", err, word)
		}
	}
}

// TestURIs accepts libvirt's notation and says what is wrong with other URIs.
func TestURIs(t *testing.T) {
	for _, tc := range []struct{ uri, transport, wrong string }{
		{"qemu:///system", "unix", ""},
		{"qemu+unix:///system?socket=/run/x", "unix", ""},
		{"qemu:///session?socket=/run/x", "unix", ""},
		{"qemu+ssh://me@hv:2222/system", "ssh", ""},
		{"qemu+tls://hv/system?pkipath=/etc/x", "tls", ""},
		{"qemu://hv/system", "tls", ""},
		{"qemu+tcp://[fd00::1]:16509/system", "tcp", ""},
		{"xen:///system", "", "only libvirt's qemu driver"},
		{"qemu:/system", "", ""},
		{"qemu:system", "", "its path is /system"},
		{"qemu://system", "", "its path is /system"},
		{"qemu:///session", "", "?socket="},
		{"qemu+ssh:///system", "", "names no host"},
		{"qemu+unix://hv/system", "", "three slashes"},
		{"qemu+carrier-pigeon://hv/system", "", "carrier-pigeon"},
		{"hv", "", "only libvirt's qemu driver"},
		{"qemu+ssh://h v/system", "", "no URI"},
	} {
		at, err := libvirt.ParseEndpoint(tc.uri)
		switch {
		case tc.wrong != "":
			if err == nil {
				t.Errorf("%s is understood as %s", tc.uri, at.Transport)
				continue
			}
			_, ok := errors.AsType[*libvirt.URIError](err)
			if !ok || !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("%s: %v, want a URIError with %q", tc.uri, err, tc.wrong)
			}
		case err != nil:
			t.Errorf("%s: %v", tc.uri, err)
		case tc.transport != "" && at.Transport != tc.transport:
			t.Errorf("%s goes by %s, want %s", tc.uri, at.Transport, tc.transport)
		}
	}
}

// TestNoDaemon connects to endpoints that are not a libvirt daemon.
func TestNoDaemon(t *testing.T) {
	const quick = libvirt.CallLimit - 5*time.Second // not by the time limit of a call
	refused(t, Options{URIs: []string{"qemu:///system?socket=" + t.TempDir() + "/none"}}, quick,
		"no such file")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, Options{URIs: []string{"qemu+tcp://" + address + "/system"}}, quick, "refused")
	refused(t, Options{URIs: []string{"qemu+tcp://no-such-host.invalid/system"}},
		libvirt.CallLimit+quick, "no-such-host.invalid")
	refused(t, Options{URIs: []string{"qemu+tls://" + address + "/system?pkipath=" + t.TempDir()}},
		quick, "clientcert.pem")

	// A server that accepts the connection and never answers.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	answer := answerLimit
	answerLimit = 2 * time.Second
	t.Cleanup(func() { answerLimit = answer })
	refused(t, Options{URIs: []string{"qemu+tcp://" + silent.Addr().String() + "/system"}}, quick,
		"did not answer")
}

// TestHostsThatAreTooSmall asks a real daemon whose host lacks something. It boots no machine.
func TestHostsThatAreTooSmall(t *testing.T) {
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	h := libvirttest.Start(t, "small")
	uris := []string{h.URI()}
	const limit = libvirt.CallLimit - 5*time.Second // not by the time limit of a call
	small := vm.Machine{Name: "dut", VCPUs: 1, MemoryBytes: 128 << 20}

	t.Run("memory", func(t *testing.T) {
		refused(t, Options{URIs: uris, DUT: vm.Machine{VCPUs: 1, MemoryBytes: 1 << 50}}, limit,
			"MiB are free")
	})
	t.Run("CPUs", func(t *testing.T) {
		refused(t, Options{URIs: uris, DUT: vm.Machine{VCPUs: 1000, MemoryBytes: 128 << 20}}, limit,
			"1000 CPUs")
	})
	t.Run("no such pool", func(t *testing.T) {
		refused(t, Options{URIs: uris, Pool: "nowhere"}, limit, "no storage pool nowhere")
	})
	t.Run("too old", func(t *testing.T) {
		refused(t, Options{URIs: []string{"qemu:///system?socket=" +
			older(t, h.Root("/run/libvirt/libvirt-sock"), 4_002_000)}},
			limit, "4.2.0 is too old", "4.3.0")
	})
	t.Run("pool full", func(t *testing.T) {
		lab := opened(t, Options{URIs: uris, DUT: small})
		big := filepath.Join(t.TempDir(), "kernel")
		if err := os.WriteFile(big, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(big, 600<<20); err != nil { // the pool's file system has 512 MiB
			t.Fatal(err)
		}
		_, err := lab.Boot(t.Context(), vm.Machine{Name: "dut", Kernel: big, Initramfs: big,
			VCPUs: 1, MemoryBytes: 128 << 20})
		holds(t, err, "MiB left")
	})
	t.Run("name taken", func(t *testing.T) {
		mine := opened(t, Options{URIs: uris, DUT: small, Run: "taken"})
		if _, err := mine.hosts[0].network(t.Context(), "client", 0); err != nil {
			t.Fatal(err)
		}
		theirs := opened(t, Options{URIs: uris, DUT: small, Run: "taken"})
		_, err := theirs.hosts[0].network(t.Context(), "client", 0)
		holds(t, err, "ctload-taken-client")
		if err := theirs.Close(); err != nil {
			t.Errorf("its end: %v", err)
		}
		if _, err := mine.hosts[0].virt.NetworkLookupByName("ctload-taken-client"); err != nil {
			t.Errorf("somebody else's network was removed: %v", err)
		}
	})
	t.Run("name of a machine taken", func(t *testing.T) {
		theirs := opened(t, Options{URIs: uris, DUT: small, Run: "machine",
			Accelerator: libvirt.TCG})
		const xml = `<domain type="qemu"><name>ctload-machine-dut-1</name>
			<memory unit="MiB">16</memory>
			<os><type arch="x86_64" machine="pc">hvm</type></os></domain>`
		host := theirs.hosts[0].virt
		taken, err := host.Create(t.Context(), xml, golibvirt.DomainStartPaused)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "kernel")
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		ours := opened(t, Options{URIs: uris, DUT: small, Run: "machine", Accelerator: libvirt.TCG})
		_, err = ours.Boot(t.Context(), vm.Machine{Name: "dut", Kernel: file, Initramfs: file,
			VCPUs: 1, MemoryBytes: 128 << 20})
		holds(t, err, "ctload-machine-dut-1", "already exists")
		if err := ours.Close(); err != nil {
			t.Errorf("its end: %v", err)
		}
		if _, err := host.DomainLookupByName("ctload-machine-dut-1"); err != nil {
			t.Errorf("somebody else's machine was removed: %v", err)
		}
		if err := host.Destroy(t.Context(), taken); err != nil {
			t.Error(err)
		}
	})
	t.Run("no such bridge", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "kernel")
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		lab := opened(t, Options{URIs: uris, DUT: small, Networks: []string{"br-none"},
			Accelerator: libvirt.TCG})
		_, err := lab.Boot(t.Context(), vm.Machine{
			Name: "dut", Kernel: file, Initramfs: file, VCPUs: 1, MemoryBytes: 128 << 20,
			Ports: []vm.Port{{Link: "client"}},
		})
		holds(t, err, "br-none")
	})
}

// opened opens a lab and closes it at the end of the test, when nothing must be left.
func opened(t *testing.T, options Options) *Lab {
	t.Helper()
	options.Journal, options.Tell = newJournal(t), func(note string) { t.Log(note) }
	if options.Run == "" {
		options.Run = "opened"
	}
	lab, err := Connect(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil && !errors.Is(err, libvirt.ErrDaemonGone) {
			t.Logf("close: %v", err)
		}
		if left := options.Journal.Left(); len(left) > 0 {
			t.Errorf("the journal still holds %v", left)
		}
	})
	return lab
}

// older stands between a client and a daemon and reports an older libvirt version: it returns the
// path of its socket. It changes the answer to REMOTE_PROC_CONNECT_GET_LIB_VERSION, a number of 64
// bits.
func older(t *testing.T, daemon string, version uint64) string {
	t.Helper()
	const procLibVersion, procedureAt, header = 157, 12, 28
	path := filepath.Join(t.TempDir(), "sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	serve := func(client net.Conn) error {
		defer client.Close()
		server, err := net.Dial("unix", daemon)
		if err != nil {
			return err
		}
		defer server.Close()
		go func() { _, _ = io.Copy(server, client) }()
		for {
			packet := make([]byte, 4)
			if _, err := io.ReadFull(server, packet); err != nil {
				return nil
			}
			packet = append(packet, make([]byte, binary.BigEndian.Uint32(packet)-4)...)
			if _, err := io.ReadFull(server, packet[4:]); err != nil {
				return fmt.Errorf("half a packet: %w", err)
			}
			if binary.BigEndian.Uint32(packet[procedureAt:]) == procLibVersion &&
				len(packet) == header+8 {
				binary.BigEndian.PutUint64(packet[header:], version)
			}
			if _, err := client.Write(packet); err != nil {
				return nil
			}
		}
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				if err := serve(client); err != nil {
					t.Errorf("the older daemon: %v", err)
				}
			}()
		}
	}()
	return path
}
