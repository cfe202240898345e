package search

import (
	"slices"

	"github.com/ctload/ctload/results"
)

// Limit names the cause of the first loss beyond a limit.
type Limit string

// The limits.
const (
	Table       Limit = "table"        // nf_conntrack_max: entries were refused or evicted
	Hash        Limit = "hash"         // a chain of the hash was too long
	Ports       Limit = "ports"        // NAT found no free source port
	Races       Limit = "races"        // packets lost a race for their tuple
	State       Limit = "state"        // entries were gone, or stale
	Memory      Limit = "memory"       // the DUT ran out of memory
	AcceptQueue Limit = "accept-queue" // a listener of the DUT accepted too slowly
	Link        Limit = "link"         // a card or a queue of the DUT dropped frames
	CPU         Limit = "cpu"          // the DUT had no time left
	Generator   Limit = "generator"    // the load's own limit: no limit of the DUT
	Kept        Limit = "keep"         // a condition of --keep did not hold
	Other       Limit = "other"        // something that ctload does not count
)

// Words names the limit for a reader.
func (l Limit) Words() string {
	return map[Limit]string{
		Table: "the table", Hash: "a chain of the hash", Ports: "the source ports of NAT",
		Races: "races for a tuple", State: "the state of entries", Memory: "the DUT's memory",
		AcceptQueue: "the accept queue", Link: "the link", CPU: "the DUT's CPU",
		Generator: "the generator", Kept: "a condition of --keep",
		Other: "nothing that conntrack counts",
	}[l]
}

// limits maps a verdict to the limit that it names.
var limits = map[results.Verdict]Limit{
	results.TableFull: Table, results.Evicting: Table, results.ChainTooLong: Hash,
	results.NATExhausted: Ports, results.Clash: Races, results.StateLost: State,
	results.DutDied: Memory,
}

// busyCPU is the share of its CPU time at which a DUT has none left.
const busyCPU = 0.95

// Conditions decide whether a trial holds.
type Conditions struct {
	Loss float64 // the share of the attempts that may be lost
	Keep []*results.Threshold
}

// Observe says what a trial shows of its value. An attempt is lost when it failed, when the kernel
// refused its packet, or when its entry was evicted: a client that tries again hides the last two.
// The error is a *results.EvaluationError.
func (c Conditions) Observe(value float64, t *results.Trial) (Observation, error) {
	o := Observation{Value: value}
	if t.Verdict == results.Invalid {
		o.Invalid = true
		limits := func(c results.Code) bool { return c.OfGenerator() || c == results.CodeOverload }
		if slices.ContainsFunc(t.InvalidCodes, limits) {
			o.Limit = Generator
		}
		return o, nil
	}
	share := Loss(t)
	o.Held = t.Verdict != results.DutDied && share <= c.Loss
	if !o.Held {
		o.Limit = limitOf(t)
		return o, nil
	}
	for _, condition := range c.Keep {
		held, _, err := condition.Check(t)
		if err != nil {
			return o, err
		}
		if !held {
			o.Held = false
			if o.Limit = limits[t.Verdict]; o.Limit == "" {
				o.Limit = Kept
			}
		}
	}
	return o, nil
}

// Loss returns the share of a trial's attempts that were lost.
func Loss(t *results.Trial) float64 {
	var offered int64
	hostile := false
	for _, e := range t.Entries {
		if e.Role == results.Hostile {
			hostile = true
		} else {
			offered += e.Offered
		}
	}
	if offered == 0 {
		return 0
	}
	lost := t.Accounting.Failed
	if !hostile { // what the kernel refused was of the load
		dropped := t.Accounting.Refused + t.Accounting.Evicted
		if t.Stack != nil {
			dropped += t.Stack.ListenDrops
		}
		lost = max(lost, min(dropped, offered))
	}
	return float64(lost) / float64(offered)
}

// limitOf names the limit that the losses of a trial show.
func limitOf(t *results.Trial) Limit {
	if limit := limits[t.Verdict]; limit != "" {
		return limit
	}
	s := t.Stack
	switch {
	case s != nil && s.ListenDrops > 0:
		return AcceptQueue
	case s != nil && s.LinkDropped+s.QdiscDropped+s.SoftnetDropped > 0:
		return Link
	case t.CPU != nil && t.CPU.Busy() > busyCPU:
		return CPU
	}
	return Other
}
