package generators

import (
	"strings"
	"time"

	"github.com/ctload/ctload/generators/latency"
)

// Progress is what a running generator has done so far. Offered - Completed - Failed is in flight
// (or held).
type Progress struct {
	Offered   int64 `json:"offered"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
	Broken    int64 `json:"broken,omitempty"` // see Result
	// Answered is how long the last answer to a probe took; 0 for anything else.
	Answered time.Duration `json:"answered,omitempty"`
	Open     int64         `json:"open"` // in flight or held
	Elapsed  time.Duration `json:"elapsed"`
}

// Result is what a generator did. Offered = Completed + Failed, and Failed is the sum of Causes.
type Result struct {
	Kind      Kind             `json:"kind"`
	Unit      string           `json:"unit"` // requests, connections, flows, packets
	Offered   int64            `json:"offered"`
	Completed int64            `json:"completed"`
	Failed    int64            `json:"failed"`
	Broken    int64            `json:"broken,omitempty"`   // of those failed: connections that were open and held
	Causes    map[string]int64 `json:"causes,omitempty"`   // by [Cause]
	Statuses  map[int]int64    `json:"statuses,omitempty"` // http responses by status
	Received  int64            `json:"received"`           // bytes of payload from the target
	Sent      int64            `json:"sent"`               // bytes of payload to the target

	Target      string `json:"target"`
	Ports       string `json:"ports,omitempty"` // as [tuples.ParsePorts] reads them
	Path        string `json:"path,omitempty"`  // http
	Concurrency int    `json:"concurrency,omitempty"`

	Started time.Time     `json:"started"`
	Elapsed time.Duration `json:"elapsed"` // until the last one ended
	Sending time.Duration `json:"sending"` // until the last one began

	// Connect, FirstByte and Total count from the intended start, in a closed loop from the actual
	// one. Connect holds every connection that was established, the others only what completed.
	Connect   *latency.Histogram `json:"connect,omitempty"`
	FirstByte *latency.Histogram `json:"first_byte,omitempty"`
	Total     *latency.Histogram `json:"total,omitempty"`

	// Lateness is how long after its intended time each send left (open loop only), Late how many
	// left more than [pacing.LateAfter] late, and Missed how many slots of the schedule were given
	// up because they were overdue by more than the slack; missed ones are not part of Offered.
	Lateness *latency.Histogram `json:"lateness,omitempty"`
	Late     int64              `json:"late"`
	Missed   int64              `json:"missed"`

	Series []Second     `json:"series,omitempty"` // each second from Started
	Probe  []ProbePoint `json:"probe,omitempty"`  // each sample of a probe, by At

	Tuples Tuples `json:"tuples"`
	Usage  Usage  `json:"usage"`
	// Limits are the generator's own limits that were hit: any of them makes the load differ from what
	// was specified, and none of them is the target's doing.
	Limits []Limit `json:"limits,omitempty"`
	// Notes are remarks that do not invalidate the load.
	Notes []string `json:"notes,omitempty"`
}

// Limit is a limit of the generator's own that was hit. In JSON it is a text, as "pacing: 7 slots (2.0 %)
// were given up".
type Limit struct {
	Code LimitCode
	Text string // what was hit how often, in words
}

// LimitCode names a kind of [Limit].
type LimitCode string

// The limits that a generator knows of itself.
const (
	LimitDescriptors LimitCode = "descriptors"  // the process's limit of open files
	LimitSourcePorts LimitCode = "source-ports" // no free port to a destination
	LimitMemory      LimitCode = "memory"       // this host's queues had no room
	LimitNetfilter   LimitCode = "netfilter"    // this host's rules or its full table dropped packets
	LimitPackets     LimitCode = "packets"      // crafted packets and their answers were lost on this host
	LimitConntrack   LimitCode = "conntrack"    // this host's own table was filled
	LimitPacing      LimitCode = "pacing"       // overdue slots of the schedule were given up
	LimitTuples      LimitCode = "tuples"       // every tuple was used before the time was over
)

func (l Limit) String() string { return string(l.Code) + ": " + l.Text }

// MarshalText returns the limit as its String.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (l *Limit) UnmarshalText(text []byte) error {
	code, rest, _ := strings.Cut(string(text), ": ")
	*l = Limit{LimitCode(code), rest}
	return nil
}

// Second is one second of a load. What ended is counted in the second in which it ended.
type Second struct {
	Offered   int64              `json:"offered"`
	Completed int64              `json:"completed"`
	Failed    int64              `json:"failed"`
	Latency   *latency.Histogram `json:"latency,omitempty"` // Total of those completed, two digits
}

// ProbePoint is one sample of a probe.
type ProbePoint struct {
	At      time.Time     `json:"at"` // the intended time
	Latency time.Duration `json:"latency"`
	OK      bool          `json:"ok"`
	Cause   Cause         `json:"cause,omitempty"`
}

// Tuples is what the load used of its tuples.
type Tuples struct {
	Size    uint64 `json:"size"` // how many there are, not counting ports that the kernel chose
	Used    uint64 `json:"used"`
	Wrapped bool   `json:"wrapped,omitempty"` // some were used again
}

// share is a part of a whole, 0 when there is no whole.
func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// LateShare is the share of sends that left late.
func (r Result) LateShare() float64 { return share(r.Late, r.Offered) }

// Rate is how many were completed each second, over Elapsed.
func (r Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Completed) / r.Elapsed.Seconds()
}

// offeredRate is how many were begun each second, over Sending.
func (r Result) offeredRate() float64 {
	if r.Sending <= 0 {
		return 0
	}
	return float64(r.Offered) / r.Sending.Seconds()
}
