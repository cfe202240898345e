package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/samplers"
)

// fewEntries is the small table of the row that measures how the cost of a reading grows with the
// table.
const fewEntries = 1000

// manyEntries returns the size of the large table where this host's nf_conntrack_max has room for
// it; elsewhere the size of the other rows' tables.
func manyEntries() int {
	const million = 1_000_000
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	limit, numberErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err == nil && numberErr == nil && limit > million {
		return million
	}
	return entries
}

// sampling measures the cost of reading a table ten times a second, as a DUT's agent does, beside
// the ways that walk the table.
func (l *lab) sampling() row {
	large := manyEntries()
	fill := func(n int, times string) command {
		return func(ctx context.Context) *exec.Cmd {
			return l.in(ctx, "router", generatorCPU, selfPath, "sample", strconv.Itoa(n), times)
		}
	}
	ours := func(n int) contender {
		name := fmt.Sprintf("ctload, %d entries", n)
		return contender{name, "", func(ctx context.Context) (float64, error) {
			return number(fill(n, "1000")(ctx))
		}}
	}
	walk := func(name, program, shell string) contender {
		return contender{name, program, func(ctx context.Context) (float64, error) {
			if _, err := output(fill(large, "1")(ctx)); err != nil {
				return 0, err
			}
			cmd := l.in(ctx, "router", generatorCPU, "sh", "-c", shell)
			if _, err := l.tool(cmd); err != nil {
				return 0, err
			}
			return share(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()), nil
		}}
	}
	few, many := ours(fewEntries), ours(large)
	return row{
		name: "sampling", unit: "% of a core",
		work: fmt.Sprintf("looking at a table ten times a second; the walks at %d entries", large),
		setup: func(context.Context) (func() error, error) {
			return func() error { return l.forget(context.Background()) }, nil
		},
		contenders: []contender{
			few, many,
			walk("conntrack -L | wc -l", "conntrack", "conntrack -L 2>/dev/null | wc -l"),
			walk("nf_conntrack | wc -l", "", "wc -l < /proc/net/nf_conntrack"),
		},
		wants: []want{
			{ours: many.name, most: 1},
			{ours: many.name, best: []string{few.name}, most: 1.3},
		},
	}
}

// share returns what ten readings a second of that cost take of a core, in percent.
func share(each time.Duration) float64 { return 100 * 10 * each.Seconds() }

// sample fills the table of its namespace with as many entries as its first argument says, reads it
// as often as the second one says, and prints what ten readings a second take of a core, in
// percent.
func sample(ctx context.Context, args []string, stdout io.Writer) (err error) {
	var want, times int
	if _, err := fmt.Sscan(strings.Join(args, " "), &want, &times); err != nil {
		return err
	}
	s, err := samplers.New(samplers.Options{KernelLog: "none"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := fill(s, want); err != nil {
		return err
	}
	before, err := used(unix.RUSAGE_SELF)
	if err != nil {
		return err
	}
	for i := range times {
		// As the agent does: every tenth reading includes the machine's other figures.
		look := s.Sample
		if i%10 == 0 {
			look = s.FullSample
		}
		if _, err := look(ctx); err != nil {
			return err
		}
	}
	after, err := used(unix.RUSAGE_SELF)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, share((after-before)/time.Duration(times)))
	return err
}

// fill makes the table hold that many entries, each of which takes this kernel some 25 µs.
func fill(s *samplers.Sampler, want int) (err error) {
	conn, err := conntrack.Dial(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	table, err := s.Table()
	if err != nil {
		return err
	}
	have := int(table.Count)
	if have > want {
		if err := conn.Flush(); err != nil {
			return err
		}
		have = 0
	}
	target := netip.AddrFrom4([4]byte{10, 255, 0, 1})
	for i := have; i < want; i++ {
		source := netip.AddrFrom4([4]byte{10, byte(i >> 24), byte(i >> 16), 1})
		flow := conntrack.NewFlow(unix.IPPROTO_UDP, 0, source, target, uint16(i), 53, 3600, 0)
		if err := conn.Create(flow); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

// used returns the CPU time of this process, or of the children that it has waited for.
func used(which int) (time.Duration, error) {
	usage, err := resources(which)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), err
}
