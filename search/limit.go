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
	Loss    float64 // the share of the attempts that may be lost
	Retried float64 // the share of the attempts that may succeed after retries alone
	Keep    []*results.Threshold
}

// Observe says what a trial shows of its value. The error is a *results.EvaluationError.
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
	o.Shares = sharesOf(t)
	o.Held = t.Verdict != results.DutDied && o.Lost <= c.Loss && o.Retried <= c.Retried
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

// Shares tell what became of the attempts of a trial, as shares of all that were not hostile.
//
// An attempt is lost when it failed: no answer in time, a reset, a broken connection. That is the
// unsuccessful transaction of RFC 9411. Where the sender sends once (flows and packets), it is lost
// also when the DUT dropped its packet or evicted its entry: the frame loss of RFC 9693.
//
// An attempt over TCP that completed although the DUT dropped a packet of its or evicted its entry
// is not lost: it succeeded after retries, and took a second or more.
type Shares struct {
	Lost float64 `json:"loss"`
	// Retried succeeded after retries, at most: each packet that was dropped, again when it was
	// sent again, counts for one attempt. A SYN that was sent again took [firstRetry] or more.
	Retried float64 `json:"after_retries,omitempty"`
}

// firstRetry is the time, in ms, after which Linux sends an unanswered SYN again
// (TCP_TIMEOUT_INIT).
const firstRetry = 1000

// sharesOf returns the shares of a trial.
func sharesOf(t *results.Trial) Shares {
	var offered, once, completed int64 // all, of senders that send once, of the others
	var late int64                     // completed ones whose SYN may have been sent again
	hostile := false
	for _, e := range t.Entries {
		switch {
		case e.Role == results.Hostile:
			hostile = true
		case e.Repeats():
			offered += e.Offered
			completed += e.Done()
			if e.Connect.Count == 0 || e.Connect.Max >= firstRetry {
				late += e.Done()
			}
		default:
			offered += e.Offered
			once += e.Offered - e.Failed
		}
	}
	if offered == 0 {
		return Shares{}
	}
	lost, retried := t.Accounting.Failed, int64(0)
	if !hostile { // what the kernel dropped was of the load
		connected := t.Accounting.Evicted // dropped of connections that the client has already
		if t.Stack != nil {
			connected += t.Stack.ListenDrops
		}
		dropped := max(0, t.Accounting.Refused+connected-lost) // a failure explains one
		lost += min(dropped, once)
		retried = min(max(0, dropped-once), late+connected, completed)
	}
	return Shares{float64(lost) / float64(offered), float64(retried) / float64(offered)}
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
