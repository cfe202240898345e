package explain

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/kernels"
)

// Options say which changes are of interest besides those that suggest themselves.
type Options struct {
	// Set holds settings and the values to try, by key.
	Set []kernels.Setting
	// Only leaves out the changes that suggest themselves.
	Only bool
}

// ChangeKind tells what a change changes.
type ChangeKind string

// The kinds of changes.
const (
	ChangeTimeout  ChangeKind = "timeout"      // a shorter or longer timeout
	ChangeMax      ChangeKind = "max"          // a larger table, with buckets as many
	ChangeNotrack  ChangeKind = "notrack"      // a service that is not tracked, in both directions
	ChangeLimit    ChangeKind = "source-limit" // at most so many connections for a source
	ChangeTogether ChangeKind = "together"     // several settings at once
	ChangeDrop     ChangeKind = "drop-source"  // a source that is dropped before it is tracked
)

// Change is one change of the host, and what the table would hold in its steady state: after the
// old entries have gone, since a changed timeout does not shorten what an entry has left.
type Change struct {
	Kind  ChangeKind `json:"kind"`
	What  string     `json:"what"`            // the key, service or source
	Value string     `json:"value,omitempty"` // the value of the key, or the limit
	From  string     `json:"from,omitempty"`  // the value of the key now
	// Listed is the number of entries of the listing that stay; nil where the listing does not
	// tell.
	Listed *int64 `json:"leaves_listed,omitempty"`
	// Leaves is the number of living entries in the whole table; nil where the texts do not tell.
	Leaves *int64 `json:"leaves,omitempty"`
	// Count is what a simulation of the table counts, expired entries included. A larger table has
	// as many buckets for each entry. Nil: the load or the size is unknown, or no setting changes.
	Count *Simulated `json:"count,omitempty"`
	// Within is the relative error of Leaves by chance: twice the standard error of a sample, and
	// of arrivals that come at random.
	Within *float64 `json:"within,omitempty"`
	// Fill is Leaves / max, with the max of the change.
	Fill *float64 `json:"fill,omitempty"`
	// MoreRefused tells that the table is at its limit: what was refused until now comes on top.
	MoreRefused bool `json:"more_refused,omitempty"`
	// Seconds is the time until the change shows: the old timeout.
	Seconds float64 `json:"shows_after_s,omitempty"`
	Note    string  `json:"note,omitempty"`
}

// trial is a changed timeout that is tried where the state has a share of the entries.
var trials = []struct {
	key    string
	values []float64
}{
	{"tcp_timeout_time_wait", []float64{30, 10}},
	{"tcp_timeout_established", []float64{86400, 3600}},
	{"tcp_timeout_close_wait", []float64{600, 60}},
	{"tcp_timeout_syn_sent", []float64{10, 5}},
	{"tcp_timeout_syn_recv", []float64{10}},
	{"tcp_timeout_fin_wait", []float64{30}},
	{"udp_timeout", []float64{10}},
	{"udp_timeout_stream", []float64{60}},
	{"icmp_timeout", []float64{10}},
	{"icmpv6_timeout", []float64{10}},
	{"generic_timeout", []float64{60}},
}

// worthwhile is the least share of the entries that a state must have for its timeout to be tried.
const worthwhile = 0.02

// changes returns what each change would leave, fewest entries first; t is the load that the table
// tells of, nil where none is known.
func (b *book) changes(o Options, t *Traffic) []Change {
	list := b.proposals(o)
	for i := range list {
		c := &list[i]
		values, limit := map[string]float64{}, int64(0)
		if m := b.c.Sizes.Max; m != nil {
			limit = *m
		}
		settings := []kernels.Setting{{Key: c.What, Value: c.Value}}
		switch c.Kind {
		case ChangeTogether:
			settings = o.Set
		case ChangeTimeout, ChangeMax:
		default:
			settings = nil
		}
		for _, s := range settings {
			value, err := strconv.ParseFloat(s.Value, 64)
			switch {
			case err != nil:
			case s.Key == kernels.KeyMax:
				limit = int64(value)
			default:
				values[s.Key] = value
			}
		}
		if len(settings) > 0 {
			c.Count = b.simulate(t, values, limit)
		}
		if c.Leaves != nil && *c.Leaves > 0 {
			c.Within = new(b.within(c))
		}
	}
	return list
}

