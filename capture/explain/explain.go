// Package explain says what is in a connection-tracking table, what would free it, and what cannot
// be known: arithmetic on a capture, without a lab.
//
// A table is an M/G/infinity queue (Little's law): the living entries of a class are its arrivals a
// second times how long an entry lives. The kernel sets an entry's remaining time to the timeout of
// its state at each packet, so that timeout - left is the time since the last packet, and one
// listing holds rates.
package explain

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/ctload/ctload/capture"
)

// Explanation tells the contents of a table. Its numbers of entries are those of the listing;
// Factor makes them the whole table's.
type Explanation struct {
	Kernel string `json:"kernel,omitempty"`
	Size   Size   `json:"size"`
	Sample Sample `json:"sample"`
	// Groups are the entries by family, protocol, service, state and kind, the most first.
	Groups  []Group `json:"groups,omitempty"`
	Sources Holders `json:"sources"`      // by source address of the original direction
	Targets Holders `json:"destinations"` // by destination address
	// Services are by destination address and port, before translation.
	Services Holders `json:"services"`
	// Peers are the entries by the class of their source.
	Peers []Peer `json:"peers,omitempty"`
	Rates []Rate `json:"rates,omitempty"`
	// Ages tell when the last packets came, Lives how long connections are established.
	Ages   []Age   `json:"ages,omitempty"`
	Lives  []Life  `json:"lives,omitempty"`
	Growth *Growth `json:"growth,omitempty"` // during the watch of a capture
	Idle   []Idle  `json:"idle,omitempty"`   // silent established connections, by service
	// Evictable are the entries that early_drop may take: those that are not ASSURED.
	Evictable int `json:"evictable"`
	// Translated are the entries with another source, and with another destination.
	SourceTranslated      int           `json:"source_translated,omitempty"`
	DestinationTranslated int           `json:"destination_translated,omitempty"`
	Expectations          []Expectation `json:"expectations,omitempty"`
	Counters              []Counter     `json:"counters,omitempty"`
	Log                   capture.Log   `json:"log"`
	Changes               []Change      `json:"changes,omitempty"`
	// Findings name causes, limits and caveats, the most certain first.
	Findings []Finding `json:"findings"`
	// Assumed are the timeouts that the texts do not show, by key: the kernel's own.
	Assumed map[string]int64 `json:"assumed,omitempty"`
	// Missing lists the outputs that were not shown, Unknowable the facts that no output shows.
	Missing    []string `json:"missing,omitempty"`
	Unknowable []string `json:"unknowable,omitempty"`
}

// Size tells how full the table is; nil is unknown.
type Size struct {
	Count   *int64 `json:"count,omitempty"`
	Max     *int64 `json:"max,omitempty"`
	Buckets *int64 `json:"buckets,omitempty"`
	// Fill is count / max.
	Fill *float64 `json:"fill,omitempty"`
	// Chain is the mean length of a chain of the hash: each entry is in it twice.
	Chain *float64 `json:"mean_chain,omitempty"`
	// Expired is count less the living entries: entries that the collector has not freed yet, and
	// those that came between the two readings.
	Expired *int64 `json:"expired,omitempty"`
}

// Sample tells which part of the table was listed.
type Sample struct {
	Scope   capture.Scope `json:"scope"`
	Entries int           `json:"entries"`
	Cut     int           `json:"cut,omitempty"` // entries whose text ends in the middle
	// Whole is the number of living entries of the table; 0 is unknown.
	Whole int64 `json:"whole,omitempty"`
	// Factor makes a number of listed entries one of the whole table; 0 where that is not allowed.
	Factor float64 `json:"factor,omitempty"`
}

// Group counts entries that are alike.
type Group struct {
	Family   string       `json:"family"` // ipv4, ipv6
	Protocol string       `json:"protocol"`
	Service  string       `json:"service,omitempty"` // destination port, or type of ICMP; "other"
	State    string       `json:"state,omitempty"`
	Kind     capture.Kind `json:"kind"`
	Entries  int          `json:"entries"`
	Left     *Spread      `json:"left_s,omitempty"` // seconds left
}

// Spread is the range of some times in seconds.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

// Holders lists the addresses, or the services, that hold most entries.
type Holders struct {
	Top      []Holder `json:"top,omitempty"`
	Distinct int      `json:"distinct"`
	// WholeTable tells that the numbers are the table's, counted on the host, and not the
	// listing's.
	WholeTable bool `json:"whole_table,omitempty"`
}

// Holder is a number of entries of one.
type Holder struct {
	Name    string  `json:"name"`
	Entries int64   `json:"entries"`
	Share   float64 `json:"share"`
}

