package generators

import (
	"strings"
	"time"

	"github.com/ctload/ctload/generators/latency"
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
	Elapsed time.Duration `json:"elapsed"` // from Started until the last one ended
	Sending time.Duration `json:"sending"` // from Started until the last one began

	// Connect, FirstByte and Total count from the intended start, in a closed loop from the actual
	// one. Connect holds every established connection, the others only completed ones.
	Connect   *latency.Histogram `json:"connect,omitempty"`
	FirstByte *latency.Histogram `json:"first_byte,omitempty"`
	Total     *latency.Histogram `json:"total,omitempty"`

	// Lateness holds how long after its intended time each send left (open loop only). Late counts
	// the sends that left more than [pacing.LateAfter] late. Missed counts the slots of the
	// schedule that were given up because they were overdue by more than the slack; Offered does
	// not include them.
	Lateness *latency.Histogram `json:"lateness,omitempty"`
	Late     int64              `json:"late"`
	Missed   int64              `json:"missed"`

	Series []Second     `json:"series,omitempty"` // by second from Started
	Probe  []ProbePoint `json:"probe,omitempty"`  // samples of a probe, by At

	Tuples Tuples `json:"tuples"`
	Usage  Usage  `json:"usage"`
	// Limits are the generator's own limits that were hit. Each makes the load differ from the
	// specified one, and none comes from the target.
	Limits []Limit `json:"limits,omitempty"`
	// Notes are remarks that do not invalidate the load.
	Notes []string `json:"notes,omitempty"`
}

// Limit is one of the generator's own limits that was hit. In JSON it is a text, such as "pacing: 7
// slots (2.0 %) were given up".
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
	LimitPacing      LimitCode = "pacing"       // overdue slots of the schedule were given up
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

// share returns a part of a whole, 0 for an empty whole.
func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// LateShare returns the share of sends that left late, 0 to 1.
func (r Result) LateShare() float64 { return share(r.Late, r.Offered) }

// Rate returns how many completed each second, over Elapsed.
func (r Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Completed) / r.Elapsed.Seconds()
}

// offeredRate returns how many began each second, over Sending.
func (r Result) offeredRate() float64 {
	if r.Sending <= 0 {
		return 0
	}
	return float64(r.Offered) / r.Sending.Seconds()
}
