package samplers

import (
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/ti-mo/conntrack"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/hosttest"
)

// namespaceVariable tells benchmarks that they run in their own namespaces.
const namespaceVariable = "CTLOAD_BENCH_NAMESPACE"

// TestMain runs benchmarks in namespaces of their own, as netnstest does tests.
func TestMain(m *testing.M) {
	flag.Parse()
	bench := flag.Lookup("test.bench").Value.String() != ""
	if !bench || os.Getenv(namespaceVariable) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), namespaceVariable+"=benchmark")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks in a namespace:", err)
		os.Exit(1)
	}
}

// fill puts n entries into the table of this namespace.
func fill(b *testing.B, n int) {
	b.Helper()
	conn, err := conntrack.Dial(nil)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	have, err := readTable(tableFiles("/proc"))
	if err != nil {
		b.Fatal(err)
	}
	for i := int(have.Count); i < n; i++ {
		source := netip.AddrFrom4([4]byte{10, byte(i >> 24), byte(i >> 16), 1})
		flow := conntrack.NewFlow(17, 0, source, netip.AddrFrom4([4]byte{10, 255, 0, 1}), uint16(i),
			53, 3600, 0)
		if err := conn.Create(flow); err != nil {
			b.Fatalf("entry %d: %v", i, err)
		}
	}
}

// cpuTime returns the processor time that this process, or its children, have used.
func cpuTime(b *testing.B, who int) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(who, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkSample measures the cost of one sample over the size of the table, beside the ways that
// walk it. The metric %core@10Hz is the share of one CPU that ten a second take. It names and skips
// sizes over the machine's nf_conntrack_max, which a namespace cannot raise.
func BenchmarkSample(b *testing.B) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		b.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		b.Fatal(err)
	}
	table, err := readTable(tableFiles("/proc"))
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(Options{KernelLog: "none"})
	if err != nil {
		b.Fatal(err)
	}
	s.every = math.MaxInt64
	defer s.Close()
	hosttest.Need(b, "conntrack")
	shell := func(line string) func() error {
		return func() error { return exec.Command("sh", "-c", line).Run() }
	}
	for _, entries := range []int{1000, 100_000, 250_000, 1_000_000} {
		if int64(entries) > table.Max {
			b.Logf("%d entries: nf_conntrack_max of this machine is %d", entries, table.Max)
			continue
		}
		fill(b, entries)
		for _, way := range []struct {
			name string
			who  int
			do   func() error
		}{
			{"sample", unix.RUSAGE_SELF, func() error {
				_, err := s.Sample(b.Context())
				return err
			}},
			{"sample+system", unix.RUSAGE_SELF, func() error {
				_, err := s.FullSample(b.Context())
				return err
			}},
			{"StatsGlobal", unix.RUSAGE_SELF, func() error { _, err := hiddenTable(); return err }},
			{"Dump", unix.RUSAGE_SELF, func() error { _, err := s.Dump(b.Context()); return err }},
			{"conntrack -L | wc", unix.RUSAGE_CHILDREN, shell("conntrack -L 2>/dev/null | wc -l")},
			{"proc | wc", unix.RUSAGE_CHILDREN, shell("wc -l < /proc/net/nf_conntrack")},
		} {
			b.Run(fmt.Sprintf("entries=%d/%s", entries, way.name), func(b *testing.B) {
				before := cpuTime(b, way.who)
				for b.Loop() {
					if err := way.do(); err != nil {
						b.Fatal(err)
					}
				}
				each := float64(cpuTime(b, way.who)-before) / float64(b.N)
				b.ReportMetric(each, "cpu-ns/op")
				b.ReportMetric(each*10/float64(time.Second)*100, "%core@10Hz")
			})
		}
	}
}
