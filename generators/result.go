package generators

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/latency"
	"github.com/ctload/ctload/generators/pacing"
)

// Progress counts what a running generator has done so far.
type Progress struct {
	Offered   int64 `json:"offered"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
	Broken    int64 `json:"broken,omitempty"` // see [Result]
	// Answered is the time that the last answered sample of a probe took; 0 for other kinds.
	Answered time.Duration `json:"answered,omitempty"`
	Open     int64         `json:"open"` // in flight or held
	Elapsed  time.Duration `json:"elapsed"`
}

// Result counts what a generator did. Offered = Completed + Failed, and Failed is the sum of
// Causes.
type Result struct {
	Kind      Kind   `json:"kind"`
	Unit      string `json:"unit"` // requests, connections, flows, packets
	Offered   int64  `json:"offered"`
	Completed int64  `json:"completed"`
	Failed    int64  `json:"failed"`
	// Broken counts those of Failed that were open and held.
	Broken   int64            `json:"broken,omitempty"`
	Causes   map[string]int64 `json:"causes,omitempty"`   // by [Cause]
	Statuses map[int]int64    `json:"statuses,omitempty"` // http responses by status
	Received int64            `json:"received"`           // bytes of payload from the target
	Sent     int64            `json:"sent"`               // bytes of payload to the target

	Target      string `json:"target"`
	Ports       string `json:"ports,omitempty"` // as [tuples.ParsePorts] reads them
	Path        string `json:"path,omitempty"`  // http only
	Concurrency int    `json:"concurrency,omitempty"`

	Started time.Time     `json:"started"`
	Begun   time.Duration `json:"begun"`   // from Started until the first thread began
	Elapsed time.Duration `json:"elapsed"` // from Started until the last one ended
	Sending time.Duration `json:"sending"` // from Started until the last one began

	// Connect, FirstByte and Total count from the intended start, in a closed loop from the actual
	// one. Connect holds every established connection, the others only completed ones.
	Connect   *latency.Histogram `json:"connect,omitempty"`
	FirstByte *latency.Histogram `json:"first_byte,omitempty"`
	Total     *latency.Histogram `json:"total,omitempty"`

	// Pages says what the answers to http requests were.
	Pages Pages `json:"pages,omitzero"`

	// Lateness holds how long after its intended time each send left (open loop only). Late counts
	// those that left more than [pacing.LateAfter] late. Missed counts the slots that were given up
	// because they were overdue by more than the slack; Offered leaves them out.
	Lateness *latency.Histogram `json:"lateness,omitempty"`
	Late     int64              `json:"late"`
	Missed   int64              `json:"missed"`
	// Widths tells how long bursts took.
	Widths pacing.Widths `json:"widths,omitzero"`

	Series []Second     `json:"series,omitempty"` // by second from Started
	Probe  []ProbePoint `json:"probe,omitempty"`  // samples of a probe, by At

	Tuples Tuples `json:"tuples"`
	Usage  Usage  `json:"usage"`
	// Limits are the generator's own limits that were hit: the load differs from the specified one,
	// and not because of the target.
	Limits []Limit `json:"limits,omitempty"`
	// Notes are remarks that do not invalidate the load.
	Notes []string `json:"notes,omitempty"`
}

// Limit is one of the generator's own limits that was hit; in JSON its String, such as
// "source-ports: 7 found none free for their destination".
type Limit struct {
	Code LimitCode
	Text string // which resource was short, how often
}

// LimitCode names a kind of [Limit].
type LimitCode string

// The limits that a generator detects in its own host.
const (
	LimitDescriptors LimitCode = "descriptors"  // the process's limit of open files
	LimitSourcePorts LimitCode = "source-ports" // no free port to a destination
	LimitMemory      LimitCode = "memory"       // this host's queues had no room
	LimitNetfilter   LimitCode = "netfilter"    // this host's rules or full table dropped packets
	LimitPackets     LimitCode = "packets"      // crafted packets or answers were lost on this host
	LimitConntrack   LimitCode = "conntrack"    // this host's own table was filled
	LimitPacing      LimitCode = "pacing"       // a part got less than the schedule's rate
	LimitRate        LimitCode = "rate"         // the same, since the workers' CPUs are too slow
	LimitTuples      LimitCode = "tuples"       // every tuple was used before the time was over
)

func (l Limit) String() string { return string(l.Code) + ": " + l.Text }

// MarshalText returns the limit as its String.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText parses what MarshalText wrote.
func (l *Limit) UnmarshalText(text []byte) error {
	code, rest, _ := strings.Cut(string(text), ": ")
	*l = Limit{LimitCode(code), rest}
	return nil
}

// Second counts one second of a load. An end counts in the second in which it happened.
type Second struct {
	Offered   int64 `json:"offered"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
	// Slots counts the slots of the schedule that were due in this second.
	pacing.Slots
	// Latency is Total of those completed, to two significant digits.
	Latency *latency.Histogram `json:"latency,omitempty"`
}

