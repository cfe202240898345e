// Package goals says what a search varies: it reads a goal, gives a scenario each value that the
// search asks for, predicts the limit, and reads from a trial where the table would be full.
package goals

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/orchestrator/forecast"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/search"
)

// Quantity names the value that a search varies.
type Quantity string

// The quantities.
const (
	Rate    Quantity = "rate"    // of an entry of the workload
	Max     Quantity = "max"     // nf_conntrack_max
	Buckets Quantity = "buckets" // of the hash
	Memory  Quantity = "memory"  // of the DUT
	Timeout Quantity = "timeout" // of a state of connection tracking
	Cores   Quantity = "cores"   // vCPUs of the DUT
)

// Extreme is the end of a quantity's range that a search looks for.
type Extreme string

// The extremes, each a flag of the command.
const (
	Highest  Extreme = "highest"
	Smallest Extreme = "smallest"
	Longest  Extreme = "longest"
)

// Goal describes the limit that a search looks for.
type Goal struct {
	Extreme
	Quantity
	Of string // the entry of a rate, empty for the only one; the state of a timeout

	connections, rate float64 // of a metric, where they do not vary; see [Goal.loadRFC9693]
}

// quantities are those that go with each extreme; a colon means that a name follows.
var quantities = map[Extreme][]string{
	Highest:  {string(Rate)},
	Smallest: {string(Max), string(Buckets), string(Memory)},
	Longest:  {string(Timeout) + ":"},
}

// Quantities returns the words that go with an extreme, for a shell to complete.
func (e Extreme) Quantities() []string { return quantities[e] }

// Parse reads a goal as the flag of an extreme has it: rate, rate:load, max, timeout:time_wait.
func Parse(e Extreme, text string) (Goal, error) {
	word, of, named := strings.Cut(text, ":")
	g := Goal{Extreme: e, Quantity: Quantity(word), Of: of}
	var words []string
	for _, known := range quantities[e] {
		words = append(words, strings.TrimSuffix(known, ":"))
	}
	switch {
	case !slices.Contains(words, word):
		return g, fmt.Errorf("%q is not valid here%s", text, spelling.Hint(word, words))
	case named && of == "":
		return g, fmt.Errorf("%q ends in a colon; a name follows it", text)
	case named && g.Quantity != Rate && g.Quantity != Timeout:
		return g, fmt.Errorf("%q: no name goes with %s", text, word)
	case g.Quantity == Timeout:
		states := maps.Keys(timeouts)
		if _, ok := timeouts[of]; !ok {
			return g, fmt.Errorf("%q: a timeout needs its state, such as timeout:time_wait%s", text,
				spelling.Hint(of, slices.Sorted(states)))
		}
	}
	return g, nil
}

// timeouts are the keys of the timeouts, by their states.
var timeouts = kernels.StateKeys()

// States returns the states of connection tracking that have a timeout, sorted.
func States() []string { return slices.Sorted(maps.Keys(timeouts)) }

// String returns the goal as the command line has it.
func (g Goal) String() string {
	text := string(g.Extreme) + " " + string(g.Quantity)
	if g.Of != "" {
		text += ":" + g.Of
	}
	return text
}

// Unit returns the unit of the values.
func (g Goal) Unit() string {
	return map[Quantity]string{
		Rate: "/s", Max: "entries", Buckets: "buckets", Memory: "MiB", Timeout: "s",
		Establishment: "/s", Capacity: "entries", TearDown: "/s",
	}[g.Quantity]
}