// Expectation counts expectations that are alike.
type Expectation struct {
	Helper    string  `json:"helper"`
	Class     string  `json:"class"`
	Permanent bool    `json:"permanent,omitempty"`
	Inactive  bool    `json:"inactive,omitempty"`
	Entries   int     `json:"entries"`
	Left      *Spread `json:"left_s,omitempty"`
}

// Counter is a counter of the kernel that tells something.
type Counter struct {
	Name  string `json:"name"`
	Value int64  `json:"value"` // since the kernel booted, over the CPUs that were shown
	// PerSecond is the growth between two readings; nil without a second one.
	PerSecond *float64 `json:"per_s,omitempty"`
	// FirstCPU tells that the value is one CPU's.
	FirstCPU bool `json:"first_cpu,omitempty"`
}

// topHolders bounds the number of holders that are named.
const topHolders = 10

// Explain explains a capture.
func Explain(c *capture.Capture, o Options) *Explanation {
	x := &Explanation{Kernel: c.Kernel, Log: c.Log}
	b := newBook(c)
	x.Sample = b.sample
	x.size(c, b)
	x.Groups = groups(c.Table.Entries)
	x.holders(c)
	x.Peers = peers(c)
	for _, e := range c.Table.Entries {
		if !e.Assured {
			x.Evictable++
		}
		source, destination := e.Translated()
		if source {
			x.SourceTranslated++
		}
		if destination {
			x.DestinationTranslated++
		}
	}
	x.Expectations = expectations(c.Expectations)
	x.counters(c)
	x.Idle = b.idle()
	x.Rates = b.rates()
	x.Ages = b.ages()
	x.Growth = b.growth()
	traffic, err := FindTraffic(c)
	if err != nil || traffic.Assumed {
		traffic = nil // of a selection, or of a part of unknown size
	} else {
		x.Lives = b.lives(traffic)
	}
	x.Changes = b.changes(o, traffic)
	x.Assumed = b.assumed
	x.find(c, b)
	x.limits(c, b)
	return x
}

// size fills in how full the table is.
func (x *Explanation) size(c *capture.Capture, b *book) {
	s := &x.Size
	s.Count, s.Max, s.Buckets = c.Sizes.Count, c.Sizes.Max, c.Sizes.Buckets
	count := b.count()
	known := s.Count != nil || count > 0
	if s.Max != nil && *s.Max > 0 && known {
		s.Fill = new(float64(count) / float64(*s.Max))
	}
	if s.Buckets != nil && *s.Buckets > 0 && known {
		s.Chain = new(2 * float64(count) / float64(*s.Buckets))
	}
	if s.Count != nil && b.sample.Whole > 0 {
		s.Expired = new(*s.Count - b.sample.Whole)
	}
}

type groupKey struct {
	family, protocol, service, state string
	kind                             capture.Kind
}

// manyServices limits the services of one kind of entries: beyond it, the rare ones count as other.
const manyServices = 6

// groups counts the entries by what they are.
func groups(entries []capture.Entry) []Group {
	services := map[groupKey]map[string]int{}
	for _, e := range entries {
		k := keyOf(e)
		k.service = ""
		if services[k] == nil {
			services[k] = map[string]int{}
		}
		services[k][e.Service()]++
	}
	left := map[groupKey][]float64{}
	counts := map[groupKey]int{}
	for _, e := range entries {
		k := keyOf(e)
		of := k
		of.service = ""
		if all := services[of]; len(all) > manyServices && !frequent(all, k.service) {
			k.service = "other"
		}
		counts[k]++
		if e.Left >= 0 {
			left[k] = append(left[k], float64(e.Left))
		}
	}
	var list []Group
	for k, n := range counts {
		list = append(list, Group{
			Family: k.family, Protocol: k.protocol, Service: k.service, State: k.state,
			Kind: k.kind, Entries: n, Left: spread(left[k]),
		})
	}
	slices.SortFunc(list, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Entries, a.Entries), cmp.Compare(a.Family, b.Family),
			cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Service, b.Service),
			cmp.Compare(a.State, b.State), cmp.Compare(a.Kind, b.Kind))
	})
	return list
}

func keyOf(e capture.Entry) groupKey {
	k := groupKey{"ipv4", e.Protocol, e.Service(), e.State, e.Kind()}
	if e.IPv6() {
		k.family = "ipv6"
	}
	return k
}

// frequent reports whether a service has at least 2 % of the entries of its kind, and more than
// one.
func frequent(all map[string]int, service string) bool {
	sum := 0
	for _, n := range all {
		sum += n
	}
	return all[service] > 1 && all[service]*50 >= sum
}

