package results

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/expr-lang/expr"

	"github.com/ctload/ctload/internal/spelling"
)

// Moment is one instant of a time line, over which the steady state and the conditions of actions
// are expressions. Counts are since the start of the trial; rates cover the second before.
type Moment struct {
	Elapsed   float64     `json:"elapsed"` // seconds after the start of the load, negative before
	Conntrack MomentTable `json:"conntrack"`
	Load      MomentLoad  `json:"load"`
	Probe     MomentProbe `json:"probe"`
}

// MomentTable is the DUT's table.
type MomentTable struct {
	Count   int64   `json:"count"`
	Max     int64   `json:"max"`
	Buckets int64   `json:"buckets"`
	Fill    float64 `json:"fill"` // count / max
	Counters
	Drops       float64 `json:"drop_per_s"`
	EarlyDrops  float64 `json:"early_drop_per_s"`
	InsertFails float64 `json:"insert_failed_per_s"`
}

// MomentLoad is what the generators have done.
type MomentLoad struct {
	Offered     int64   `json:"offered"`
	Completed   int64   `json:"completed"`
	Failed      int64   `json:"failed"`
	Broken      int64   `json:"broken"` // of those failed: connections that were open and held
	Offering    float64 `json:"offered_per_s"`
	Completions float64 `json:"completed_per_s"`
	Failures    float64 `json:"failed_per_s"`
}

// MomentProbe is what the bystanders see: the share of lost attempts since the sample before, and
// the slowest answer among them in milliseconds; as before without an attempt.
type MomentProbe struct {
	Sent    int64   `json:"sent"`
	Lost    int64   `json:"lost"`
	Loss    float64 `json:"loss"`
	Latency float64 `json:"latency_ms"`
}

// rateWindow is the time, in seconds, that a rate covers.
const rateWindow = 1.0

// silence is how many seconds without a sample interrupt the time line: a node that is paused or
// boots gives no samples, and only the bystanders' attempts show that time.
const silence = 0.5

// momentsOf returns the time line of a trial, a moment for each sample; samples and attempts of the
// bystanders are in order of time. An attempt belongs to the first sample after it; where samples
// are missing it is a moment of its own, with the figures of the sample before.
func momentsOf(samples []Sample, probes []ProbeSample) []Moment {
	list := make([]Moment, 0, len(samples))
	next, back := 0, 0
	var probe MomentProbe
	for i, s := range samples {
		for back < i-1 && samples[back+1].Seconds <= s.Seconds-rateWindow {
			back++
		}
		until := next
		for until < len(probes) && probes[until].Seconds <= s.Seconds {
			until++
		}
		if i > 0 && s.Seconds-samples[i-1].Seconds > silence {
			for ; next < until; next++ {
				probe.add(probes[next : next+1])
				m := momentOf(samples[i-1], samples[i-1])
				m.Elapsed, m.Probe = probes[next].Seconds, probe
				list = append(list, m)
			}
		}
		probe.add(probes[next:until])
		next = until
		m := momentOf(samples[back], s)
		m.Probe = probe
		list = append(list, m)
	}
	return list
}

// add takes further attempts of the bystanders.
func (p *MomentProbe) add(attempts []ProbeSample) {
	if len(attempts) == 0 {
		return
	}
	lost, slowest := int64(0), -1.0
	for _, a := range attempts {
		if a.OK {
			slowest = max(slowest, a.Millis)
		} else {
			lost++
		}
	}
	p.Sent, p.Lost = p.Sent+int64(len(attempts)), p.Lost+lost
	p.Loss = float64(lost) / float64(len(attempts))
	if slowest >= 0 {
		p.Latency = slowest
	}
}

