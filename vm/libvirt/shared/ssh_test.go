package shared

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/libvirt/libvirttest"
)

// sshServer accepts one key and runs commands in a hypervisor, as sshd would there.
type sshServer struct {
	t       *testing.T
	host    *libvirttest.Hypervisor
	own     string // the hypervisor's address, which sshd reports to its clients
	config  *ssh.ServerConfig
	key     string // path of the private key that the server accepts
	known   string // path of a known_hosts file
	address string
}

func newSSHServer(t *testing.T, h *libvirttest.Hypervisor, own string) *sshServer {
	t.Helper()
	hosttest.Need(t, "ssh")
	s := &sshServer{t: t, host: h, own: own}
	let, path := newKey(t)
	s.key = path
	hostKey, _ := newKey(t)
	s.config = &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata,
		key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(let.PublicKey().Marshal()) {
			return nil, errors.New("a stranger")
		}
		return &ssh.Permissions{}, nil
	}}
	s.config.AddHostKey(hostKey)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	s.address = listener.Addr().String()
	s.known = filepath.Join(t.TempDir(), "known_hosts")
	line := knownhosts.Line([]string{s.address}, hostKey.PublicKey()) + "\n"
	if err := os.WriteFile(s.known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

// newKey returns a key pair and the path of its private half.
func newKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return signer, path
}

// uri returns a URI of the hypervisor's daemon with a key and a file of known hosts.
func (s *sshServer) uri(key, known string) string {
	query := url.Values{"keyfile": {key}, "known_hosts": {known}}
	return "qemu+ssh://root@" + s.address + "/system?" + query.Encode()
}

func (s *sshServer) serve(conn net.Conn) {
	defer conn.Close()
	server, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	defer server.Close()
	go ssh.DiscardRequests(requests)
	for channel := range channels {
		if channel.ChannelType() != "session" {
			_ = channel.Reject(ssh.UnknownChannelType, "sessions alone")
			continue
		}
		session, requests, err := channel.Accept()
		if err != nil {
			return
		}
		go s.session(session, requests)
	}
}

// session runs one command.
func (s *sshServer) session(session ssh.Channel, requests <-chan *ssh.Request) {
	defer session.Close()
	for request := range requests {
		if request.Type != "exec" {
			_ = request.Reply(request.Type == "env", nil)
			continue
		}
		var exec struct{ Command string }
		if err := ssh.Unmarshal(request.Payload, &exec); err != nil {
			return
		}
		_ = request.Reply(true, nil)
		ctx, cancel := context.WithCancel(context.Background())
		cmd := s.host.Enter(ctx, "env", "SSH_CONNECTION=10.9.0.254 1 "+s.own+" 22", "sh", "-c",
			exec.Command)
		input, err := cmd.StdinPipe()
		if err != nil {
			s.t.Error(err)
		}
		go func() { _, _ = io.Copy(input, session); _ = input.Close() }()
		go func() { ssh.DiscardRequests(requests); cancel() }() // the client has gone
		cmd.Stdout, cmd.Stderr = session, session.Stderr()
		_ = cmd.Run()
		cancel()
		_, _ = session.SendRequest("exit-status", false,
			ssh.Marshal(struct{ Status uint32 }{uint32(max(0, cmd.ProcessState.ExitCode()))}))
		return
	}
}

// TestSSH connects to a daemon through ssh, with the right key and known_hosts and without.
func TestSSH(t *testing.T) {
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	h := libvirttest.Start(t, "ssh")
	s := newSSHServer(t, h, "127.0.0.1")
	dut := vm.Machine{Name: "dut", VCPUs: 1, MemoryBytes: 128 << 20}
	const limit = libvirt.CallLimit - 5*time.Second // not by the time limit of a call
	lab := opened(t, Options{URIs: []string{s.uri(s.key, s.known)}, DUT: dut})
	if _, err := lab.hosts[0].network(t.Context(), "client", 0); err != nil {
		t.Error(err)
	}
	if err := lab.Close(); err != nil {
		t.Error(err)
	}
	_, stranger := newKey(t)
	refused(t, Options{URIs: []string{s.uri(stranger, s.known)}}, limit,
		"Permission denied (publickey)")
	empty := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, Options{URIs: []string{s.uri(s.key, empty)}}, limit, "Host key verification failed")
	h.KillDaemon()
	refused(t, Options{URIs: []string{s.uri(s.key, s.known)}}, limit, "libvirt-sock")
}

