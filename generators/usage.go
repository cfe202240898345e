package generators

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what the generator itself used while it made the load, in its own network namespace.
type Usage struct {
	Workers    int     `json:"workers"`
	CPUSeconds float64 `json:"cpu_seconds"` // user and system time of the workers' threads
	Busy       float64 `json:"busy"`        // CPUSeconds by the workers' wall time

	Descriptors uint64 `json:"descriptors"` // the process's limit

	// Conntrack entries of this namespace, -1 where it cannot be read. A generator's own table
	// should not grow: then it is loaded as well, and may be the one that drops.
	ConntrackBefore int64 `json:"conntrack_before"`
	ConntrackPeak   int64 `json:"conntrack_peak"`

	// Retransmissions of this namespace's TCP, as its kernel counts them (SNMP RetransSegs and
	// TCPSynRetrans), others' in the same namespace included: the client's evidence of lost packets.
	Retransmitted    int64 `json:"retransmitted"`
	SYNRetransmitted int64 `json:"syn_retransmitted"`

	// AnswersLost are frames that found the own receive queue full, RepliesUnsent ACKs and the like
	// that this host did not take (crafted packets only).
	AnswersLost   int64 `json:"answers_lost,omitempty"`
	RepliesUnsent int64 `json:"replies_unsent,omitempty"`
}

func (u *Usage) add(other Usage) {
	if u.Workers == 0 {
		*u = other
		return
	}
	wall := other.wall() + u.wall()
	u.Workers += other.Workers
	u.CPUSeconds += other.CPUSeconds
	u.Busy = 0
	if wall > 0 {
		u.Busy = u.CPUSeconds / wall
	}
	u.Descriptors = min(u.Descriptors, other.Descriptors)
	u.ConntrackBefore = max(u.ConntrackBefore, other.ConntrackBefore)
	u.ConntrackPeak = max(u.ConntrackPeak, other.ConntrackPeak)
	u.Retransmitted += other.Retransmitted
	u.SYNRetransmitted += other.SYNRetransmitted
	u.AnswersLost += other.AnswersLost
	u.RepliesUnsent += other.RepliesUnsent
}

// wall is the wall time of all workers together.
func (u Usage) wall() float64 {
	if u.Busy <= 0 {
		return 0
	}
	return u.CPUSeconds / u.Busy
}

// cpuTime is the time that a thread spent on a CPU.
type cpuTime time.Duration

// threadCPU is what the calling thread has used so far.
func threadCPU() (cpuTime, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, fmt.Errorf("reading the thread's CPU time: %w", err)
	}
	return cpuTime(ts.Nano()), nil
}

// watch follows the generator's own namespace. Its methods must be called on one thread, inside
// that namespace.
type watch struct {
	before       netCounters
	conntrack    int64 // before
	peak         int64
	tracking     bool
	descriptors  uint64
	neededOpen   uint64
	raisedToNeed bool
}

func startWatch(needed uint64) (*watch, error) {
	limit, err := raiseDescriptors(needed)
	if err != nil {
		return nil, err
	}
	w := &watch{descriptors: limit, neededOpen: needed, raisedToNeed: limit >= needed, conntrack: -1, peak: -1}
	if w.before, err = readNetCounters(); err != nil {
		return nil, err
	}
	w.conntrack, w.tracking, err = conntrackCount()
	if err != nil {
		return nil, err
	}
	w.peak = w.conntrack
	return w, nil
}

// sample notes the size of the own table.
func (w *watch) sample() error {
	if !w.tracking {
		return nil
	}
	n, _, err := conntrackCount()
	w.peak = max(w.peak, n)
	return err
}

// finish fills in usage.
func (w *watch) finish(u *Usage) error {
	if err := w.sample(); err != nil {
		return err
	}
	after, err := readNetCounters()
	if err != nil {
		return err
	}
	u.Descriptors = w.descriptors
	u.ConntrackBefore, u.ConntrackPeak = w.conntrack, w.peak
	u.Retransmitted = after.retransmitted - w.before.retransmitted
	u.SYNRetransmitted = after.synRetransmitted - w.before.synRetransmitted
	return nil
}

// raiseDescriptors raises this process's limit of open files to needed where it may, and returns
// the limit that then holds. It never lowers it.
func raiseDescriptors(needed uint64) (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading the limit of open files: %w", err)
	}
	if limit.Cur >= needed {
		return limit.Cur, nil
	}
	// Beyond the hard limit needs CAP_SYS_RESOURCE in the initial user namespace; else up to it.
	for _, want := range []unix.Rlimit{
		{Cur: needed, Max: max(needed, limit.Max)},
		{Cur: min(needed, limit.Max), Max: limit.Max},
	} {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
			return want.Cur, nil
		}
	}
	return limit.Cur, nil
}

// conntrackCount is the number of conntrack entries in the calling thread's network namespace;
// false when this kernel has no connection tracking.
func conntrackCount() (int64, bool, error) {
	data, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if errors.Is(err, fs.ErrNotExist) {
		return -1, false, nil
	}
	if err != nil {
		return -1, false, fmt.Errorf("reading the own conntrack count: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return -1, false, fmt.Errorf("reading the own conntrack count: %w", err)
	}
	return n, true, nil
}

// netCounters are the counters of the calling thread's network namespace that tell of lost packets.
type netCounters struct {
	retransmitted, synRetransmitted int64
}

func readNetCounters() (netCounters, error) {
	var c netCounters
	for file, fields := range map[string]map[string]*int64{
		"snmp":    {"Tcp RetransSegs": &c.retransmitted},
		"netstat": {"TcpExt TCPSynRetrans": &c.synRetransmitted},
	} {
		data, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil {
			return c, fmt.Errorf("reading the own network counters: %w", err)
		}
		for name, value := range parseNetCounters(string(data)) {
			if to, ok := fields[name]; ok {
				*to = value
			}
		}
	}
	return c, nil
}

// parseNetCounters reads the format of /proc/net/snmp and /proc/net/netstat: pairs of lines, the
// first of which names the columns of the second. The keys are "Tcp RetransSegs" and so on.
func parseNetCounters(text string) map[string]int64 {
	counters := make(map[string]int64)
	var names []string
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		group, rest, ok := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(rest)
		if !ok {
			continue
		}
		if len(names) == 0 || names[0] != group {
			names = append([]string{group}, fields...)
			continue
		}
		for i, field := range fields {
			if n, err := strconv.ParseInt(field, 10, 64); err == nil && i+1 < len(names) {
				counters[group+" "+names[i+1]] = n
			}
		}
		names = nil
	}
	return counters
}