// momentOf returns the moment of a sample, its rates counted from an earlier one.
func momentOf(before, s Sample) Moment {
	m := Moment{
		Elapsed: s.Seconds,
		Conntrack: MomentTable{
			Count: s.Count, Max: s.Max, Buckets: s.Buckets, Fill: fillOf(s.Count, s.Max),
			Counters: s.Counters,
		},
		Load: MomentLoad{Offered: s.Offered, Completed: s.Done, Failed: s.Failed, Broken: s.Broken},
	}
	seconds := s.Seconds - before.Seconds
	rate := func(now, then int64) float64 {
		if seconds <= 0 {
			return 0
		}
		return float64(now-then) / seconds
	}
	m.Conntrack.Drops = rate(s.Counters.Drop, before.Counters.Drop)
	m.Conntrack.EarlyDrops = rate(s.Counters.EarlyDrop, before.Counters.EarlyDrop)
	m.Conntrack.InsertFails = rate(s.Counters.InsertFailed, before.Counters.InsertFailed)
	m.Load.Offering = rate(s.Offered, before.Offered)
	m.Load.Completions = rate(s.Done, before.Done)
	m.Load.Failures = rate(s.Failed, before.Failed)
	return m
}

// Live gathers the time line while the trial runs, with the loss of the last second.
type Live struct {
	recent []Sample
	probes []MomentProbe
}

// Add takes a sample and the figures of the bystanders by then, and returns the moment.
func (l *Live) Add(s Sample, probe MomentProbe) Moment {
	l.recent, l.probes = append(l.recent, s), append(l.probes, probe)
	for len(l.recent) > 2 && l.recent[1].Seconds <= s.Seconds-rateWindow {
		l.recent, l.probes = l.recent[1:], l.probes[1:]
	}
	m := momentOf(l.recent[0], s)
	if sent := probe.Sent - l.probes[0].Sent; sent > 0 {
		probe.Loss = float64(probe.Lost-l.probes[0].Lost) / float64(sent)
	}
	m.Probe = probe
	return m
}

// Condition is an expression (expr-lang.org) over the fields of a [Moment], such as
//
//	probe.loss == 0 and probe.latency_ms < 50
//	conntrack.count > 0.9 * conntrack.max
//
// or "first drop", which is conntrack.drop > 0; likewise the other counters, failed and loss.
type Condition struct {
	text      string
	threshold *Threshold
}

// momentFields are the names that conditions may use.
var momentFields = newFieldSet(reflect.TypeFor[Moment](), "the time line", "docs/language.md")

// firsts returns the conditions that "first" may name: the counters of conntrack, other losses.
func firsts() map[string]string {
	fields := map[string]string{"failed": "load.failed", "loss": "probe.lost"}
	for _, c := range ConntrackCounters {
		fields[c.Name] = "conntrack." + c.Name
	}
	return fields
}

// CompileCondition compiles a condition. An error is an [*exprError].
func CompileCondition(text string) (*Condition, error) {
	expression := text
	if word, ok := strings.CutPrefix(strings.TrimSpace(text), "first "); ok {
		fields := firsts()
		word = strings.TrimSpace(word)
		if fields[word] == "" {
			hint := spelling.Hint(word, slices.Sorted(maps.Keys(fields)))
			return nil, &exprError{"condition", text, 1, 7, fmt.Sprintf(
				"nothing of the time line that comes first is called %q%s", word, hint)}
		}
		expression = fields[word] + " > 0"
	}
	compiled, err := compile(expression, "condition", momentFields)
	if err != nil {
		return nil, err
	}
	return &Condition{text, compiled}, nil
}

func (c *Condition) String() string { return c.text }

// Holds evaluates the condition. One that cannot be evaluated does not hold.
func (c *Condition) Holds(m *Moment) bool {
	result, err := expr.Run(c.threshold.program, valuesOf(reflect.ValueOf(*m)))
	holds, _ := result.(bool) // the compiler ensures a bool
	return err == nil && holds
}

// Words returns the values of the condition's fields at a moment: "probe.loss = 1".
func (c *Condition) Words(m *Moment) string {
	return c.threshold.words(valuesOf(reflect.ValueOf(*m)))
}
