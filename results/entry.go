package results

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Attempts are the requests, connections, flows or packets that generators began, and what became
// of them. Offered = Completed + Failed, or Sent + Failed where they ask for no answer.
type Attempts struct {
	Unit    string `json:"unit"`    // requests, connections, flows, packets
	Offered int64  `json:"offered"` // how many were begun
	// Completed counts those that succeeded; nil where they ask for no answer.
	Completed *int64 `json:"completed,omitempty"`
	// Sent counts those that left the sender and ask for no answer; nil where they ask for one. The
	// sender does not see losses on the way, nor the DUT's refusals.
	Sent   *int64 `json:"sent,omitempty"`
	Failed int64  `json:"failed"`           // how many did not succeed
	Broken int64  `json:"broken,omitempty"` // part of failed: held connections that broke
	Missed int64  `json:"missed,omitempty"` // slots of the schedule given up: they came too late
	// Causes are the failures by cause, as in load.causes.timeout; a cause that did not occur is 0.
	Causes  map[string]int64 `json:"causes,omitempty"`
	Seconds float64          `json:"seconds"`              // from the first begin to the last end
	Begins  float64          `json:"offered_per_s"`        // begun per second, until the last began
	Rate    float64          `json:"rate_per_s,omitempty"` // completed per second
	Connect Latency          `json:"connect_ms"`           // time to establish, with SYN retries
	// Latency is the time from the intended start to the last byte; none of connections held open.
	Latency Latency `json:"latency_ms"`
	Late    float64 `json:"late_share"` // share of sends that left late (open loop)
	// BurstWidth is the longest time, in ms, from a burst's instant until its last send.
	BurstWidth float64  `json:"burst_width_ms,omitempty"`
	Limits     []string `json:"limits,omitempty"` // the generators' own limits that were hit
}

// Done returns how many attempts reached their end: completed, or sent where they ask for no
// answer.
func (a Attempts) Done() int64 {
	if a.OneWay() {
		return *a.Sent
	}
	if a.Completed == nil {
		return 0
	}
	return *a.Completed
}

// DoneWord says what attempts have done that reached their end.
func (a Attempts) DoneWord() string {
	if a.OneWay() {
		return "sent"
	}
	return "completed"
}

// OneWay reports whether the attempts ask for no answer.
func (a Attempts) OneWay() bool { return a.Sent != nil }

// Repeats reports whether the sender's kernel repeats a packet that got no answer.
func (a Attempts) Repeats() bool {
	return !a.OneWay() && a.Unit != unitFlows && a.Unit != unitPackets
}

func (a Attempts) unmeasured(path string) string {
	switch field := lastPart(path); {
	case field == "sent" && !a.OneWay():
		return "it awaits answers: completed says how many it got"
	case a.OneWay() && slices.Contains([]string{"completed", "rate_per_s"}, field):
		return "it asks for no answer: sent says how many left the sender"
	}
	return ""
}

// Load sums the attempts of the entries that are not hostile.
type Load struct {
	Generator string `json:"generator"` // names of the entries
	Attempts
}

// Role says on whose side an entry of the workload is; the zero Role is a user's.
type Role string

// Hostile is the role of an attacker: what fails of it is no failure of the scenario.
const Hostile Role = "hostile"

// Entry tells what one generator of the workload offered, and what became of it.
type Entry struct {
	Kind string `json:"kind"`           // generator: http, tcp, hold, udp, syn, handshake, icmp
	Role Role   `json:"role,omitempty"` // hostile: its failures are no failure of the scenario
	From string `json:"from,omitempty"` // the node that made it
	Attempts
	// Start is the time of its first attempt, in seconds after the start of the load.
	Start float64 `json:"start_s"`
	// Received counts those sent that reached the DUT; nil where that is not known exactly, or the
	// load awaits answers.
	Received *int64 `json:"received,omitempty"`
}

func (e Entry) unmeasured(path string) string {
	if lastPart(path) == "received" && e.Received == nil {
		return "it is known only of a load without answers, where every frame arrived, or where " +
			"each attempt is one packet on tuples that no other entry has"
	}
	return e.Attempts.unmeasured(path)
}

// EntryNames returns the names of entries: first those that are not hostile, each group in
// alphabetical order.
func EntryNames(entries map[string]Entry) []string {
	return slices.SortedFunc(maps.Keys(entries), func(a, b string) int {
		return cmp.Or(cmp.Compare(entries[a].Role, entries[b].Role), cmp.Compare(a, b))
	})
}

// own returns the names of the entries that are not hostile.
func own(entries map[string]Entry) []string {
	return slices.DeleteFunc(EntryNames(entries), func(name string) bool {
		return entries[name].Role == Hostile
	})
}

// Summed returns the names of the entries that [Trial.Load] adds up, or why it adds up none.
func Summed(entries map[string]Entry) (names []string, why string) {
	names = own(entries)
	if len(names) == 0 {
		return nil, "every entry is hostile"
	}
	var units []string
	answers := map[bool]bool{}
	for _, name := range names {
		e := entries[name]
		answers[e.OneWay()] = true
		if !slices.Contains(units, e.Unit) {
			units = append(units, e.Unit)
		}
	}
	slices.Sort(units)
	switch {
	case len(units) > 1:
		return nil, fmt.Sprintf("its entries count %s, which are not added", list(units))
	case len(answers) > 1:
		return nil, "some of its entries ask for no answer: what they sent and what others " +
			"completed are not added"
	}
	return names, ""
}

// SetReceived sets Received of the entries that ask for no answer: to what the DUT counted of them,
// by name, or without such a count to what they sent where [Trial.Transit] shows that every frame
// to the DUT arrived. An entry of the DUT itself crosses no link.
func (t *Trial) SetReceived(dut string, counted map[string]int64) {
	arrived := t.Transit != nil && t.Transit.ToDUT.Dropped == 0 && t.Transit.ToDUT.Missing == 0
	for name, e := range t.Entries {
		e.Received = nil
		n, known := counted[name]
		switch {
		case !e.OneWay() || e.From == dut:
		case known:
			e.Received = &n
		case arrived:
			e.Received = new(*e.Sent)
		}
		t.Entries[name] = e
	}
}

// offered, done and failed return how many attempts all entries began, how many of them reached
// their end, and how many failed.
func (t *Trial) offered() int64 { return t.sum(func(e Entry) int64 { return e.Offered }) }
func (t *Trial) done() int64    { return t.sum(func(e Entry) int64 { return e.Done() }) }
func (t *Trial) failed() int64  { return t.sum(func(e Entry) int64 { return e.Failed }) }

// refusals returns how many attempts failed because the target refused them.
func (t *Trial) refusals() int64 {
	return t.sum(func(e Entry) int64 { return e.Causes[CauseRefused] })
}

func (t *Trial) sum(of func(Entry) int64) (n int64) {
	for _, e := range t.Entries {
		n += of(e)
	}
	return n
}

// retries reports whether some sender's kernel repeats a packet that got no answer.
func (t *Trial) retries() bool {
	for _, e := range t.Entries {
		if e.Repeats() {
			return true
		}
	}
	return false
}
