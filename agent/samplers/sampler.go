// Package samplers reads the kernel under load: the fill of the connection-tracking table and its
// counters, the kernel log, and other causes of a failed connection.
//
// Sampling never walks the table: a sample costs the same at a thousand entries and at a million.
// Reading changes as little as possible: it does not load nf_conntrack, so that a guest without
// connection tracking stays without it, and it opens no listener for events, since the kernel then
// keeps more for each entry. [Sampler.Dump] walks the table; call it after the load.
//
// The source of each figure, the oldest kernel that has it, and the result without:
//
//	count, max, buckets    /proc/sys/net/netfilter, any kernel; hidden from an ordinary user's
//	                       namespace before 5.7: then ctnetlink (max since 4.18), without buckets
//	counters               /proc/net/stat/nf_conntrack (CONFIG_NF_CONNTRACK_PROCFS: Debian yes,
//	                       Ubuntu no), else ctnetlink (CAP_NET_ADMIN); search_restart since
//	                       2.6.35, clash_resolve since 5.10, chain_toolong since 5.15, 0 before
//	expectations           the same
//	kernel log             /dev/kmsg, 3.5; CAP_SYSLOG where kernel.dmesg_restrict is 1; else
//	                       Sample.Log is nil
//	time, memory, losses   /proc/stat, /proc/meminfo (available memory since 3.14), /proc/net,
//	                       rtnetlink; no privilege
//	drops by reason        a program at the tracepoint kfree_skb, 5.17 with BTF; CAP_BPF and
//	                       CAP_PERFMON; else WatchDrops says why not
//	contents of the table  ctnetlink, else /proc/net/nf_conntrack (root)
//	memory of the entries  /proc/slabinfo (root); else an error that is ErrNoSlab
//
// The table's figures, counters and losses are those of the network namespace of the process; the
// kernel log, time, memory, slab and drops by reason are the machine's.
package samplers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/results"
)

// Options says how a sampler reads. The zero value suits a node.
type Options struct {
	// Proc and Sys are the mount points of procfs and sysfs; empty is /proc and /sys. The sampler
	// reads both through the network namespace of the process's main thread.
	Proc, Sys string
	// KernelLog is the device of the kernel log; empty is /dev/kmsg, "none" leaves it unread. The
	// log is the machine's, not the namespace's.
	KernelLog string
}

// Sample is the kernel's state at one instant.
type Sample struct {
	// Monotonic is CLOCK_MONOTONIC of the sampled machine, taken before the count was read;
	// Realtime is its CLOCK_REALTIME at the same instant.
	Monotonic time.Duration `json:"monotonic_ns"`
	Realtime  time.Time     `json:"realtime"`
	Took      time.Duration `json:"took_ns"` // time that the sample itself took
	// Missed is the number of samples that Run skipped so far, since the machine stood still.
	Missed int64 `json:"missed"`
	Table
	// Counters count from the last mark; nil when they cannot be read (see Problems). They stay
	// unchanged while connection tracking is not loaded.
	Counters *results.Counters `json:"counters,omitempty"`
	// Log is nil when the kernel log cannot be read.
	Log *LogCounts `json:"log,omitempty"`
	// Lines are the lines of the kernel log with a meaning since the last sample, without
	// table-full ones.
	Lines []LogLine `json:"lines,omitempty"`
	// System is nil in most samples: see systemInterval.
	System *System `json:"system,omitempty"`
	// Problems describe what could not be read, a sentence each.
	Problems []string `json:"problems,omitempty"`
}

// Sampler owns the descriptors of one machine's figures. It is safe for concurrent use.
type Sampler struct {
	options Options

	mu       sync.Mutex
	log      *kernelLog
	logError error
	table    procFiles
	counters *counterReader
	sums     accumulator
	marked   bool // sums has a baseline
	machine  *systemReader
	base     *System       // the machine's figures at the mark; nil until first needed
	every    time.Duration // between two readings of them
	systemAt time.Duration // of the latest, on the monotonic clock; 0 is never
}

// New opens the available sources and marks the baseline. An unreadable source is no error here:
// each sample reports it in Problems. The package's comment has the privilege of each source.
func New(options Options) (*Sampler, error) {
	options.Proc = cmp.Or(options.Proc, "/proc")
	options.Sys = cmp.Or(options.Sys, "/sys")
	options.KernelLog = cmp.Or(options.KernelLog, "/dev/kmsg")
	if _, err := os.Stat(filepath.Join(options.Proc, "net")); err != nil {
		return nil, fmt.Errorf("sampler: procfs is not mounted on %s: %w", options.Proc, err)
	}
	machine, err := newSystemReader(options.Proc)
	if err != nil {
		return nil, fmt.Errorf("sampler: %w", err)
	}
	s := &Sampler{
		options:  options,
		machine:  machine,
		every:    systemInterval,
		table:    tableFiles(options.Proc),
		counters: newCounterReader(options),
	}
	if options.KernelLog != "none" {
		s.log, s.logError = openKernelLog(options.KernelLog)
	}
	s.mark()
	return s, nil
}

