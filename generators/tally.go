package generators

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
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

	Result                    // what only the worker counts; the rest is filled in at the end
	first, last time.Duration // the last begin and the last end
	begun       time.Duration // when the worker began to work
	unsent      int64         // replies to answers that this host did not take
	lost        int64         // answers that found the own receive queue full
	portWaits   int64         // connections that waited for a free port

	cpu time.Duration // CPU time of the worker's thread
}

func newTally() *tally {
	return &tally{Result: Result{
		Causes:    make(map[string]int64),
		Statuses:  make(map[int]int64),
		Connect:   latency.New(),
		FirstByte: latency.New(),
		Total:     latency.New(),
		Lateness:  latency.New(),
		Pages: Pages{
			Waiting: latency.New(), Processing: latency.New(), Refused: latency.New(),
		},
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
func (t *tally) fail(now time.Duration, cause Cause) {
	t.failed.Add(1)
	t.Causes[string(cause)]++
	t.second(now).Failed++
	t.last = now
}

// result returns the tally as a part of a [Result].
func (t *tally) result() Result {
	r := t.Result
	r.Offered, r.Completed = t.offered.Load(), t.completed.Load()
	r.Failed, r.Broken = t.failed.Load(), t.broken.Load()
	r.Elapsed, r.Sending = max(t.first, t.last), t.first
	return r
}

// Usage counts what the generator itself used while it made the load, in its own network namespace.
type Usage struct {
	Workers    int     `json:"workers"`
	CPUSeconds float64 `json:"cpu_seconds"` // user and system time of the workers' threads
	Busy       float64 `json:"busy"`        // CPUSeconds divided by the workers' wall time

	Descriptors uint64 `json:"descriptors"` // the process's limit

	// ConntrackBefore and ConntrackPeak count the conntrack entries of this namespace; -1 where
	// they cannot be read. It should not grow: a loaded table may be the one that drops.
	ConntrackBefore int64 `json:"conntrack_before"`
	ConntrackPeak   int64 `json:"conntrack_peak"`

	// Retransmitted and SYNRetransmitted count retransmissions of this namespace's TCP, of all its
	// programs (SNMP RetransSegs and TCPSynRetrans): the client's evidence of lost packets.
	Retransmitted    int64 `json:"retransmitted"`
	SYNRetransmitted int64 `json:"syn_retransmitted"`

	// AnswersLost counts frames that found the own receive queue full. RepliesUnsent counts ACKs
	// and other replies that this host did not take (crafted packets only).
	AnswersLost   int64 `json:"answers_lost,omitempty"`
	RepliesUnsent int64 `json:"replies_unsent,omitempty"`

	// PortWaits counts the connections of a closed loop that waited for a free source port.
	PortWaits int64 `json:"port_waits,omitempty"`
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
	u.PortWaits += other.PortWaits
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
	limit         uint64 // of the process's descriptors
	before        Usage  // the counters before the load
	peak          int64  // entries of the own table; -1 without connection tracking
}

// startWatch opens the files, on a thread in the namespace.
func startWatch(needed uint64) (*watch, error) {
	limit, err := sockets.RaiseDescriptors(needed)
	if err != nil {
		return nil, err
	}
	w := &watch{peak: -1, limit: limit}
	if err = w.open(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// begin reads the counters before the load.
func (w *watch) begin() (err error) {
	w.before, err = w.read()
	w.before.ConntrackBefore = w.peak
	return err
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

// finish takes the last sample and returns what it shows of the load.
func (w *watch) finish() (Usage, error) {
	u, err := w.read()
	u.Retransmitted -= w.before.Retransmitted
	u.SYNRetransmitted -= w.before.SYNRetransmitted
	u.Descriptors, u.ConntrackBefore = w.limit, w.before.ConntrackBefore
	u.ConntrackPeak = w.peak
	return u, err
}

// read takes a sample, and reads how many segments and SYNs this namespace's TCP has sent again.
func (w *watch) read() (u Usage, err error) {
	if err = w.sample(); err == nil {
		u.Retransmitted, err = netCounter(w.snmp, "Tcp", "RetransSegs")
	}
	if err == nil {
		u.SYNRetransmitted, err = netCounter(w.netstat, "TcpExt", "TCPSynRetrans")
	}
	return u, err
}

// readAgain reads a file of /proc from its start.
func readAgain(f *os.File) (string, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		err = fmt.Errorf("reading %s: %w", f.Name(), err)
	}
	return string(data), err
}

// conntrackCountFile holds the number of conntrack entries in the opener's network namespace.
const conntrackCountFile = "/proc/sys/net/netfilter/nf_conntrack_count"

// netCounter reads one counter of /proc/net/snmp or /proc/net/netstat; 0 where the kernel does not
// have it.
func netCounter(f *os.File, group, name string) (int64, error) {
	text, err := readAgain(f)
	return parseNetCounter(text, group, name), err
}

// parseNetCounter finds a counter in pairs of lines, the first of which names the columns of the
// second.
func parseNetCounter(text, group, name string) int64 {
	column := -1
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != group+":" {
			continue
		}
		if column > 0 && column < len(fields) {
			n, _ := strconv.ParseInt(fields[column], 10, 64) // the kernel writes only numbers
			return n
		}
		column = slices.Index(fields, name)
	}
	return 0
}