// ProbePoint is one sample of a probe.
type ProbePoint struct {
	At      time.Time     `json:"at"` // the intended time
	Latency time.Duration `json:"latency"`
	OK      bool          `json:"ok"`
	Cause   Cause         `json:"cause,omitempty"`
}

// Tuples says how much of its tuples a load used.
type Tuples struct {
	Size    uint64 `json:"size"` // how many exist; ports that the kernel chose do not count
	Used    uint64 `json:"used"`
	Wrapped bool   `json:"wrapped,omitempty"` // some tuples were used again
}

// share returns a part of a whole, 0 of an empty one.
func share(part, whole int64) float64 { return float64(part) / float64(max(whole, 1)) }

// LateShare returns the share of sends that left late, 0 to 1.
func (r Result) LateShare() float64 { return share(r.Late, r.Offered) }

// Rate returns how many completed each second, over Elapsed.
func (r Result) Rate() float64 { return perSecond(r.Completed, r.Elapsed) }

// OfferedRate returns how many began each second, over Sending.
func (r Result) OfferedRate() float64 { return perSecond(r.Offered, r.Sending) }

func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// Cause says why a request, connection or flow failed. Its strings are the keys of [Result.Causes].
type Cause string

// The causes.
const (
	Timeout     Cause = "timeout"     // nothing decisive within Spec.Timeout
	Reset       Cause = "reset"       // RST from the peer or a firewall, once established
	Refused     Cause = "refused"     // RST in answer to the SYN, or ICMP port unreachable
	Unreachable Cause = "unreachable" // ICMP says so, or no route or neighbour
	// EPERM means that this host's own netfilter (a rule, or a full table) dropped the packet.
	EPERM        Cause = "eperm"
	NoPort       Cause = "no-port"       // no free source port or address here
	NoDescriptor Cause = "no-descriptor" // the process or the host is out of descriptors
	NoBuffer     Cause = "no-buffer"     // this host had no memory or queue room for the packet
	// ClosedEarly means that the peer closed before its answer was complete, or while the
	// connection was held.
	ClosedEarly Cause = "closed-early"
	// BadResponse means not HTTP, an HTTP status of 400 or above, or unexpected bytes.
	BadResponse Cause = "bad-response"
	Cancelled   Cause = "cancelled" // unfinished when the context ended
	Other       Cause = "other"
)

// causeOf returns the cause for an errno. The kernel tells a refused connection from a reset one: a
// RST in state SYN_SENT gives ECONNREFUSED, a later one ECONNRESET or EPIPE.
func causeOf(errno unix.Errno) Cause {
	switch errno {
	case unix.ETIMEDOUT:
		return Timeout
	case unix.ECONNRESET, unix.EPIPE, unix.ECONNABORTED:
		return Reset
	case unix.ECONNREFUSED:
		return Refused
	case unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN, unix.EHOSTDOWN, unix.ENOPROTOOPT,
		unix.EPROTO:
		return Unreachable
	case unix.EPERM, unix.EACCES:
		return EPERM
	case unix.EADDRNOTAVAIL, unix.EADDRINUSE, unix.EAGAIN:
		return NoPort
	case unix.EMFILE, unix.ENFILE:
		return NoDescriptor
	case unix.ENOBUFS, unix.ENOMEM:
		return NoBuffer
	}
	return Other
}