// within returns the relative error of a number of entries by chance: that of a count of random
// arrivals, and of a sample where only a part was listed.
func (b *book) within(c *Change) float64 {
	n := float64(*c.Leaves)
	error := 1 / n
	if c.Listed != nil && *c.Listed > 0 && b.sample.Factor > 1 {
		error += (1 - 1/b.sample.Factor) / float64(*c.Listed)
	}
	return 2 * math.Sqrt(error)
}

// proposals returns the changes of interest.
func (b *book) proposals(o Options) (list []Change) {
	asked := map[string]bool{}
	for _, s := range o.Set {
		asked[s.Key] = true
		list = append(list, b.setting(s)...)
	}
	if len(o.Set) > 1 {
		list = append(list, b.together(o.Set))
	}
	if o.Only {
		return list
	}
	for _, trial := range trials {
		key := kernels.Prefix + trial.key
		if asked[key] || b.share(key) < worthwhile {
			continue
		}
		for _, value := range trial.values {
			if value < b.timeout(key) {
				list = append(list, b.withTimeout(key, value))
			}
		}
	}
	list = append(list, b.notrack()...)
	list = append(list, b.bySource()...)
	if !asked[kernels.KeyMax] {
		list = append(list, b.larger()...)
	}
	slices.SortStableFunc(list, func(x, y Change) int {
		return cmp.Or(cmp.Compare(leaves(x), leaves(y)))
	})
	return list
}

// leaves returns what a change leaves, to sort by.
func leaves(c Change) int64 {
	switch {
	case c.Leaves != nil:
		return *c.Leaves
	case c.Listed != nil:
		return *c.Listed
	}
	return 1 << 62
}

// CanSet reports whether Options may hold a setting: the size of the table or one of its timeouts.
func CanSet(key string) bool {
	name, ours := strings.CutPrefix(key, kernels.Prefix)
	return key == kernels.KeyMax ||
		ours && strings.Contains(name, "timeout") && slices.Contains(kernels.Settings, name)
}

// setting returns the change that a setting of the user's makes.
func (b *book) setting(s kernels.Setting) []Change {
	value, err := strconv.ParseFloat(s.Value, 64)
	if err != nil {
		return nil
	}
	switch {
	case s.Key == kernels.KeyMax:
		return []Change{b.withMax(int64(value))}
	case CanSet(s.Key):
		return []Change{b.withTimeout(s.Key, value)}
	}
	return nil
}

// together returns what several settings of the user's make at once.
func (b *book) together(settings []kernels.Setting) Change {
	all := *b
	all.c = new(*b.c)
	all.c.Sizes.Max = b.c.Sizes.Max
	c := Change{Kind: ChangeTogether, MoreRefused: b.full()}
	values, names := map[string]float64{}, []string{}
	for _, s := range settings {
		value, err := strconv.ParseFloat(s.Value, 64)
		if err != nil {
			continue
		}
		names = append(names, strings.TrimPrefix(s.Key, kernels.Prefix)+" "+s.Value)
		if s.Key == kernels.KeyMax {
			all.c.Sizes.Max = new(int64(value))
			continue
		}
		values[s.Key] = value
		c.Seconds = max(c.Seconds, b.timeout(s.Key))
	}
	c.What = strings.Join(names, ", ")
	if b.sample.Scope == capture.Selection || b.sample.Entries == 0 {
		return c
	}
	c.Listed = new(round(b.stayAll(values, 1)))
	if f := b.sample.Factor; f > 0 {
		all.complete(&c, b.stayAll(values, f))
	}
	return c
}

// share returns the share of the entries whose timeout has the key.
func (b *book) share(key string) float64 {
	if state := stateOf(key); state != "" && len(b.c.Table.States) > 0 && b.sample.Whole > 0 {
		return float64(b.c.Table.States[state]) / float64(b.sample.Whole)
	}
	n := 0
	for _, c := range b.classes {
		if c.key == key {
			n += len(c.entries)
		}
	}
	return float64(n) / float64(max(1, b.sample.Entries))
}

