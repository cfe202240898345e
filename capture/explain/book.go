package explain

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/kernels"
)

// book is a capture with its arithmetic.
type book struct {
	c       *capture.Capture
	sample  Sample
	assumed map[string]int64 // timeouts that the kernel has by itself and nothing shows
	version kernels.Version
	// evicting counts the entries that the kernel evicts each second; 0 is unknown.
	evicting float64
	classes  []*class
}

// class holds the entries of one protocol, state and kind, which share a timeout.
type class struct {
	protocol, state string
	kind            capture.Kind
	key             string  // of its timeout
	timeout         float64 // seconds; 0 is unknown
	entries         []capture.Entry
	// ages are the seconds since the last packet of the entries whose timeout is the class's.
	ages []float64
	// truncated tells that no entry reaches the end of its timeout: something removes them.
	truncated bool
}

// unacknowledged is the timeout, in seconds, of connections whose data was not acknowledged or was
// repeated too often: an established entry with less left tells nothing about its age.
const unacknowledged = 300

func newBook(c *capture.Capture) *book {
	b := &book{c: c, assumed: map[string]int64{}}
	if v, err := kernels.Parse(c.Kernel); err == nil {
		b.version = v
	} else {
		b.version = kernels.Version{Major: 6, Minor: 1}
	}
	t := c.Table
	b.sample = Sample{Scope: t.Scope, Entries: len(t.Entries), Cut: t.Cut, Whole: t.Whole}
	all := float64(t.Whole)
	if all == 0 && c.Sizes.Count != nil {
		all = float64(*c.Sizes.Count)
	}
	switch {
	case t.Scope == capture.Selection, len(t.Entries) == 0:
	case t.Scope == capture.Whole:
		b.sample.Factor = 1
	case all > 0:
		b.sample.Factor = all / float64(len(t.Entries))
	}
	if n := len(c.Counters); n > 1 && c.Counters[n-1].Seconds > 0 {
		grown := c.Counters[n-1].Sum["early_drop"] - c.Counters[n-2].Sum["early_drop"]
		b.evicting = float64(grown) / c.Counters[n-1].Seconds
	}
	b.classify()
	return b
}

// count returns the number of entries of the table: as the kernel counts, or the living ones.
func (b *book) count() int64 {
	if b.c.Sizes.Count != nil {
		return *b.c.Sizes.Count
	}
	return b.sample.Whole
}

// full reports whether the table is at its limit.
func (b *book) full() bool {
	limit := b.c.Sizes.Max
	// A table at max is found a little below it: entries come and go while it is read.
	return limit != nil && *limit > 0 && float64(b.count()) >= 0.995*float64(*limit)
}

// timeout returns a timeout in seconds, as shown or as the kernel has it by itself; 0: unknown.
func (b *book) timeout(key string) float64 {
	if s, ok := b.c.Settings[key]; ok {
		if n, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
			return n
		}
	}
	if n, ok := kernels.Timeouts(b.version)[key]; ok {
		b.assumed[key] = n
		return float64(n)
	}
	return 0
}

// timeoutKey returns the key of the timeout that an entry's state has.
func timeoutKey(e capture.Entry) string {
	switch e.Protocol {
	case "tcp":
		state := strings.ToLower(strings.TrimSuffix(e.State, "2")) // SYN_SENT2
		return kernels.Prefix + "tcp_timeout_" + state
	case "udp":
		if e.Assured {
			return kernels.Prefix + "udp_timeout_stream"
		}
		return kernels.Prefix + "udp_timeout"
	case "gre":
		if e.Assured {
			return kernels.Prefix + "gre_timeout_stream"
		}
		return kernels.Prefix + "gre_timeout"
	case "icmp", "icmpv6":
		return kernels.Prefix + e.Protocol + "_timeout"
	case "sctp", "dccp":
		return kernels.Prefix + e.Protocol + "_timeout_" + strings.ToLower(e.State)
	}
	return kernels.Prefix + "generic_timeout"
}