// TestVXLAN makes a link between two hypervisors that share only their management network, lets a
// client on one load a DUT on the other through it, and removes it, as gc would for a killed run.
func TestVXLAN(t *testing.T) {
	hosttest.NeedTime(t)
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	a, b := libvirttest.Start(t, "a"), libvirttest.Start(t, "b")
	libvirttest.Cable(t, "manage", "",
		libvirttest.End{Hypervisor: a, Address: "10.9.0.1/24"},
		libvirttest.End{Hypervisor: b, Address: "10.9.0.2/24"})
	overA, overB := newSSHServer(t, a, "10.9.0.1"), newSSHServer(t, b, "10.9.0.2")
	linksA, linksB := a.Links(), b.Links()
	made := newJournal(t)
	load := bootable(t)
	load.VCPUs, load.MemoryBytes = 1, 256<<20
	dut := load
	dut.Name, dut.Ports = "dut", []vm.Port{{Link: "client", Addresses: []string{"10.77.0.1/16"}}}
	lab, err := Connect(t.Context(), Options{
		URIs: []string{overA.uri(overA.key, overA.known), overB.uri(overB.key, overB.known)},
		Run:  "vxlan", Journal: made,
		DUT: dut, LoadNodes: []string{"client"}, Load: load,
		Tell: func(note string) { t.Log(note) },
	})
	if err != nil {
		t.Fatal(err)
	}
	node, err := lab.Boot(t.Context(), dut)
	if err != nil {
		t.Fatal(err)
	}
	client, err := lab.Join(t.Context(), vm.LoadNode{Name: "client",
		Port: vm.Port{Link: "client", Addresses: []string{"10.77.0.2/16"}}})
	if err != nil {
		t.Fatal(err)
	}
	if onA, onB := a.Machines(), b.Machines(); onA != 1 || onB != 1 {
		t.Errorf("%d machines on the first hypervisor and %d on the second", onA, onB)
	}
	err = node.Agent().Respond(t.Context(), responders.Spec{Kind: responders.HTTP,
		Ports: []uint16{80}, Body: 4096})
	if err != nil {
		t.Fatal(err)
	}
	// Answers of several frames each: the link would lose frames longer than the tunnel carries.
	result, err := client.Agent().Generate(t.Context(), generators.Spec{
		Kind: generators.HTTP, Target: "10.77.0.1", Ports: []uint16{80}, Count: 500,
		Concurrency: 10, Timeout: 10 * time.Second,
	}, nil)
	if err != nil || result.Completed != 500 {
		t.Errorf("%d of 500 completed: %v %v", result.Completed, result.Causes, err)
	}
	for _, guest := range []vm.Node{node, client} {
		mtu, err := guest.Agent().ReadFile(t.Context(), "/sys/class/net/eth0/mtu")
		if err != nil || strings.TrimSpace(mtu) != "1430" {
			t.Errorf("the MTU of %s is %q (%v)", guest.Name(), mtu, err)
		}
	}
	if err := errors.Join(client.Close(), node.Close()); err != nil {
		t.Error(err)
	}
	for i, h := range lab.hosts {
		if _, err := lab.links.card(t.Context(), h, "client"); err != nil {
			t.Fatal(err)
		}
		network, err := h.virt.NetworkLookupByName("ctload-vxlan-client")
		if err != nil {
			t.Fatal(err)
		}
		bridge, err := h.virt.NetworkGetBridgeName(network)
		if err != nil {
			t.Fatal(err)
		}
		side := []*libvirttest.Hypervisor{a, b}[i]
		mtu := strings.TrimSpace(side.Output("cat", "/sys/class/net/"+bridge+"/mtu"))
		if mtu != "1430" {
			t.Errorf("the bridge's MTU is %s", mtu)
		}
	}

	// As after a kill: the connections end, the objects stay.
	entries := made.Left()
	kinds := kindsOf(entries)
	all := []journal.Kind{journal.Network, journal.Pool, journal.Volume, vxlanDevice}
	if !slices.Equal(kinds, all) {
		t.Errorf("the journal has %v", entries)
	}
	removers := NewRemovers()
	t.Cleanup(func() { _ = removers.Close() })
	for _, e := range slices.Backward(entries) {
		if there, err := removers.Exists(t.Context(), journal.Run{}, e); err != nil || !there {
			t.Errorf("%v is not there: %v", e, err)
		}
		if err := removers.Remove(t.Context(), journal.Run{}, e); err != nil {
			t.Error(err)
		}
		if there, err := removers.Exists(t.Context(), journal.Run{}, e); err != nil || there {
			t.Errorf("%v is still there: %v", e, err)
		}
	}
	if err := lab.Close(); err != nil {
		t.Error(err)
	}
	noLinksLeft(t, a, linksA)
	noLinksLeft(t, b, linksB)
}