// stateOf returns the state whose timeout has the key; empty: it is no timeout of TCP.
func stateOf(key string) string {
	rest, ok := strings.CutPrefix(key, kernels.Prefix+"tcp_timeout_")
	if !ok {
		return ""
	}
	return strings.ToUpper(rest)
}

// withTimeout returns what another timeout would leave.
func (b *book) withTimeout(key string, value float64) Change {
	c := Change{
		Kind: ChangeTimeout, What: key, Value: format(value), From: format(b.timeout(key)),
		Seconds: b.timeout(key), MoreRefused: b.full(),
	}
	old := b.timeout(key)
	if b.sample.Scope == capture.Selection || b.sample.Entries == 0 {
		state := stateOf(key)
		n, ok := b.c.Table.States[state]
		listed := slices.ContainsFunc(b.classes, func(c *class) bool { return c.key == key })
		switch {
		case state == "ESTABLISHED" && !listed:
			c.Note = fmt.Sprintf("the ages of these entries were not shown: at most %d fewer", n)
		case ok && old > 0 && b.sample.Whole > 0:
			// The times left of a steady stream spread evenly from 0 to the timeout.
			rest := float64(b.sample.Whole - n)
			b.complete(&c, rest+float64(n)*min(1, value/old))
		}
		if listed {
			c.Listed = new(round(b.stay(key, value, 1)))
		}
		return c
	}
	c.Listed = new(round(b.stay(key, value, 1)))
	if f := b.sample.Factor; f > 0 {
		b.complete(&c, b.stay(key, value, f))
	}
	for _, class := range b.classes {
		if class.key == key && class.truncated {
			c.Listed, c.MoreRefused = nil, false
		}
	}
	return c
}

// complete stores what the whole table would hold.
func (b *book) complete(c *Change, living float64) {
	c.Leaves = new(round(living))
	limit := b.c.Sizes.Max
	if limit != nil && *limit > 0 {
		c.Fill = new(living / float64(*limit))
	}
}

// stay returns how many entries live with another timeout, in entries of the listing times factor.
func (b *book) stay(key string, value, factor float64) float64 {
	return b.stayAll(map[string]float64{key: value}, factor)
}

// stayAll does the same for several timeouts, by key.
func (b *book) stayAll(values map[string]float64, factor float64) (sum float64) {
	for _, c := range b.classes {
		value, changed := values[c.key]
		switch {
		case !changed:
			sum += float64(len(c.entries)) * factor
		case c.truncated:
			sum += b.arriving(c, factor) * value
		default:
			stays := len(c.entries) - len(c.ages)
			grown := max(1, value/c.timeout) // a longer timeout keeps what a shorter one lost
			for _, age := range c.ages {
				if age <= value {
					stays++
				}
			}
			n := float64(stays)
			if grown > 1 && c.what() != "" {
				n = float64(len(c.entries)) * grown
			}
			sum += n * factor
		}
	}
	return sum
}

// arriving returns how many entries of a class come a second while eviction removes them early: by
// the kernel's counter where it evicts this class, else by their mean age.
func (b *book) arriving(c *class, factor float64) float64 {
	evictable := 0
	for _, other := range b.classes {
		if !other.assured() {
			evictable += len(other.entries)
		}
	}
	if b.evicting > 0 && float64(len(c.entries)) > 0.8*float64(evictable) {
		return b.evicting
	}
	return float64(len(c.entries)) * factor / c.meanAge()
}

// withMax returns what a table of another size, with as many buckets, would hold.
func (b *book) withMax(value int64) Change {
	c := Change{Kind: ChangeMax, What: kernels.KeyMax, Value: strconv.FormatInt(value, 10),
		MoreRefused: b.full()}
	if m := b.c.Sizes.Max; m != nil {
		c.From = strconv.FormatInt(*m, 10)
	}
	living := float64(b.sample.Whole)
	if living == 0 {
		living = float64(b.count())
	}
	for _, class := range b.classes {
		if class.truncated {
			now := float64(len(class.entries)) * b.sample.Factor
			living += b.arriving(class, b.sample.Factor)*class.timeout - now
			c.MoreRefused = false
		}
	}
	if living == 0 {
		return c
	}
	c.Leaves, c.Fill = new(round(living)), new(living/float64(value))
	if n := b.c.Sizes.Buckets; n != nil && *n > 0 && value > *n {
		c.Note = fmt.Sprintf("with %d buckets a full table has chains of %d on average: "+
			"raise nf_conntrack_buckets too", *n, 2*value / *n)
	}
	return c
}

