package samplers

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/ti-mo/conntrack"

	"github.com/ctload/ctload/agent/ctnetlink"
	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
	"github.com/ctload/ctload/results"
)

// TestDump fills a table with a known mixture and finds it again, through ctnetlink and through
// /proc.
func TestDump(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		conn, err := conntrack.Dial(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		create := func(n int, protocol uint8, state uint8, status conntrack.Status, source string) {
			t.Helper()
			for i := range n {
				target := addr("10.9.9.9")
				if addr(source).Is6() {
					target = addr("fd00::9")
				}
				flow := conntrack.NewFlow(protocol, status, addr(source), target,
					uint16(1000+i), uint16(1000+int(state)), 600, 0)
				if protocol == 6 {
					flow.ProtoInfo.TCP = &conntrack.ProtoInfoTCP{State: state}
				}
				if err := conn.Create(flow); err != nil {
					t.Fatal(err)
				}
			}
		}
		replied := conntrack.StatusConfirmed | conntrack.StatusSeenReply
		assured := replied | conntrack.StatusAssured
		create(300, 6, 3, assured, "10.0.0.1")
		create(200, 6, 7, assured, "10.0.0.2")
		create(100, 6, 1, 0, "10.0.0.1")
		create(50, 17, 0, 0, "10.0.0.3")
		create(40, 17, 1, replied, "fd00::1")
		create(30, 17, 2, assured, "fd00::1")
		want := Composition{
			Entries: 720, Assured: 530, Addresses: 4,
			States: []StateCount{
				{Protocol: "tcp", State: "ESTABLISHED", Entries: 300, Assured: 300},
				{Protocol: "tcp", State: "TIME_WAIT", Entries: 200, Assured: 200},
				{Protocol: "tcp", State: "SYN_SENT", Entries: 100},
				{Protocol: "udp", State: "REPLIED", Entries: 70, Assured: 30},
				{Protocol: "udp", State: "UNREPLIED", Entries: 50},
			},
			Sources: []results.SourceCount{
				{Address: "10.0.0.1", Entries: 400},
				{Address: "10.0.0.2", Entries: 200},
				{Address: "fd00::1", Entries: 70},
				{Address: "10.0.0.3", Entries: 50},
			},
			Flows: []results.FlowCount{
				{Protocol: "tcp", State: "ESTABLISHED", Destination: "10.9.9.9:1003", Entries: 300},
				{Protocol: "tcp", State: "TIME_WAIT", Destination: "10.9.9.9:1007", Entries: 200},
				{Protocol: "tcp", State: "SYN_SENT", Destination: "10.9.9.9:1001", Entries: 100},
				{Protocol: "udp", State: "UNREPLIED", Destination: "10.9.9.9:1000", Entries: 50},
				{Protocol: "udp", State: "REPLIED", Destination: "[fd00::9]:1001", Entries: 40},
				{Protocol: "udp", State: "REPLIED", Destination: "[fd00::9]:1002", Entries: 30},
			},
		}
		if said := tool(t, "conntrack", "-C"); said != "720" {
			t.Fatalf("conntrack -C says %s", said)
		}
		ignore := cmpopts.IgnoreFields(Composition{}, "Took", "Source")
		s, err := New(Options{KernelLog: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got, err := s.Dump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, ignore); diff != "" {
			t.Errorf("through ctnetlink (-want +got):\n%s", diff)
		}
		if got.Source != sourceNetlink || got.Took <= 0 {
			t.Errorf("source %q, took %v", got.Source, got.Took)
		}
		tally := newTableTally()
		if err := walkProc(t.Context(), "/proc/net/nf_conntrack", tally.add); err != nil {
			if !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
			// On some kernels an ordinary user's namespace cannot read it.
			t.Logf("/proc/net/nf_conntrack: %v", err)
		} else if diff := cmp.Diff(want, tally.composition(topAddresses), ignore); diff != "" {
			t.Errorf("through /proc (-want +got):\n%s", diff)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Dump(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
	})
}

func TestDumpWithoutConntrack(t *testing.T) {
	got, err := newFakeProc(t).sampler().Dump(t.Context())
	if err != nil || got.Entries != 0 || got.Source != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestWalkProc reads a captured listing.
func TestWalkProc(t *testing.T) {
	tally := newTableTally()
	err := walkProc(t.Context(), filepath.Join("testdata", "proc-nf_conntrack"), tally.add)
	if err != nil {
		t.Fatal(err)
	}
	want := Composition{
		Entries: 9, Assured: 4, Addresses: 6,
		States: []StateCount{
			{Protocol: "udp", State: "REPLIED", Entries: 2, Assured: 1},
			{Protocol: "99", State: "UNREPLIED", Entries: 1},
			{Protocol: "icmp", State: "REPLIED", Entries: 1},
			{Protocol: "sctp", State: "COOKIE_WAIT", Entries: 1},
			{Protocol: "tcp", State: "ESTABLISHED", Entries: 1, Assured: 1},
			{Protocol: "tcp", State: "REPLIED", Entries: 1, Assured: 1},
			{Protocol: "tcp", State: "TIME_WAIT", Entries: 1, Assured: 1},
			{Protocol: "udp", State: "UNREPLIED", Entries: 1},
		},
		Sources: []results.SourceCount{
			{Address: "10.0.0.1", Entries: 4}, {Address: "10.0.0.7", Entries: 1},
		},
		Flows: nil, // TestParseTableLine
	}
	got := tally.composition(2)
	if len(got.Flows) != 2 {
		t.Errorf("%+v", got.Flows)
	}
	got.Flows = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	proc := newFakeProc(t)
	proc.write("net/nf_conntrack", "nonsense\n")
	err = walkProc(t.Context(), filepath.Join(proc.root, "net/nf_conntrack"), tally.add)
	if !errors.Is(err, capture.ErrEntry) {
		t.Errorf("nonsense: %v", err)
	}
}

func TestHeavyHitters(t *testing.T) {
	h := newHeavyHitters[netip.Addr](64)
	random := rand.New(rand.NewPCG(1, 2))
	truth := map[netip.Addr]int64{}
	var total int64
	say := func(address netip.Addr) {
		h.add(address)
		truth[address]++
		total++
	}
	heavy := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	for range 20000 {
		n := random.Uint32()
		say(netip.AddrFrom4([4]byte{172, byte(n >> 16), byte(n >> 8), byte(n)}))
		for i := range 3 {
			if random.IntN(i+2) == 0 {
				say(heavy(i))
			}
		}
	}
	top := h.top(3, netip.Addr.Compare)
	for i, a := range top {
		want, got := truth[heavy(i)], h.count(a)
		bounded := got >= want && got-h.lowered <= want
		if a != heavy(i) || !bounded || h.lowered > total/64 {
			t.Errorf("place %d: %s %d, truly %d", i, a, got, want)
		}
	}
	if len(top) != 3 || len(h.counts) > 64 {
		t.Errorf("%d at the top, %d counts", len(top), len(h.counts))
	}
	if got := newHeavyHitters[netip.Addr](1).top(5, netip.Addr.Compare); len(got) != 0 {
		t.Errorf("%v of nothing", got)
	}
}

// TestParseTableLine reads both directions of an entry, and what NAT makes of them.
func TestParseTableLine(t *testing.T) {
	e, err := parseTableLine("ipv4     2 tcp      6 118 TIME_WAIT src=10.0.0.9 dst=10.0.0.1 " +
		"sport=4000 dport=80 src=10.1.0.2 dst=10.1.0.1 sport=8080 dport=40001 [ASSURED] use=2")
	if err != nil {
		t.Fatal(err)
	}
	want := ctnetlink.Tuple{
		Protocol: 6, Source: addr("10.0.0.9"), SourcePort: 4000, Destination: addr("10.0.0.1"),
		DestinationPort: 80,
	}
	answer := ctnetlink.Tuple{
		Source: addr("10.1.0.2"), SourcePort: 8080, Destination: addr("10.1.0.1"),
		DestinationPort: 40001,
	}
	if e.Tuple != want || e.Reply != answer {
		t.Errorf("%+v", e)
	}
	tally := newTableTally()
	tally.add(e)
	flows := []results.FlowCount{{
		Protocol: "tcp", State: "TIME_WAIT", Destination: "10.0.0.1:80", Leads: "10.1.0.2:8080",
		From: "10.1.0.1", Entries: 1,
	}}
	if diff := cmp.Diff(flows, tally.composition(1).Flows); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzParseTableLine(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "proc-nf_conntrack"))
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e, err := parseTableLine(line)
		if err == nil && (!e.Source.IsValid() || e.StateName() == "") {
			t.Errorf("%q: %+v", line, e)
		}
	})
}

