package generators

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ctload/ctload/generators/latency"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/generators/sockets"
)

// tally counts the work of one worker. Only its worker writes. Others may read the live counters
// meanwhile, everything else after the worker has ended.
type tally struct {
	offered, completed, failed, broken atomic.Int64
	answered                           atomic.Int64 // nanoseconds until the last answer to a probe

	Result      // what only the worker counts; the rest is filled in at the end
	causes      [len(causes)]int64
	first, last time.Duration // the last begin and the last end
	unsent      int64         // replies to answers that this host did not take
	lost        int64         // answers that found the own receive queue full

	cpu time.Duration // CPU time of the worker's thread
}

func newTally() *tally {
	return &tally{Result: Result{
		Statuses:  make(map[int]int64),
		Connect:   latency.New(),
		FirstByte: latency.New(),
		Total:     latency.New(),
		Lateness:  latency.New(),
	}}
}

// second returns the entry of the series for a time.
func (t *tally) second(now time.Duration) *Second {
	i := int(now / time.Second)
	for len(t.Series) <= i {
		t.Series = append(t.Series, Second{})
	}
	return &t.Series[i]
}

// offer counts those that began at now, and for paced ones their lateness.
func (t *tally) offer(now time.Duration, paced bool, intended ...time.Duration) {
	t.offered.Add(int64(len(intended)))
	t.second(now).Offered += int64(len(intended))
	t.first = now
	if !paced {
		return
	}
	for _, at := range intended {
		t.Lateness.Record(now - at)
		if now-at > pacing.LateAfter {
			t.Late++
		}
	}
}

// complete counts one that began at intended and succeeded at now.
func (t *tally) complete(intended, now time.Duration) {
	t.completed.Add(1)
	second := t.second(now)
	second.Completed++
	if second.Latency == nil {
		second.Latency = latency.NewCoarse()
	}
	second.Latency.Record(now - intended)
	t.Total.Record(now - intended)
	t.last = now
}

// accept counts n that completed when the kernel had taken them. They have no latency.
func (t *tally) accept(n int64, now time.Duration) {
	t.completed.Add(n)
	t.second(now).Completed += n
	t.last = now
}

// fail counts one that failed at now.
func (t *tally) fail(now time.Duration, cause causeNumber) {
	t.failed.Add(1)
	t.causes[cause]++
	t.second(now).Failed++
	t.last = now
}

// result returns the tally as a part of a [Result].
func (t *tally) result() Result {
	r := t.Result
	r.Offered, r.Completed = t.offered.Load(), t.completed.Load()
	r.Failed, r.Broken = t.failed.Load(), t.broken.Load()
	r.Elapsed, r.Sending = max(t.first, t.last), t.first
	r.Causes = make(map[string]int64)
	for i, n := range t.causes {
		if n > 0 {
			r.Causes[string(causes[i])] = n
		}
	}
	return r
}

// Usage counts what the generator itself used while it made the load, in its own network namespace.
type Usage struct {
	Workers    int     `json:"workers"`
	CPUSeconds float64 `json:"cpu_seconds"` // user and system time of the workers' threads
	Busy       float64 `json:"busy"`        // CPUSeconds divided by the workers' wall time

	Descriptors uint64 `json:"descriptors"` // the process's limit

	// ConntrackBefore and ConntrackPeak count the conntrack entries of this namespace; -1 where
	// they cannot be read. A generator's own table should not grow: a loaded table may be the one
	// that drops.
	ConntrackBefore int64 `json:"conntrack_before"`
	ConntrackPeak   int64 `json:"conntrack_peak"`

	// Retransmitted and SYNRetransmitted count retransmissions of this namespace's TCP, as its
	// kernel counts them (SNMP RetransSegs and TCPSynRetrans), with those of other programs in the
	// namespace: the client's evidence of lost packets.
	Retransmitted    int64 `json:"retransmitted"`
	SYNRetransmitted int64 `json:"syn_retransmitted"`

	// AnswersLost counts frames that found the own receive queue full. RepliesUnsent counts ACKs
	// and other replies that this host did not take (crafted packets only).
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

// wall returns the wall time, in seconds, of all workers together.
func (u Usage) wall() float64 {
	if u.Busy <= 0 {
		return 0
	}
	return u.CPUSeconds / u.Busy
}

// watch follows the generator's own namespace. It opens its files before the load begins, since the
// load may take the last descriptor.
type watch struct {
	count         *os.File // nil when this kernel has no connection tracking
	snmp, netstat *os.File
	before        netCounters
	conntrack     int64 // before the load; -1 without connection tracking
	peak          int64
	descriptors   uint64
}

// startWatch opens the files and reads the counters. The caller runs it on a thread in the
// namespace.
func startWatch(needed uint64) (*watch, error) {
	limit, err := sockets.RaiseDescriptors(needed)
	if err != nil {
		return nil, err
	}
	w := &watch{descriptors: limit, conntrack: -1, peak: -1}
	if err = w.open(); err == nil {
		w.before, err = w.counters()
	}
	if err == nil {
		err = w.sample()
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	w.conntrack = w.peak
	return w, nil
}

func (w *watch) open() (err error) {
	if w.snmp, err = os.Open("/proc/thread-self/net/snmp"); err == nil {
		w.netstat, err = os.Open("/proc/thread-self/net/netstat")
	}
	if err != nil {
		return fmt.Errorf("opening the own network counters: %w", err)
	}
	w.count, err = os.Open(conntrackCountFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening the own conntrack count: %w", err)
	}
	return nil
}

func (w *watch) close() error {
	var errs []error
	for _, f := range []*os.File{w.count, w.snmp, w.netstat} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// sample records the size of the own table.
func (w *watch) sample() error {
	if w.count == nil {
		return nil
	}
	text, err := readAgain(w.count)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return fmt.Errorf("reading the own conntrack count: %w", err)
	}
	w.peak = max(w.peak, n)
	return nil
}

// finish takes the last sample and fills in usage.
func (w *watch) finish(u *Usage) error {
	if err := w.sample(); err != nil {
		return err
	}
	after, err := w.counters()
	if err != nil {
		return err
	}
	u.Descriptors = w.descriptors
	u.ConntrackBefore, u.ConntrackPeak = w.conntrack, w.peak
	u.Retransmitted = after.retransmitted - w.before.retransmitted
	u.SYNRetransmitted = after.synRetransmitted - w.before.synRetransmitted
	return nil
}

// counters reads the counters that show lost packets.
func (w *watch) counters() (netCounters, error) {
	snmp, err := readAgain(w.snmp)
	if err != nil {
		return netCounters{}, err
	}
	netstat, err := readAgain(w.netstat)
	if err != nil {
		return netCounters{}, err
	}
	return netCounters{
		retransmitted:    parseNetCounters(snmp)["Tcp RetransSegs"],
		synRetransmitted: parseNetCounters(netstat)["TcpExt TCPSynRetrans"],
	}, nil
}

// netCounters holds the counters of a network namespace that show lost packets.
type netCounters struct{ retransmitted, synRetransmitted int64 }

// readAgain reads a file of /proc from its start.
func readAgain(f *os.File) (string, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", f.Name(), err)
	}
	return string(data), nil
}

// conntrackCountFile holds the number of conntrack entries in the network namespace of the opening
// process.
const conntrackCountFile = "/proc/sys/net/netfilter/nf_conntrack_count"

// parseNetCounters parses the format of /proc/net/snmp and /proc/net/netstat: pairs of lines, the
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
