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
	Load      MomentLoad  `json:"load"` // of the entries that [Summed] names
	Probe     MomentProbe `json:"probe"`
	// Entries and Probes are the parts of Load and Probe by name, hostile entries among them.
	Entries map[string]MomentLoad  `json:"entries"`
	Probes  map[string]MomentProbe `json:"probes"`

	failed, broken int64 // attempts of all entries that are not hostile
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

// MomentLoad counts the attempts of the generators.
type MomentLoad struct {
	Offered     int64   `json:"offered"`
	Completed   int64   `json:"completed"`
	Sent        int64   `json:"sent"` // where no answer is asked for: in place of completed
	Failed      int64   `json:"failed"`
	Broken      int64   `json:"broken"` // of those failed: connections that were open and held
	Offering    float64 `json:"offered_per_s"`
	Completions float64 `json:"completed_per_s"`
	Failures    float64 `json:"failed_per_s"`
}

// MomentProbe counts the attempts of the bystanders, with the share of lost ones since the sample
// before, and the slowest answer among them in milliseconds; as before without an attempt.
type MomentProbe struct {
	Sent    int64   `json:"sent"`
	Lost    int64   `json:"lost"`
	Loss    float64 `json:"loss"`
	Latency float64 `json:"latency_ms"`
}

// rateWindow is the time, in seconds, that a rate covers.
const rateWindow = 1.0

// silence is the time, in seconds, without a sample that interrupts the time line: a node that is
// paused or boots gives no samples, and only the bystanders' attempts show that time.
const silence = 0.5

// momentsOf returns the time line of a trial, a moment for each sample; samples and attempts of the
// bystanders are in order of time. An attempt belongs to the first sample after it; where samples
// are missing it is a moment of its own, with the figures of the sample before.
func momentsOf(w Workload, samples []Sample, probes []ProbeSample) []Moment {
	list := make([]Moment, 0, len(samples))
	next, back := 0, 0
	probe := bystanding{each: map[string]MomentProbe{}}
	for name := range w.Probes {
		probe.each[name] = MomentProbe{}
	}
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
				probe = probe.add(probes[next : next+1])
				m := momentOf(w, samples[i-1], samples[i-1])
				m.Elapsed, m.Probe, m.Probes = probes[next].Seconds, probe.all, probe.each
				list = append(list, m)
			}
		}
		probe = probe.add(probes[next:until])
		next = until
		m := momentOf(w, samples[back], s)
		m.Probe, m.Probes = probe.all, probe.each
		list = append(list, m)
	}
	return list
}

// bystanding holds the attempts of all bystanders together, and of each by its name.
type bystanding struct {
	all  MomentProbe
	each map[string]MomentProbe
}