func TestReadMemory(t *testing.T) {
	proc := newFakeProc(t)
	s := proc.sampler()
	if _, err := s.ReadMemory(); !errors.Is(err, ErrNoSlab) {
		t.Errorf("without a listing: %v", err)
	}
	for _, test := range []struct {
		file string
		want Memory
	}{
		{"slabinfo-6.1", Memory{EntryBytes: 256, Entries: 200016, SlabBytes: 12501 * 4096}},
		{"slabinfo-3.10", Memory{
			EntryBytes: 312, Entries: 1000 + 26, SlabBytes: (40*2 + 1*2) * 4096,
		}},
	} {
		test.want.HashBytes, test.want.Source = 4096*8, "/proc/slabinfo"
		text, err := os.ReadFile(filepath.Join("testdata", test.file))
		if err != nil {
			t.Fatal(err)
		}
		proc.write("slabinfo", string(text))
		proc.load(1, 0)
		got, err := s.ReadMemory()
		if err != nil {
			t.Errorf("%s: %v", test.file, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.file, diff)
		}
	}
	proc.write("slabinfo", "slabinfo - version: 2.1\n# name\n"+
		"nf_conntrack_expect 0 0 208 19 1 : tunables 0 0 0 : slabdata 0 0 0\n")
	if _, err := s.ReadMemory(); !errors.Is(err, ErrNoSlab) {
		t.Errorf("without the cache: %v", err)
	}
}

// TestEntrySize compares the running kernel's own slab with the known range.
func TestEntrySize(t *testing.T) {
	if os.Getuid() != 0 {
		hosttest.Skip(t, "/proc/slabinfo is for root")
	}
	s, err := New(Options{KernelLog: "none"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m, err := s.ReadMemory()
	if errors.Is(err, ErrNoSlab) {
		hosttest.Skip(t, "%v", err)
	}
	small := m.HashBytes < 8*1024 || m.SlabBytes < m.Entries*m.EntryBytes
	if err != nil || m.EntryBytes < 200 || m.EntryBytes > 512 || small {
		t.Errorf("%+v, %v", m, err)
	}
}
