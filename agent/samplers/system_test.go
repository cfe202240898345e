package samplers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
	"github.com/ctload/ctload/results"
)

// TestSystemCountsLosses causes each kind of loss and finds it, and no other, in the figures.
func TestSystemCountsLosses(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		s, err := New(Options{KernelLog: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		first, err := s.FullSample(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if first.System == nil || len(first.System.Problems) > 0 {
			t.Fatalf("%+v", first.System)
		}
		if first.System.MemoryAvailable <= 0 ||
			first.System.MemoryTotal < first.System.MemoryAvailable ||
			first.System.SlabUnreclaimable <= 0 || first.System.CPU.Count < 1 {
			t.Errorf("%+v", first.System)
		}
		losses := func() results.NetCounters {
			t.Helper()
			s, err := s.FullSample(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s.System.Network
		}
		before := losses()
		flows(t, 40)
		lost := func(what string, want func(n results.NetCounters) bool) {
			t.Helper()
			comes(t, func() string {
				if n := losses().Since(before); !want(n) {
					return fmt.Sprintf("%s: %+v", what, n)
				}
				return ""
			})
		}
		lost("40 datagrams to closed ports",
			func(n results.NetCounters) bool { return n.UDPNoPorts == 40 })
		before = losses()
		for range 7 {
			if conn, err := net.Dial("tcp4", "127.0.0.1:9"); err == nil {
				conn.Close()
				t.Fatal("the port is open")
			}
		}
		lost("7 SYNs to a closed port", func(n results.NetCounters) bool {
			return n.OutRsts == 7 && n.TCPAttemptFails == 7 && n.ListenDrops == 0
		})
		before = losses()
		overflow(t)
		lost("a full accept queue",
			func(n results.NetCounters) bool {
				return n.ListenOverflows > 0 &&
					n.ListenDrops >= n.ListenOverflows
			})
	})
}

// overflow fills the accept queue of a listener that accepts nothing.
func overflow(t *testing.T) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	address := &syscall.SockaddrInet4{Port: 4242, Addr: [4]byte{127, 0, 0, 1}}
	if err := syscall.Bind(fd, address); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	dialer := net.Dialer{Timeout: 300 * time.Millisecond}
	for range 6 {
		if conn, err := dialer.Dial("tcp4", "127.0.0.1:4242"); err == nil {
			defer conn.Close()
		}
	}
}

func TestSystemCountsQueueDrops(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		s, err := New(Options{KernelLog: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if out, err := exec.CommandContext(t.Context(), hosttest.Program(t, "tc"), "qdisc", "add",
			"dev", "lo", "root", "tbf", "rate", "8bit", "burst", "200", "limit",
			"200").CombinedOutput(); err != nil {
			hosttest.Skip(t, "this kernel has no token bucket filter: %v: %s", err, out)
		}
		s.Mark()
		flows(t, 100)
		sample, err := s.FullSample(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lo := sample.System.Links[0]
		if lo.Name != "lo" || lo.QdiscDropped < 50 || lo.QdiscDropped > 100 {
			t.Errorf("%+v after 100 datagrams into a queue of 200 bytes", lo)
		}
		s.Mark()
		if sample, err = s.FullSample(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lo := sample.System.Links[0]; lo.QdiscDropped != 0 || lo.RxPackets != 0 {
			t.Errorf("%+v after the mark", lo)
		}
		// tc prints the same count.
		text := tool(t, "tc", "-s", "qdisc", "show", "dev", "lo")
		if !strings.Contains(text, "dropped") {
			t.Errorf("tc: %s", text)
		}
	})
}

func TestSystemIsTimed(t *testing.T) {
	proc := newFakeProc(t)
	s, err := New(Options{Proc: proc.root, Sys: proc.root, KernelLog: "none"})
	if err != nil {
		t.Fatal(err)
	}
	s.every = time.Hour
	defer s.Close()
	for i, want := range []bool{true, false, false} {
		if sample := sampleOf(t, s); (sample.System != nil) != want {
			t.Errorf("sample %d: system %+v", i, sample.System)
		}
	}
	full, err := s.FullSample(t.Context())
	if err != nil || full.System == nil || len(full.System.Problems) == 0 {
		t.Errorf("%+v, %v", full.System, err)
	}
}

func TestLinksSince(t *testing.T) {
	base := []LinkLoss{{Name: "eth0", RxDropped: 5, QdiscDropped: 1<<32 - 1,
		qdiscDropped: 1<<32 - 1}}
	now := []LinkLoss{{Name: "lo", TxDropped: 3}, {Name: "eth0", RxDropped: 7, QdiscDropped: 4,
		qdiscDropped: 4, QueueLength: 9}}
	want := []LinkLoss{{Name: "lo", TxDropped: 3}, {Name: "eth0", RxDropped: 2, QdiscDropped: 5,
		qdiscDropped: 4, QueueLength: 9}}
	if diff := cmp.Diff(want, linksSince(now, base), cmp.AllowUnexported(LinkLoss{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestExpectations reads from the namespace's counters the expectations that helpers made and
// removed.
func TestExpectations(t *testing.T) {
	proc := newFakeProc(t)
	s := proc.sampler()
	if got := s.counters.expectations(false); got != 0 {
		t.Errorf("%d without connection tracking", got)
	}
	text, err := os.ReadFile(filepath.Join("testdata", "nf_conntrack-4.19"))
	if err != nil {
		t.Fatal(err)
	}
	proc.write("net/stat/nf_conntrack", string(text))
	if got := s.counters.expectations(false); got != 0 {
		t.Errorf("%d after one made and one removed on another CPU", got)
	}
}
