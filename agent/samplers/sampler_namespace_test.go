package samplers

import (
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ti-mo/conntrack"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
)

// track turns connection tracking on with a real rule.
func track(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), hosttest.Program(t, "iptables-nft-restore"))
	cmd.Stdin = strings.NewReader("*filter\n-A INPUT -m state --state RELATED,ESTABLISHED -j " +
		"ACCEPT\nCOMMIT\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// flows sends one datagram to each of n ports of the loopback: n unreplied UDP flows.
func flows(t *testing.T, n int) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for port := range n {
		// A closed port answers with ICMP, which the socket reports on the next call: not a failure
		// here.
		_, _ = conn.WriteToUDP([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 20000 +
			port})
	}
}

// comes waits until wrong returns an empty text: the kernel may handle packets of the loopback a
// moment after they were sent, and a host may stand still for seconds.
func comes(t *testing.T, wrong func() string) {
	t.Helper()
	var text string
	if !hosttest.Poll(30*time.Second, func() bool { text = wrong(); return text == "" }) {
		t.Error(text)
	}
}

// tool runs a program and returns its output.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), hosttest.Program(t, name),
		args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestSamplerAgreesWithConntrack(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		s, err := New(Options{KernelLog: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		before, err := s.Sample(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		flows(t, 50)
		untracked, err := s.Sample(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !before.Loaded || before.Count != 0 || untracked.Count != 0 {
			t.Errorf("without a rule: before %+v, after 50 flows %+v; want a count of 0",
				before.Table, untracked.Table)
		}
		track(t)
		flows(t, 700)
		began := time.Now()
		sample, err := s.Sample(t.Context())
		most := time.Since(began)
		if err != nil {
			t.Fatal(err)
		}
		count, err := strconv.ParseInt(tool(t, "conntrack", "-C"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if sample.Count != count || count < 700 {
			t.Errorf("count %d, conntrack -C says %d", sample.Count, count)
		}
		if len(sample.Problems) > 0 || sample.Counters == nil || sample.Max == 0 ||
			sample.Buckets == 0 {
			t.Errorf("sample %+v", sample)
		}
		if sample.Monotonic < before.Monotonic || sample.Took <= 0 || sample.Took > most {
			t.Errorf("times %v, %v; took %v of %v", before.Monotonic, sample.Monotonic, sample.Took,
				most)
		}
	})
}

// TestBothSourcesAgree raises the counters that a test can raise and compares /proc, ctnetlink and
// conntrack -S, CPU by CPU.
func TestBothSourcesAgree(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		track(t)
		conn, err := conntrack.Dial(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for i := range 20 { // the counter insert counts entries made by netlink
			flow := conntrack.NewFlow(17, 0, addr("10.0.0.1"), addr("10.0.0.2"), uint16(1000+i), 53,
				60, 0)
			if err := conn.Create(flow); err != nil {
				t.Fatal(err)
			}
		}
		// TCP segments without a connection and with impossible flags count as invalid or error.
		tool(t, "sh", "-c", "command -v hping3 >/dev/null || exit 0; hping3 -q -c 5 -i u1000 "+
			"-SF -p 80 127.0.0.1 >/dev/null 2>&1 || true")

		s, err := New(Options{KernelLog: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		proc, err := s.counters.readStat()
		if err != nil {
			t.Fatal(err)
		}
		viaNetlink, err := askStats(statsMessage)
		if err != nil {
			t.Fatal(err)
		}
		if len(viaNetlink.cpus) != len(proc.cpus) {
			t.Fatalf("%d CPUs by netlink, %d in /proc", len(viaNetlink.cpus), len(proc.cpus))
		}
		sums := map[string]int64{}
		for i, c := range viaNetlink.cpus {
			if c.cpu != i {
				t.Errorf("CPU %d in place %d", c.cpu, i)
			}
			for stat, counter := range conntrackCounters {
				if c.values[stat] != proc.cpus[i].values[stat] {
					t.Errorf("CPU %d, %s: %d by netlink, %d in /proc", i, counter.Name,
						c.values[stat], proc.cpus[i].values[stat])
				}
				sums[counter.Name] += int64(c.values[stat])
			}
			sums["insert"] += int64(c.values[statInsert])
		}
		if sums["insert"] != 20 {
			t.Errorf("insert %d after 20 entries by netlink", sums["insert"])
		}
		// conntrack -S prints name=value for each CPU; old versions lack some names, none has
		// another value.
		said := map[string]int64{}
		for word := range strings.FieldsSeq(tool(t, "conntrack", "-S")) {
			name, value, ok := strings.Cut(word, "=")
			if n, err := strconv.ParseInt(value, 10, 64); ok && err == nil && name != "cpu" {
				said[name] += n
			}
		}
		for theirs, ours := range map[string]string{
			"found": "found", "invalid": "invalid", "insert": "insert",
			"insert_failed": "insert_failed", "drop": "drop",
			"early_drop": "early_drop", "error": "error", "search_restart": "search_restart",
			"clash_resolve": "clash_resolve",
			"chaintoolong":  "chain_toolong",
		} {
			if n, ok := said[theirs]; ok && n != sums[ours] {
				t.Errorf("%s: conntrack -S says %d, we %d", ours, n, sums[ours])
			}
		}
		if len(said) < 8 {
			t.Errorf("conntrack -S named only %v", said)
		}
	})
}

// TestStatsGlobalAnswers guards the version of mdlayher/netlink in go.mod: from 1.10 on the call
// never returns. One answer within 2 s out of three suffices, since a busy host may delay one.
func TestStatsGlobalAnswers(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		track(t)
		flows(t, 5)
		type answer struct {
			table Table
			err   error
		}
		for range 3 {
			answers := make(chan answer, 1)
			go func() {
				table, err := hiddenTable()
				answers <- answer{table, err}
			}()
			select {
			case a := <-answers:
				if a.err != nil || a.table.Count < 5 || a.table.Max <= 0 {
					t.Errorf("%+v, %v", a.table, a.err)
				}
				return
			case <-time.After(2 * time.Second):
			}
		}
		t.Fatal("conntrack.StatsGlobal did not answer within 2 s, three times: which version of " +
			"mdlayher/netlink is in go.mod?")
	})
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestSamplerWithoutProc removes the file that the counters come from first: ctnetlink must give
// the same.
func TestSamplerWithoutProc(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		track(t)
		s, err := New(Options{KernelLog: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.counters.stat.close(); err != nil {
			t.Fatal(err)
		}
		s.counters.stat.path = "/nonexistent"
		s.Mark()
		flows(t, 20)
		sample, err := s.FullSample(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(sample.Problems) > 0 || sample.Counters == nil ||
			s.counters.source != sourceNetlink {
			t.Errorf("%+v from %q", sample, s.counters.source)
		}
		if sample.System.Expectations != 0 || sample.Count < 20 {
			t.Errorf("%d entries, %d expectations", sample.Count, sample.System.Expectations)
		}
	})
}

// TestTCPFlows opens real connections and finds them in the table, first established, then in
// TIME_WAIT.
func TestTCPFlows(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		track(t)
		s, err := New(Options{KernelLog: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		const n = 25
		var ends []net.Conn
		for range n {
			client, err := net.Dial("tcp4", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			server, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, client, server)
		}
		expect := func(state string) {
			t.Helper()
			want := []StateCount{{Protocol: "tcp", State: state, Entries: n, Assured: n}}
			comes(t, func() string { // the last segments may still be on their way
				dump, err := s.Dump(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return cmp.Diff(want, dump.States)
			})
			sample, err := s.Sample(t.Context())
			if err != nil || sample.Count != n || strconv.FormatInt(sample.Count, 10) != tool(t,
				"conntrack", "-C") {
				t.Errorf("count %d, %v", sample.Count, err)
			}
		}
		expect("ESTABLISHED")
		for _, end := range ends {
			if err := end.Close(); err != nil {
				t.Fatal(err)
			}
		}
		expect("TIME_WAIT")
	})
}

// TestRealExpectation lets a helper make an expectation and finds it among the counters.
func TestRealExpectation(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), hosttest.Program(t, "nft"), "-f", "-")
		cmd.Stdin = strings.NewReader(`table ip x {
	ct helper ftp { type "ftp" protocol tcp; }
	chain out { type filter hook output priority filter; tcp dport 2121 ct helper set "ftp"; }
	chain pre { type filter hook prerouting priority filter; tcp dport 2121 ct helper set "ftp"; }
}`)
		if out, err := cmd.CombinedOutput(); err != nil {
			hosttest.Skip(t, "this kernel has no helper for ftp: %v: %s", err, out)
		}
		s, err := New(Options{KernelLog: "none"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		listener, err := net.Listen("tcp4", "127.0.0.1:2121")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		client, err := net.Dial("tcp4", "127.0.0.1:2121")
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if _, err := server.Write([]byte("220 ready\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		// The helper accepts a command only where it has seen the end of the line before.
		for _, command := range []string{"USER x\r\n", "PORT 127,0,0,1,200,10\r\n"} {
			if _, err := client.Write([]byte(command)); err != nil {
				t.Fatal(err)
			}
			if _, err := server.Read(make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
		}
		for _, source := range []string{sourceProcfs, sourceNetlink} {
			if source == sourceNetlink {
				if err := s.counters.stat.close(); err != nil {
					t.Fatal(err)
				}
				s.counters.stat.path = "/nonexistent"
				s.Mark()
			}
			sample, err := s.FullSample(t.Context())
			if err != nil || sample.System.Expectations != 1 || s.counters.source != source {
				t.Errorf("through %s: %d expectations, want 1 (%v)", source,
					sample.System.Expectations, err)
			}
		}
		if said := tool(t, "conntrack", "-L", "expect"); !strings.Contains(said, "dport=51210") {
			t.Errorf("conntrack -L expect: %s", said)
		}
	})
}