// Settle completes the goal for a scenario: it finds the entry of a rate. The error says why the
// scenario has no such value to vary.
func (g Goal) Settle(topology scenarios.Topology, s scenarios.Resolved) (Goal, error) {
	if g.Metric() != "" {
		return g.settleRFC9693(topology, s)
	}
	if g.Quantity != Rate {
		return g, nil
	}
	var paced, others []string
	for _, e := range s.Workload {
		switch {
		case e.Probe != "":
		case e.Rate > 0:
			paced = append(paced, e.Name)
		default:
			others = append(others, e.Name)
		}
	}
	switch {
	case g.Of == "" && len(paced) == 1:
		g.Of = paced[0]
	case g.Of == "" && len(paced) > 1:
		return g, fmt.Errorf("scenario %s has several entries with a rate; name one of them: "+
			"rate:%s", s.Name, strings.Join(paced, ", rate:"))
	case slices.Contains(paced, g.Of):
	case slices.Contains(others, g.Of) || g.Of == "" && len(others) > 0:
		name := g.Of
		if name == "" {
			name = others[0]
		}
		return g, fmt.Errorf("scenario %s: the entry %s has no rate to vary, but a closed loop or "+
			"a profile; give it one, such as rate: 100/s, and a duration", s.Name, name)
	default:
		return g, fmt.Errorf("scenario %s has no entry %q with a rate%s", s.Name, g.Of,
			spelling.Hint(g.Of, paced))
	}
	e := s.Workload[g.entry(s)]
	if e.Duration == 0 && e.Number() == 0 && e.Phase == "" {
		return g, fmt.Errorf("scenario %s: the entry %s has no duration", s.Name, e.Name)
	}
	return g, nil
}

// entry returns the index of the entry of a rate.
func (g Goal) entry(s scenarios.Resolved) int {
	return slices.IndexFunc(s.Workload, func(e scenarios.Entry) bool { return e.Name == g.Of })
}

// At returns the scenario with a value, under a name of its own. An entry whose rate changes makes
// load for as long as before: it makes more requests, connections or flows, or fewer.
func (g Goal) At(s scenarios.Resolved, value float64) scenarios.Resolved {
	text := strconv.FormatFloat(value, 'f', -1, 64)
	switch g.Quantity {
	case Establishment, Capacity, TearDown:
		s = g.loadRFC9693(s, value)
	case Rate:
		s.Workload = slices.Clone(s.Workload)
		e := &s.Workload[g.entry(s)]
		if n := float64(e.Number()); n > 0 && e.Generator == scenarios.Hold {
			e.Connections = max(1, scenarios.Count(math.Round(n/float64(e.Rate)*value)))
		} else if n > 0 {
			length := scenarios.Duration(n / float64(e.Rate) * 1e9)
			if e.Duration == 0 || length < e.Duration {
				e.Duration = length
			}
			e.Requests, e.Connections, e.Flows = 0, 0, 0
		}
		e.Rate = scenarios.Rate(value)
	case Max:
		s.DUT.Sysctl = with(s.DUT.Sysctl, kernels.KeyMax, text)
	case Timeout:
		s.DUT.Sysctl = with(s.DUT.Sysctl, timeouts[g.Of], text)
	case Buckets:
		s.DUT.Buckets = scenarios.Count(value)
		s.DUT.Sysctl = slices.DeleteFunc(slices.Clone(s.DUT.Sysctl),
			func(other scenarios.Setting) bool { return other.Key == kernels.KeyBuckets })
	case Memory:
		s.DUT.Memory = scenarios.Size(value) << 20
	case Cores:
		s.DUT.VCPUs = int(value)
	}
	key := string(g.Quantity)
	if g.Of != "" {
		key = g.Of + "." + key
	}
	s.Matrix = append(slices.Clone(s.Matrix), scenarios.Setting{Key: key, Value: text})
	s.Name += "@" + key + "=" + text
	return s
}

// with returns settings in which a key has a value.
func with(list scenarios.Settings, key, value string) scenarios.Settings {
	same := func(s scenarios.Setting) bool { return s.Key == key }
	list = slices.DeleteFunc(slices.Clone(list), same)
	return append(list, scenarios.Setting{Key: key, Value: value})
}