// add returns it with further attempts.
func (b bystanding) add(attempts []ProbeSample) bystanding {
	if len(attempts) == 0 {
		return b
	}
	b.all.add(attempts)
	byName := map[string][]ProbeSample{}
	for _, a := range attempts {
		byName[a.Probe] = append(byName[a.Probe], a)
	}
	b.each = maps.Clone(b.each)
	for name, attempts := range byName {
		p := b.each[name]
		p.add(attempts)
		b.each[name] = p
	}
	return b
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
func momentOf(w Workload, before, s Sample) Moment {
	m := Moment{
		Elapsed: s.Seconds,
		Conntrack: MomentTable{
			Count: s.Count, Max: s.Max, Buckets: s.Buckets, Fill: fillOf(s.Count, s.Max),
			Counters: s.Counters,
		},
		Entries: make(map[string]MomentLoad, len(w.Entries)),
	}
	seconds := s.Seconds - before.Seconds
	rate := func(now, then int64) float64 {
		if seconds <= 0 {
			return 0
		}
		return float64(now-then) / seconds
	}
	progressed := func(now, then Progress) MomentLoad {
		return MomentLoad{
			Offered: now.Offered, Completed: now.Done, Sent: now.Done, Failed: now.Failed,
			Broken: now.Broken, Offering: rate(now.Offered, then.Offered),
			Completions: rate(now.Done, then.Done), Failures: rate(now.Failed, then.Failed),
		}
	}
	m.Conntrack.Drops = rate(s.Counters.Drop, before.Counters.Drop)
	m.Conntrack.EarlyDrops = rate(s.Counters.EarlyDrop, before.Counters.EarlyDrop)
	m.Conntrack.InsertFails = rate(s.Counters.InsertFailed, before.Counters.InsertFailed)
	m.Load = progressed(s.Progress, before.Progress)
	m.failed, m.broken = s.Failed, s.Broken
	if len(w.Entries) > 0 {
		m.failed, m.broken = 0, 0
	}
	for name, e := range w.Entries {
		now := s.Entries[name]
		m.Entries[name] = progressed(now, before.Entries[name])
		if e.Role != Hostile {
			m.failed, m.broken = m.failed+now.Failed, m.broken+now.Broken
		}
	}
	return m
}

// Live gathers the time line of a workload while the trial runs, with the loss of the last second.
type Live struct {
	Workload Workload
	recent   []Sample
	probes   []map[string]MomentProbe
}

// Add takes a sample and the figures of the bystanders by then, by name, and returns the moment.
func (l *Live) Add(s Sample, probes map[string]MomentProbe) Moment {
	l.recent, l.probes = append(l.recent, s), append(l.probes, probes)
	for len(l.recent) > 2 && l.recent[1].Seconds <= s.Seconds-rateWindow {
		l.recent, l.probes = l.recent[1:], l.probes[1:]
	}
	m := momentOf(l.Workload, l.recent[0], s)
	m.Probes = make(map[string]MomentProbe, len(probes))
	var before MomentProbe // all together
	for name, p := range probes {
		then := l.probes[0][name]
		m.Probe.Sent, m.Probe.Lost = m.Probe.Sent+p.Sent, m.Probe.Lost+p.Lost
		m.Probe.Latency = max(m.Probe.Latency, p.Latency)
		before.Sent, before.Lost = before.Sent+then.Sent, before.Lost+then.Lost
		p.Loss = p.lossSince(then)
		m.Probes[name] = p
	}
	m.Probe.Loss = m.Probe.lossSince(before)
	return m
}

// lossSince returns the lost share of the attempts since an earlier moment.
func (p MomentProbe) lossSince(before MomentProbe) float64 {
	if p.Sent == before.Sent {
		return p.Loss
	}
	return float64(p.Lost-before.Lost) / float64(p.Sent-before.Sent)
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

// firsts returns the conditions that "first" may name: the counters of conntrack, other losses.
func firsts(w Workload) map[string]string {
	conditions := map[string]string{"failed": anyFailed(w), "loss": "probe.lost > 0"}
	for _, c := range ConntrackCounters {
		conditions[c.Name] = "conntrack." + c.Name + " > 0"
	}
	return conditions
}

// anyFailed returns the condition that an attempt failed, of any entry that is not hostile where
// their load has no sum.
func anyFailed(w Workload) string {
	names := own(w.Entries)
	if _, why := Summed(w.Entries); why == "" || len(names) == 0 {
		return "load.failed > 0"
	}
	var each []string
	for _, name := range names {
		each = append(each, fmt.Sprintf("entries[%q].failed > 0", name))
	}
	return strings.Join(each, " or ")
}

// CompileCondition compiles a condition on the time line of a workload. An error is an
// [*exprError].
func CompileCondition(text string, w Workload) (*Condition, error) {
	expression := text
	if word, ok := strings.CutPrefix(strings.TrimSpace(text), "first "); ok {
		conditions := firsts(w)
		word = strings.TrimSpace(word)
		if conditions[word] == "" {
			hint := spelling.Hint(word, slices.Sorted(maps.Keys(conditions)))
			return nil, &exprError{"condition", text, 1, 7, fmt.Sprintf(
				"nothing of the time line that comes first is called %q%s", word, hint)}
		}
		expression = conditions[word]
	}
	fields := newFieldSet(reflect.TypeFor[Moment](), w, "the time line", "docs/language.md")
	compiled, err := compile(expression, "condition", fields)
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