// Merge adds the result of another generator of the same kind, on this node or another one:
// counters and histograms without loss, series by the second. The merged load lasts from the
// earlier start to the later end.
func (r *Result) Merge(other Result) {
	if other.Offered == 0 && other.Started.IsZero() {
		return
	}
	if r.Kind == "" {
		r.Kind, r.Unit = other.Kind, other.Unit
	}
	if r.Target == "" {
		r.Target, r.Ports, r.Path = other.Target, other.Ports, other.Path
	}
	r.Concurrency += other.Concurrency
	r.Offered += other.Offered
	r.Completed += other.Completed
	r.Failed += other.Failed
	r.Broken += other.Broken
	r.Received += other.Received
	r.Sent += other.Sent
	r.Late += other.Late
	r.Missed += other.Missed
	r.Begun = max(r.Begun, other.Begun)
	r.Widths.Bursts += other.Widths.Bursts
	r.Widths.Sum += other.Widths.Sum
	r.Widths.Longest = max(r.Widths.Longest, other.Widths.Longest)
	r.Causes = addCounts(r.Causes, other.Causes)
	r.Statuses = addCounts(r.Statuses, other.Statuses)
	r.mergeTime(other)
	r.Connect = mergeHistogram(r.Connect, other.Connect)
	r.FirstByte = mergeHistogram(r.FirstByte, other.FirstByte)
	r.Total = mergeHistogram(r.Total, other.Total)
	r.Lateness = mergeHistogram(r.Lateness, other.Lateness)
	r.Pages.merge(other.Pages)
	r.Probe = slices.Concat(r.Probe, other.Probe)
	slices.SortStableFunc(r.Probe, func(a, b ProbePoint) int { return a.At.Compare(b.At) })
	r.Tuples.Size += other.Tuples.Size
	r.Tuples.Used += other.Tuples.Used
	r.Tuples.Wrapped = r.Tuples.Wrapped || other.Tuples.Wrapped
	r.Usage.add(other.Usage)
	r.Limits = appendNew(r.Limits, other.Limits)
	r.Notes = appendNew(r.Notes, other.Notes)
}

// mergeTime lays other's time and series over r's.
func (r *Result) mergeTime(other Result) {
	if r.Started.IsZero() {
		r.Started = other.Started
	}
	start := r.Started
	if other.Started.IsZero() {
		other.Started = start
	} else if other.Started.Before(start) {
		start = other.Started
	}
	mine, theirs := r.Started.Sub(start), other.Started.Sub(start)
	r.Elapsed = max(mine+r.Elapsed, theirs+other.Elapsed)
	r.Sending = max(mine+r.Sending, theirs+other.Sending)
	r.Series = addSeries(addSeries(nil, r.Series, mine), other.Series, theirs)
	r.Started = start
}

// addSeries adds seconds to series, shifted to the nearest whole second.
func addSeries(series, seconds []Second, shift time.Duration) []Second {
	offset := int(shift.Round(time.Second) / time.Second)
	for i, s := range seconds {
		for len(series) <= offset+i {
			series = append(series, Second{})
		}
		sum := &series[offset+i]
		sum.Offered += s.Offered
		sum.Completed += s.Completed
		sum.Failed += s.Failed
		sum.Due += s.Due
		sum.Missed += s.Missed
		sum.Latency = mergeHistogram(sum.Latency, s.Latency)
	}
	return series
}

// mergeHistogram returns a new histogram of both, or nil when both are empty.
func mergeHistogram(a, b *latency.Histogram) *latency.Histogram {
	if a.Count() == 0 && b.Count() == 0 {
		return nil
	}
	sum := latency.New()
	if a.Coarse() || b.Coarse() {
		sum = latency.NewCoarse()
	}
	sum.Merge(a)
	sum.Merge(b)
	return sum
}

func addCounts[K comparable](a, b map[K]int64) map[K]int64 {
	if len(a)+len(b) == 0 {
		return nil
	}
	sum := make(map[K]int64, len(a)+len(b))
	maps.Copy(sum, a)
	for k, n := range b {
		sum[k] += n
	}
	return sum
}

func appendNew[T comparable](list, more []T) []T {
	known := func(s T) bool { return slices.Contains(list, s) }
	return append(list, slices.DeleteFunc(slices.Clone(more), known)...)
}

// These shares decide whether a load was made as specified.
const (
	lateShare = 0.01 // a larger share of late sends is worth a note
	waitShare = 0.01 // a larger share that waited for a free source port is a limit
	paceShare = 0.95 // a smaller share of the rate of any window is a limit
	busyShare = 0.95 // a larger share of the workers' time on a CPU counts as busy
	// mostNeed is the CPU time that a rate may take, as a multiple of what the workers have. Beyond
	// it no try succeeds, not even where half of the measured CPU time was taken from this host.
	mostNeed = 2
)

// unrelatedEntries bounds the entries that other traffic may add to the generator's own table.
const unrelatedEntries = 16

// descriptors returns how many descriptors the load may need at once, with 256 for the process.
func (p *plan) descriptors() uint64 { return uint64(p.inFlight()) + 256 }