// Settings returns where a search over a scenario begins, and between which values it goes on.
func (g Goal) Settings(topology scenarios.Topology, s scenarios.Resolved) search.Settings {
	if g.Metric() != "" {
		return g.settingsRFC9693(topology, s)
	}
	own := forecast.Scenario(topology, s, 1)
	set := search.Settings{Smallest: g.Extreme == Smallest}
	switch g.Quantity {
	case Rate:
		set.Start = float64(s.Workload[g.entry(s)].Rate)
		set.Least, set.Most = max(1e-2, set.Start/1e3), min(1e7, set.Start*1e4)
	case Max:
		set.Start, set.Least, set.Most, set.Step = float64(own.Table.Max), 16, 1<<24, 1
	case Buckets: // the kernel rounds up to whole pages
		set.Start, set.Least, set.Most, set.Step = float64(own.Table.Buckets), 512, 1<<22, 512
	case Memory:
		set.Start, set.Least, set.Most = float64(s.DUT.Memory>>20), 64, 16<<10
		set.Step = 1
	case Timeout:
		set.Start, set.Least, set.Most, set.Step = float64(g.timeout(s)), 1, 5*86400, 1
	}
	set.Start = min(set.Most, max(set.Least, set.Start))
	set.Predicted = g.predict(topology, s, set)
	return set
}

// timeout returns the seconds of the goal's timeout in a scenario.
func (g Goal) timeout(s scenarios.Resolved) int64 {
	key := timeouts[g.Of]
	if text, ok := s.DUT.Sysctl.Get(key); ok {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	}
	return kernels.Timeouts(kernels.Named(s.DUT.Kernel))[key]
}

// predict returns the value at which the table is just not full by arithmetic; 0 where it is full
// at all values or at none.
func (g Goal) predict(
	topology scenarios.Topology, s scenarios.Resolved, set search.Settings,
) float64 {
	carries := func(position float64) bool {
		value := math.Exp(position)
		if set.Step > 0 {
			value = math.Round(value/set.Step) * set.Step
		}
		f := forecast.Scenario(topology, g.At(s, value), 1)
		return f.Tracked && f.Prediction.Overflow == 0
	}
	good, bad := math.Log(set.Least), math.Log(set.Most)
	if set.Smallest {
		good, bad = bad, good
	}
	if g.Quantity == Buckets || !carries(good) || carries(bad) {
		return 0
	}
	for math.Abs(good-bad) > 5e-3 {
		if middle := (good + bad) / 2; carries(middle) {
			good = middle
		} else {
			bad = middle
		}
	}
	return math.Exp(good)
}

// Short reports whether the load of a scenario with a value ends before its first entries expire: a
// longer load then has a lower limit. life is the life of an entry by arithmetic, in seconds.
func (g Goal) Short(
	topology scenarios.Topology, s scenarios.Resolved, value float64,
) (life float64, short bool) {
	p := forecast.Scenario(topology, g.At(s, value), 1).Prediction
	return p.Residence, p.Overflow == 0 && float64(p.Alive) < 0.99*p.Rate*p.Residence
}

// leastFill is the share of max that the table must hold for an estimate.
const leastFill = 0.1

// Estimate returns the limit by what the table held in a trial at a value, since living entries are
// linear in the rate, in the timeout and in the number of connections; of a tear-down the rate of
// the trial. It is 0 where the trial does not tell.
func (g Goal) Estimate(value float64, t *results.Trial) float64 {
	c := t.Conntrack
	own, room := float64(c.Peak-c.Baseline), float64(c.Max-c.Baseline)
	switch {
	case g.Quantity == TearDown:
		return tearDownRate(t)
	case !c.Tracked || c.Max <= 0 || own <= 0:
		return 0
	case g.Quantity == Max:
		return float64(c.Peak)
	case g.Quantity != Rate && g.Quantity != Timeout && g.Quantity != Capacity,
		own < leastFill*room:
		return 0
	}
	return value * room / own
}
