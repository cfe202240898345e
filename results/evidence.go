package results

// RuleCount counts how often packets met a rule, or the policy of a chain.
type RuleCount struct {
	Family string `json:"family"` // ip, ip6, or that of a table of nft
	Table  string `json:"table"`  // its name
	Chain  string `json:"chain"`  // its name
	// Text is the rule as its tool lists it, without counters; "policy DROP" of a chain.
	Text string `json:"rule"`
	// Effect tells what the rule does with packets: drop, notrack, dnat or snat; empty for others.
	Effect RuleEffect `json:"effect,omitempty"`
	// About says which packets it matches, where that is those of connections without an entry
	// (mid-stream) or of none that fits (invalid); empty for others.
	About RuleMatch `json:"about,omitempty"`
	// Uncounted says that the kernel has no counter for it, so that nothing is known.
	Uncounted bool `json:"uncounted,omitempty"`
	// Before is the number of packets before the load; 0 for a rule that came later.
	Before int64 `json:"before"`
	After  int64 `json:"after"` // number of packets at the end of the trial
}

// Packets returns how many packets met the rule in the trial.
func (r RuleCount) Packets() int64 { return max(0, r.After-r.Before) }

// RuleEffect tells what a rule does with the packets that it matches.
type RuleEffect string

// The effects that a judgement asks for.
const (
	Drops      RuleEffect = "drop"    // it ends the way of a packet, with or without an answer
	Untracks   RuleEffect = "notrack" // it takes the packet out of tracking
	Redirects  RuleEffect = "dnat"    // it translates the destination
	Translates RuleEffect = "snat"    // it translates the source
)

// RuleMatch names the only kind of packets that a rule matches.
type RuleMatch string

// The kinds of packets that a judgement asks for.
const (
	MidStream  RuleMatch = "mid-stream" // no entry knows them, and they begin no connection of TCP
	OutOfState RuleMatch = "invalid"    // tracking calls them invalid
)

// Tracking tells whether the DUT's kernel tracked the packets of a family of addresses when its
// settings were read back: yes, no or unknown.
type Tracking struct {
	IPv4 string `json:"ipv4"` // of IPv4: yes, no or unknown
	IPv6 string `json:"ipv6"` // of IPv6
	// Source is the evidence: absent (no connection tracking), hooks, count or rules.
	Source string `json:"source"`
}

// FlowCount is the number of entries of one kind of flow: alike in protocol, state and destination,
// and in what NAT makes of both ends.
type FlowCount struct {
	Protocol    string `json:"protocol"`        // as /proc/net/nf_conntrack names it
	State       string `json:"state"`           // UNREPLIED or REPLIED without states
	Destination string `json:"destination"`     // address and port of the first packet
	Leads       string `json:"leads,omitempty"` // where destination NAT leads instead
	From        string `json:"from,omitempty"`  // the address that source NAT gives
	Entries     int64  `json:"entries"`         // between entries - error and entries
	Error       int64  `json:"error,omitempty"` // by which entries may be too many
	// NewerRule is the rule of destination NAT that would lead a new flow elsewhere; the entries
	// are older.
	NewerRule string `json:"newer_rule,omitempty"`
}

// NAT counts the lookups in the rules of destination NAT.
type NAT struct {
	// Lookups counts the packets that met these rules: the first of each tracked flow, since the
	// kernel keeps the answer in the flow's entry and asks no more.
	Lookups int64 `json:"lookups"`
}

// Silence is the longest time that a generator plans between two packets of one of its connections
// or flows.
type Silence struct {
	Entry    string  `json:"entry"`    // name in the workload
	Protocol string  `json:"protocol"` // tcp or udp
	Seconds  float64 `json:"seconds"`  // its length
}

// CountLater sets the LaterFailures of a trial's actions from the series, in order of time.
// timeouts are those of the entries, in seconds: an attempt that fails later than that after an
// action has surely begun after it.
func CountLater(t *Trial, samples []Sample, timeouts map[string]float64) {
	if len(samples) == 0 {
		return
	}
	failed := func(entry string, until float64) (n int64) {
		for _, s := range samples {
			if s.Seconds > until {
				break
			}
			n = s.Entries[entry].Failed
		}
		return n
	}
	last := samples[len(samples)-1]
	for i := range t.Actions {
		a := &t.Actions[i]
		if a.LaterFailures = 0; a.Begun == nil {
			continue
		}
		for _, name := range own(t.Entries) {
			a.LaterFailures += last.Entries[name].Failed - failed(name, *a.Begun+timeouts[name])
		}
	}
}