// classify sorts the entries into classes, and finds each entry's age.
func (b *book) classify() {
	type key struct {
		protocol, state, timeout string
		kind                     capture.Kind
	}
	classes := map[key]*class{}
	for _, e := range b.c.Table.Entries {
		k := key{e.Protocol, e.State, timeoutKey(e), e.Kind()}
		c := classes[k]
		if c == nil {
			c = &class{protocol: e.Protocol, state: e.State, kind: e.Kind(), key: k.timeout,
				timeout: b.timeout(k.timeout)}
			classes[k] = c
			b.classes = append(b.classes, c)
		}
		c.entries = append(c.entries, e)
		if age, ok := c.age(e); ok {
			c.ages = append(c.ages, age)
		}
	}
	for _, c := range b.classes {
		least := c.timeout
		for _, age := range c.ages {
			least = min(least, c.timeout-age)
		}
		// Times left of a steady stream reach down to 0; without evictions, the smallest of 50 is
		// below an eighth of the timeout in all but 0.1 % of samples.
		c.truncated = len(c.ages) >= 50 && least > c.timeout/8 && !c.assured() && b.full()
	}
	slices.SortFunc(b.classes, func(x, y *class) int {
		return cmp.Or(cmp.Compare(len(y.entries), len(x.entries)), cmp.Compare(x.key, y.key),
			cmp.Compare(x.kind, y.kind))
	})
}

func (c *class) assured() bool { return c.kind == capture.Assured }

// age returns the seconds since the last packet of an entry: its timeout less what is left. A
// helper or a policy may give an entry a longer timeout, and an established connection with
// unacknowledged data has a shorter one: their ages are unknown.
func (c *class) age(e capture.Entry) (seconds float64, known bool) {
	left := float64(e.Left)
	switch {
	case e.Left < 0, c.timeout == 0, left > c.timeout:
		return 0, false
	case e.State == "ESTABLISHED" && left <= unacknowledged && c.timeout > 2*unacknowledged:
		return 0, false
	}
	return c.timeout - left, true
}

// meanAge returns the mean of the known ages, in seconds. The kernel cuts the remaining time to
// whole seconds.
func (c *class) meanAge() float64 {
	sum := 0.0
	for _, age := range c.ages {
		sum += age - 0.5
	}
	return sum / float64(len(c.ages))
}

// Rate counts the connections that come into a state, or leave it, each second.
type Rate struct {
	What    string  `json:"what"` // closes, new flows without an answer, ...
	Entries int64   `json:"entries"`
	Timeout float64 `json:"timeout_s"`
	// PerSecond is entries / timeout, over the whole table where the listing allows that.
	PerSecond float64 `json:"per_s"`
	// LowerBound tells that the table is at its limit: what it refused is not in it.
	LowerBound bool `json:"lower_bound,omitempty"`
	// ByAge tells that entries are evicted before their time: PerSecond is entries / mean age.
	ByAge   bool    `json:"by_age,omitempty"`
	MeanAge float64 `json:"mean_age_s,omitempty"`
}

// passing are the states that an entry only passes through, where no packet renews it. Each has the
// words for its number of entries.
var passing = map[string]string{
	"TIME_WAIT": "closed connections", "CLOSE_WAIT": "half-closed connections",
	"SYN_SENT": "attempts without an answer", "SYN_RECV": "attempts without a third packet",
	"FIN_WAIT": "connections that begin to close", "LAST_ACK": "last acknowledgements",
	"CLOSE": "resets",
}

// what names what a class counts; empty: packets renew its entries, and it counts nothing.
func (c *class) what() string {
	switch c.protocol {
	case "tcp":
		return passing[c.state]
	case "udp", "icmp", "icmpv6":
		if c.assured() {
			return ""
		}
		name := map[string]string{"udp": "udp flows", "icmp": "icmp echoes",
			"icmpv6": "icmpv6 echoes"}[c.protocol]
		if c.kind == capture.Unreplied {
			return name + " without an answer"
		}
		return name + " with an answer"
	}
	return ""
}