// larger returns larger tables, where the table is at its limit or near it: four times as large,
// and the smallest power of two of which the load takes less than three quarters.
func (b *book) larger() (list []Change) {
	limit := b.c.Sizes.Max
	if limit == nil || *limit == 0 || float64(b.count()) < 0.7*float64(*limit) {
		return nil
	}
	c := b.withMax(4 * *limit)
	list = append(list, c)
	if c.Fill == nil || *c.Fill < 0.75 {
		return list
	}
	value := int64(1)
	for value < 1<<31 && float64(*c.Leaves) > 0.75*float64(value) {
		value *= 2
	}
	return append(list, b.withMax(value))
}

// notrackShare is the least share of the entries that a service must have to be worth a rule.
const notrackShare = 0.2

// fewEntries is below how many listed entries the shares of services and sources tell nothing.
const fewEntries = 20

// notrack returns what stays where a service is not tracked, in both directions. A service whose
// connections are translated needs its entries.
func (b *book) notrack() (list []Change) {
	type service struct{ protocol, port string }
	counts, translated := map[service]int{}, map[service]int{}
	for _, e := range b.c.Table.Entries {
		if e.Original.DestinationPort == 0 {
			continue
		}
		s := service{e.Protocol, e.Service()}
		counts[s]++
		if source, destination := e.Translated(); source || destination {
			translated[s]++
		}
	}
	for s, n := range counts {
		share := float64(n) / float64(b.sample.Entries)
		if b.sample.Entries < fewEntries || share < notrackShare || translated[s] > 0 ||
			b.sample.Scope == capture.Selection {
			continue
		}
		c := Change{Kind: ChangeNotrack, What: s.protocol + " " + s.port,
			Listed: new(int64(b.sample.Entries - n)),
			Note:   "in both directions: answers that are tracked make entries again"}
		if b.sample.Factor > 0 {
			b.complete(&c, float64(b.sample.Entries-n)*b.sample.Factor)
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(x, y Change) int { return cmp.Compare(x.What, y.What) })
	return list
}

const (
	// sourceLimit is the number of connections that a limit for each source would allow.
	sourceLimit = 1000
	// dropShare is the least share of the entries that a source must have to be worth a rule.
	dropShare = 0.2
)

// bySource returns what stays where sources are limited or dropped.
func (b *book) bySource() (list []Change) {
	if holders := b.c.Table.Holders; len(holders) > 0 {
		living, over := float64(cmp.Or(b.sample.Whole, b.count())), 0
		for _, h := range holders {
			if h.Entries > sourceLimit {
				living -= float64(h.Entries - sourceLimit)
				over++
			}
		}
		if over > 0 && living > 0 {
			c := Change{Kind: ChangeLimit, What: fmt.Sprintf("%d sources", over),
				Value: strconv.Itoa(sourceLimit)}
			b.complete(&c, living)
			list = append(list, c)
		}
	}
	counts := map[string]int{}
	for _, e := range b.c.Table.Entries {
		counts[e.Original.Source.String()]++
	}
	for _, source := range slices.Sorted(maps.Keys(counts)) {
		n := counts[source]
		if b.sample.Entries < fewEntries || float64(n) < dropShare*float64(b.sample.Entries) ||
			b.sample.Scope == capture.Selection || b.serves(source) {
			continue
		}
		c := Change{Kind: ChangeDrop, What: source, Listed: new(int64(b.sample.Entries - n))}
		if b.sample.Factor > 0 {
			b.complete(&c, float64(b.sample.Entries-n)*b.sample.Factor)
		}
		list = append(list, c)
	}
	return list
}

// serves reports whether an address is a destination of many entries too, as the host itself is.
func (b *book) serves(address string) bool {
	n := 0
	for _, e := range b.c.Table.Entries {
		if e.Original.Destination.String() == address {
			n++
		}
	}
	return float64(n) >= 0.05*float64(b.sample.Entries)
}

// format formats a number of seconds without needless digits.
func format(seconds float64) string { return strconv.FormatFloat(seconds, 'f', -1, 64) }