// Mark makes now the baseline: counters, times and counts of log lines start at zero, and earlier
// log lines do not belong to the trial.
func (s *Sampler) Mark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark()
	base := s.machine.read()
	s.base = &base
}

// mark does all of Mark except reading the machine's figures, which a booting node does not need.
func (s *Sampler) mark() {
	if s.log != nil {
		s.logError = s.log.mark()
	}
	s.base, s.systemAt = nil, 0
	table, err := readTable(s.table)
	var reading *reading
	if err == nil {
		reading, err = s.counters.read(table.Loaded)
	}
	if err == nil || errors.Is(err, errNotLoaded) {
		s.sums.baseline(reading)
		s.marked = true
		return
	}
	// Unreadable at present: the first successful reading becomes the baseline, so that earlier
	// counts do not go to the trial.
	s.sums.baseline(nil)
	s.marked = false
}

// Sample reads one instant. It fails only when ctx has ended; Sample.Problems reports other
// failures.
func (s *Sampler) Sample(ctx context.Context) (Sample, error) {
	return s.sample(ctx, false)
}

// FullSample reads one instant, Sample.System included.
func (s *Sampler) FullSample(ctx context.Context) (Sample, error) {
	return s.sample(ctx, true)
}

func (s *Sampler) sample(ctx context.Context, full bool) (Sample, error) {
	if err := ctx.Err(); err != nil {
		return Sample{}, fmt.Errorf("sample: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var sample Sample
	problem := func(err error) { sample.Problems = append(sample.Problems, err.Error()) }

	started := Monotonic()
	sample.Monotonic, sample.Realtime = started, time.Now().Round(0)
	table, err := readTable(s.table)
	if err != nil {
		problem(err)
	}
	reading, err := s.counters.read(table.Loaded)
	switch {
	case err == nil:
		if !table.Loaded { // the parameters are hidden, the counters are not
			if table, err = hiddenTable(); err != nil {
				problem(err)
			}
		}
		if !s.marked {
			s.sums.baseline(reading)
			s.marked = true
		}
		s.sums.add(reading)
		counters := s.sums.counters()
		sample.Counters = &counters
	case errors.Is(err, errNotLoaded):
		s.sums.forget() // if it returns, its counters begin at zero
		counters := s.sums.counters()
		sample.Counters = &counters
	default:
		problem(err)
	}
	sample.Table = table
	s.readLog(&sample, problem)
	if full || s.systemAt == 0 || started-s.systemAt >= s.every {
		sample.System, s.systemAt = s.system(table.Loaded), started
	}
	sample.Took = Monotonic() - started
	return sample, nil
}

// Table reads only the size and the fill of the table.
func (s *Sampler) Table() (Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return readTable(s.table)
}

func (s *Sampler) readLog(sample *Sample, problem func(error)) {
	if s.log == nil {
		if s.logError != nil {
			problem(s.logError)
		}
		return
	}
	if err := s.log.drain(); err != nil {
		problem(err)
		return
	}
	counts := s.log.tally.counts
	sample.Log, sample.Lines, s.log.lines = &counts, s.log.lines, nil
}

// Run samples on an absolute schedule until ctx ends, which is no error. Sample.Missed counts
// samples whose time has passed; Run does not repeat them.
func (s *Sampler) Run(ctx context.Context, interval time.Duration, each func(Sample)) error {
	err := schedule(ctx, interval, func(missed int64) error {
		sample, err := s.Sample(ctx)
		if err == nil {
			sample.Missed = missed
			each(sample)
		}
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// TakeLog returns the records of the kernel log since the last call, the first time from the oldest
// that the kernel still holds, and the number of further ones that did not fit into memory.
func (s *Sampler) TakeLog() (records []Record, dropped int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return nil, 0, s.logError
	}
	if err := s.log.drain(); err != nil {
		return nil, 0, err
	}
	return s.log.takeRecords()
}

// Close closes the descriptors.
func (s *Sampler) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(s.table.close(), s.counters.stat.close(), s.machine.close())
	if s.log != nil {
		err = errors.Join(err, s.log.close())
		s.log = nil
	}
	return err
}

// Monotonic returns CLOCK_MONOTONIC.
func Monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // cannot fail on Linux
	}
	return time.Duration(t.Nano())
}

// schedule calls tick at start, start+interval, start+2*interval and so on, until ctx ends or tick
// fails. It skips ticks whose time has passed while one ran, or while the machine stood still;
// missed is their number so far.
func schedule(ctx context.Context, interval time.Duration, tick func(missed int64) error) error {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	var missed int64
	for k := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := tick(missed); err != nil {
			return err
		}
		k++
		// The present tick is late, not missed, while its own interval lasts.
		if behind := int64(time.Since(start)/interval) - k; behind > 0 {
			missed += behind
			k += behind
		}
		timer.Reset(time.Until(start.Add(time.Duration(k) * interval)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