// rates returns how many connections a second the entries of passing states stand for.
func (b *book) rates() (list []Rate) {
	exact := b.c.Table.States
	seen := map[string]bool{}
	for _, c := range b.classes {
		what := c.what()
		if what == "" || c.timeout == 0 {
			continue
		}
		n := float64(len(c.entries)) * b.sample.Factor
		if counted, ok := exact[c.state]; ok && c.protocol == "tcp" {
			if seen[c.state] {
				continue
			}
			n = float64(counted)
			seen[c.state] = true
		}
		if n == 0 {
			continue
		}
		r := Rate{What: what, Entries: round(n), Timeout: c.timeout, PerSecond: n / c.timeout,
			LowerBound: b.full()}
		if c.truncated {
			r.ByAge, r.MeanAge = true, c.meanAge()
			r.PerSecond = n / r.MeanAge
		}
		list = append(list, r)
	}
	for _, state := range slices.Sorted(maps.Keys(exact)) {
		what := passing[state]
		timeout := b.timeout(kernels.Prefix + "tcp_timeout_" + strings.ToLower(state))
		if seen[state] || what == "" || timeout == 0 {
			continue
		}
		list = append(list, Rate{What: what, Entries: exact[state], Timeout: timeout,
			PerSecond: float64(exact[state]) / timeout, LowerBound: b.full()})
	}
	slices.SortStableFunc(list, func(x, y Rate) int { return cmp.Compare(y.Entries, x.Entries) })
	return list
}

// Idle sorts the established connections to one service by the time since their last packet.
type Idle struct {
	Service string `json:"service"`
	Entries int    `json:"entries"`
	// Alive entries saw a packet within the last minute, Silent ones did not.
	Alive   int `json:"alive"`
	Silent  int `json:"silent"`
	Sources int `json:"sources"` // of the silent ones
	// Oldest is the longest time without a packet, in seconds.
	Oldest float64 `json:"oldest_s"`
	Newest float64 `json:"newest_s"` // the shortest of the silent ones
	// PerDay counts the entries that fall silent for good each day, where their ages spread evenly
	// from now to Oldest; nil where they do not.
	PerDay *float64 `json:"per_day,omitempty"`
	// Level is the number of silent entries at which the timeout removes as many as come.
	Level int64 `json:"level,omitempty"`
	// Unknown are entries whose age is unknown: data without acknowledgement, or a timeout of
	// their own.
	Unknown int `json:"unknown,omitempty"`
}

// aliveFor is within how many seconds a live connection sends a packet, for Idle.
const aliveFor = 60

// fewSilent is below how many silent connections ages say nothing.
const fewSilent = 50

// idle tells the ages of established connections by service.
func (b *book) idle() (list []Idle) {
	services := map[string]*Idle{}
	ages := map[string][]float64{}
	sources := map[string]map[string]bool{}
	timeout := 0.0
	for _, c := range b.classes {
		if c.protocol != "tcp" || c.state != "ESTABLISHED" {
			continue
		}
		timeout = c.timeout
		for _, e := range c.entries {
			name := "tcp " + e.Service()
			idle := services[name]
			if idle == nil {
				idle = &Idle{Service: name}
				services[name], sources[name] = idle, map[string]bool{}
			}
			idle.Entries++
			switch age, known := c.age(e); {
			case !known:
				idle.Unknown++
			case age <= aliveFor:
				idle.Alive++
			default:
				idle.Silent++
				ages[name] = append(ages[name], age)
				sources[name][e.Original.Source.String()] = true
			}
		}
	}
	for name, idle := range services {
		if idle.Silent < fewSilent {
			continue
		}
		idle.Sources = len(sources[name])
		s := spread(ages[name])
		idle.Newest, idle.Oldest = s.Min, s.Max
		if even(ages[name], s.Max) {
			perSecond := float64(idle.Silent) / s.Max
			idle.PerDay = new(perSecond * 86400)
			idle.Level = round(perSecond * timeout)
		}
		list = append(list, *idle)
	}
	slices.SortFunc(list, func(x, y Idle) int {
		return cmp.Or(cmp.Compare(y.Silent, x.Silent), cmp.Compare(x.Service, y.Service))
	})
	return list
}

// even reports whether values spread evenly from 0 to the highest, by the test of Kolmogorov and
// Smirnov at 1 %: the largest distance of the two distributions is below 1.63 / sqrt(n).
func even(values []float64, highest float64) bool {
	slices.Sort(values)
	n := float64(len(values))
	largest := 0.0
	for i, v := range values {
		largest = max(largest, math.Abs(v/highest-float64(i)/n), math.Abs(v/highest-float64(i+1)/n))
	}
	// Connections of one host end together: the test gets as many values as there are moments.
	distinct := map[float64]bool{}
	for _, v := range values {
		distinct[math.Round(v/60)] = true
	}
	return largest < 1.63/math.Sqrt(float64(len(distinct)))
}