// judge returns the generator's own limits that were hit, and remarks.
func (p *plan) judge(r Result) (limits []Limit, notes []string) {
	hit := func(code LimitCode, format string, args ...any) {
		limits = append(limits, Limit{code, fmt.Sprintf(format, args...)})
	}
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	u := r.Usage
	for _, own := range []struct {
		cause Cause
		code  LimitCode
		text  string
	}{
		{NoDescriptor, LimitDescriptors, fmt.Sprint("found none, the limit is ", u.Descriptors)},
		{NoPort, LimitSourcePorts, "found none free for their destination"},
		{NoBuffer, LimitMemory, "found no room in this host's queues"},
		{EPERM, LimitNetfilter, "were dropped by this host's own rules or full table"},
	} {
		if n := r.Causes[string(own.cause)]; n > 0 {
			hit(own.code, "%d %s", n, own.text)
		}
	}
	if share(u.PortWaits, r.Offered) > waitShare {
		hit(LimitSourcePorts, "%d waited for a free one: the rate is the generator's, "+
			"not the target's", u.PortWaits)
	}
	if u.AnswersLost+u.RepliesUnsent > 0 {
		hit(LimitPackets, "%d answers found the own queue full, "+
			"%d replies to answers were not taken", u.AnswersLost, u.RepliesUnsent)
	}
	grown := u.ConntrackPeak - u.ConntrackBefore
	if u.ConntrackBefore >= 0 && grown > unrelatedEntries+r.Offered/100 {
		hit(LimitConntrack, "the generator's own table grew from %d to %d entries",
			u.ConntrackBefore, u.ConntrackPeak)
	}
	busy, why := u.Busy > busyShare, ""
	if busy {
		why = ", with the workers' CPUs busy"
	}
	// A send that leaves more than a millisecond late, but in its slot, makes the pacing less even;
	// the load is still as specified. The lateness of a burst's sends is the burst's width.
	if late := r.LateShare(); late > lateShare && r.Widths.Bursts == 0 {
		note("pacing: %.1f %% of the sends left more than %s late%s",
			100*late, pacing.LateAfter, why)
	}
	if w := worstWindow(r.Series); w.delivered() < paceShare {
		if need := w.need(r); need > mostNeed {
			hit(LimitRate, "%s; all slots would take %.1f times the CPU time of %d workers",
				w, need, u.Workers)
		} else {
			hit(LimitPacing, "%s%s", w, why)
		}
	} else if r.Missed > 0 {
		note("pacing: %d of %d slots were given up%s", r.Missed, r.Offered+r.Missed, why)
	}
	if p.Count == 0 && p.exhaustible() && uint64(r.Offered+r.Missed) == p.tuples.Len() {
		hit(LimitTuples, "exhausted before the time was over: %s", p.tuples.Describe())
	}
	if busy && !p.openLoop() {
		note("the workers were busy %.0f %% of the time: the rate may be the generator's, "+
			"not the target's", 100*u.Busy)
	}
	if r.Tuples.Wrapped && len(p.space.SourcePorts) > 0 {
		note("tuples were used again: %s, %d offered", p.tuples.Describe(), r.Offered)
	}
	return limits, notes
}

// windowSlots is the least number of slots in a window, so that one or two are no large share.
const windowSlots = 20

// window is a part of a paced load: whole seconds, from first to last.
type window struct {
	first, last int
	pacing.Slots
}

// delivered returns the share of the slots that were not given up.
func (w window) delivered() float64 { return 1 - share(w.Missed, w.Due) }

// need returns the CPU time that all slots of the window take at the measured cost of a send, as a
// multiple of what the workers have in that time. Other work on the host delays sends, and hardly
// changes their cost.
func (w window) need(r Result) float64 {
	have := float64(r.Usage.Workers * (w.last - w.first + 1))
	if r.Offered == 0 || have == 0 {
		return 0
	}
	return float64(w.Due) * r.Usage.CPUSeconds / float64(r.Offered) / have
}

func (w window) String() string {
	when := fmt.Sprintf("second %d", w.first)
	if w.last > w.first {
		when = fmt.Sprintf("seconds %d to %d", w.first, w.last)
	}
	return fmt.Sprintf("%s got %.1f %% of the asked rate: %d of %d slots were given up",
		when, 100*w.delivered(), w.Missed, w.Due)
}

// worstWindow returns the window with the smallest share of its slots delivered. A window ends with
// the second that completes windowSlots, unless fewer than these remain after it.
func worstWindow(series []Second) (worst window) {
	var rest int64
	for _, s := range series {
		rest += s.Due
	}
	var w window
	for i, s := range series {
		w.last, w.Due, w.Missed, rest = i, w.Due+s.Due, w.Missed+s.Missed, rest-s.Due
		if rest > 0 && min(w.Due, rest) < windowSlots {
			continue
		}
		if w.delivered() < worst.delivered() {
			worst = w
		}
		w = window{first: i + 1}
	}
	return worst
}