// spread returns the range of values; nil without values.
func spread(values []float64) *Spread {
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	middle := len(values) / 2
	median := values[middle]
	if len(values)%2 == 0 {
		median = (values[middle-1] + values[middle]) / 2
	}
	return &Spread{Min: values[0], Median: median, Max: values[len(values)-1]}
}

// holders finds the sources, targets and services that hold most entries.
func (x *Explanation) holders(c *capture.Capture) {
	var sources, targets, services []string
	for _, e := range c.Table.Entries {
		sources = append(sources, e.Original.Source.String())
		targets = append(targets, e.Original.Destination.String())
		services = append(services, endpoint(e))
	}
	x.Sources, x.Targets, x.Services = top(sources), top(targets), top(services)
	if known := c.Table.Holders; len(known) > 0 {
		all := float64(x.Sample.Whole)
		if all == 0 && c.Sizes.Count != nil {
			all = float64(*c.Sizes.Count)
		}
		h := Holders{Distinct: x.Sources.Distinct, WholeTable: true}
		for _, k := range known {
			holder := Holder{Name: k.Address.String(), Entries: k.Entries}
			if all > 0 {
				holder.Share = float64(k.Entries) / all
			}
			h.Top = append(h.Top, holder)
		}
		x.Sources = h
	}
}

// endpoint names the destination of a connection: address and port, or type of ICMP.
func endpoint(e capture.Entry) string {
	if port := e.Original.DestinationPort; port != 0 {
		return netip.AddrPortFrom(e.Original.Destination, port).String()
	}
	if service := e.Service(); service != "" {
		return e.Original.Destination.String() + " " + service
	}
	return e.Original.Destination.String()
}

// top counts names and returns the most frequent ones.
func top(names []string) Holders {
	counts := map[string]int64{}
	for _, n := range names {
		counts[n]++
	}
	h := Holders{Distinct: len(counts)}
	for name, n := range counts {
		h.Top = append(h.Top, Holder{name, n, float64(n) / float64(len(names))})
	}
	slices.SortFunc(h.Top, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(b.Entries, a.Entries), cmp.Compare(a.Name, b.Name))
	})
	h.Top = h.Top[:min(len(h.Top), topHolders)]
	return h
}

// expectations counts expectations by what they are.
func expectations(all []capture.Expectation) []Expectation {
	counts := map[Expectation]int{}
	left := map[Expectation][]float64{}
	for _, x := range all {
		k := Expectation{
			Helper: x.Helper, Class: x.Class, Permanent: x.Permanent, Inactive: x.Inactive,
		}
		counts[k]++
		if x.Left >= 0 {
			left[k] = append(left[k], float64(x.Left))
		}
	}
	var list []Expectation
	for k, n := range counts {
		x := k
		x.Entries, x.Left = n, spread(left[k])
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b Expectation) int {
		return cmp.Or(cmp.Compare(b.Entries, a.Entries),
			cmp.Compare(fmt.Sprint(a.Helper, a.Class), fmt.Sprint(b.Helper, b.Class)))
	})
	return list
}

// told are the counters that tell something about refused, evicted and lost packets.
var told = []string{
	"drop", "early_drop", "insert_failed", "clash_resolve", "clashres", "chaintoolong", "found",
	"invalid", "error", "icmp_error",
}

// counters takes over the counters of the last reading, with their growth since the first.
func (x *Explanation) counters(c *capture.Capture) {
	if len(c.Counters) == 0 {
		return
	}
	first, last := c.Counters[0], c.Counters[len(c.Counters)-1]
	seconds := 0.0
	for _, reading := range c.Counters[1:] {
		if reading.Seconds == 0 {
			seconds = 0
			break
		}
		seconds += reading.Seconds
	}
	for _, name := range told {
		value, ok := last.Sum[name]
		if !ok {
			continue
		}
		counter := Counter{Name: name, Value: value, FirstCPU: last.FirstCPU}
		if seconds > 0 {
			counter.PerSecond = new(float64(value-first.Sum[name]) / seconds)
		}
		x.Counters = append(x.Counters, counter)
	}
}

// growth returns the growth of a counter a second; 0 where it is unknown.
func (x *Explanation) growth(name string) float64 {
	for _, c := range x.Counters {
		if c.Name == name && c.PerSecond != nil {
			return *c.PerSecond
		}
	}
	return 0
}

// value returns a counter; 0 where it was not shown.
func (x *Explanation) value(name string) int64 {
	for _, c := range x.Counters {
		if c.Name == name {
			return c.Value
		}
	}
	return 0
}

// round rounds a number of entries.
func round(n float64) int64 { return int64(math.Round(n)) }
