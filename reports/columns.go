package reports

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

// column is a column of the table. Its head is two lines: a group or unit, and the name.
type column struct {
	name   string // in a footnote, and as the header of other formats
	head   [2]string
	left   bool                 // aligned left
	cell   func(row) string     // of text; nil for a figure
	format func(float64) string // of a figure
	metric string               // the figure's path in run.json, by which scenarios are compared
	// part is the path for an entry, as of load, and for a probe, as of probe; empty: as metric.
	part     string
	figure   trialValue // nil for a column of text
	positive bool       // a figure of 0 does not exist
	// optional leaves the column out when no trial has the figure.
	optional bool
	// acted keeps an optional column where a trial of the run has actions.
	acted bool
}

// trialValue reads a figure from a trial, if the trial has it.
type trialValue = func(*results.Trial) (float64, bool)

// columns are all columns in the order of the table.
var columns = slices.Concat([]column{
	{name: "scenario", head: [2]string{"", "scenario"}, left: true, cell: nameCell},
	{name: "verdict", head: [2]string{"", "verdict"}, left: true, cell: verdictCell},
	number("offered", "", "offered", "load.offered"),
	number("completed", "", "completed", "load.completed"),
	number("failed", "", "failed", "load.failed"),
	rare(number("sent", "", "sent", "load.sent")),
	positive(figure("conn/s", "", "conn/s", "load.rate_per_s")),
	figure("connect p50 ms", "connect", "p50 ms", "load.connect_ms.p50"),
	figure("connect p99 ms", "connect", "p99 ms", "load.connect_ms.p99"),
	figure("connect max ms", "connect", "max ms", "load.connect_ms.max"),
	number("peak", "", "peak", "conntrack.peak"),
	number("max", "", "max", "conntrack.max"),
	number("buckets", "", "buckets", "conntrack.buckets"),
	share("fill %", "fill", "", func(t *results.Trial) (float64, bool) {
		return t.Conntrack.Fill(), t.Conntrack.Max > 0
	}),
}, counterColumns(false), []column{
	{name: "log lines", head: [2]string{"log", "lines"}, cell: logCell},
	figure("seconds to full", "full", "after s", "conntrack.seconds_to_full"),
	figure("seconds", "", "seconds", "seconds").inParts("load.seconds"),
}, counterColumns(true), []column{
	rare(share("probe lost %", "probe lost", "probe.lost", func(t *results.Trial) (float64, bool) {
		p := orZero(t.Probe)
		return float64(p.Lost) / float64(p.Sent), p.Sent > 0
	})).inParts("probe.loss"),
	rare(figure("probe p99 ms", "probe", "p99 ms", "probe.latency_ms.p99")),
	rare(figure("seconds to recover", "recovered", "after s", "conntrack.seconds_to_recover")).
		inParts("probe.seconds_to_recover"),
	heal(figure("seconds to heal", "heal", "after s", "heal.seconds_to_heal")),
	heal(number("broken", "", "broken", "heal.broken")),
	rare(figure("predicted peak", "predicted", "peak", "prediction.peak")),
	rare(share("softirq %", "softirq", "", func(t *results.Trial) (float64, bool) {
		return orZero(t.CPU).SoftIRQShare(), t.CPU != nil
	})),
})

// counterColumns returns those of conntrack's counters, from their table.
func counterColumns(optional bool) []column {
	var list []column
	for _, c := range results.ConntrackCounters {
		if c.Column == "" || c.RareColumn != optional {
			continue
		}
		group, head, _ := strings.Cut(c.Column, "|")
		col := number(c.Name, group, head, "conntrack."+c.Name)
		col.optional = optional
		list = append(list, col)
	}
	return list
}

// importance orders the columns: on a narrow terminal the last goes first.
var importance = slices.Concat(important, otherCounters(), []string{"predicted peak", "softirq %"})

var important = []string{
	"scenario", "verdict", "seconds to heal", "broken", "completed", "failed", "sent", "drop",
	"early_drop", "peak", "fill %", "connect p99 ms", "conn/s", "max", "seconds to full",
	"insert_failed", "log lines", "connect p50 ms", "connect max ms", "offered", "buckets",
	"seconds", "probe lost %", "seconds to recover", "probe p99 ms",
}

// otherCounters returns the columns of counters that have no place among the important ones.
func otherCounters() []string {
	var names []string
	for _, c := range results.ConntrackCounters {
		if c.Column != "" && !slices.Contains(important, c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

func number(name, group, head, path string) column {
	return formatted(name, group, head, path, recorded(path), func(v float64) string {
		return results.Count(int64(math.Round(v)))
	})
}

func figure(name, group, head, path string) column {
	return formatted(name, group, head, path, recorded(path), results.Figure)
}

func share(name, group, metric string, value trialValue) column {
	return formatted(name, group, "%", metric, value, func(v float64) string {
		return strings.TrimSuffix(results.Percent(v), " %")
	})
}

func formatted(
	name, group, head, metric string, value trialValue, format func(float64) string,
) column {
	return column{
		name: name, head: [2]string{group, head}, metric: metric, figure: value, format: format,
	}
}

// inParts gives the path of the column's figure in an entry or a probe.
func (c column) inParts(path string) column {
	c.part = path
	return c
}

// text returns the cell of a row.
func (c column) text(r row) string {
	if c.cell != nil {
		return c.cell(r)
	}
	return r.cell(c.of(r), c.format)
}

// of returns how to read the column's figure for a row; nil where the row has no such figure.
func (c column) of(r row) trialValue {
	value := c.figure
	if r.part != nil {
		value = r.part.figure(cmp.Or(c.part, c.metric))
	}
	if value == nil || !c.positive {
		return value
	}
	return func(t *results.Trial) (float64, bool) {
		v, ok := value(t)
		return v, ok && v > 0
	}
}

// recorded reads the figure at a path of run.json; a time that did not come is missing.
func recorded(path string) trialValue { return finite(results.FigureAt(path)) }

// finite returns how to read a figure that is missing where it is a time that did not come.
func finite(value trialValue) trialValue {
	return func(t *results.Trial) (float64, bool) {
		v, ok := value(t)
		return v, ok && !math.IsInf(v, 1)
	}
}

// positive marks a column of rates: where nothing completed, no rate exists.
func positive(c column) column {
	c.positive = true
	return c
}

// rare marks a column that is left out when all its figures are 0 or missing.
func rare(c column) column {
	c.optional = true
	return c
}

// heal marks a column that stays where a trial has actions: "nothing broke" is worth a column.
func heal(c column) column {
	c.optional, c.acted = true, true
	return c
}

func (c column) empty(list []row) bool {
	if c.acted {
		return !slices.ContainsFunc(list, row.acted)
	}
	return !slices.ContainsFunc(list, func(r row) bool {
		return slices.ContainsFunc(r.values(c.of(r)), func(v float64) bool { return v != 0 })
	})
}

// orZero returns a part of a trial, the zero value where the trial lacks it.
func orZero[T any](part *T) (value T) {
	if part != nil {
		value = *part
	}
	return value
}

func nameCell(r row) string {
	name := strings.ReplaceAll(r.name, "\n", " ")
	if r.part != nil {
		return "└ " + name
	}
	return name
}

func verdictCell(r row) string {
	switch {
	case r.part != nil:
		return r.part.words
	case r.trials == 0:
		return "not run"
	case len(r.valid) == 0:
		return "INVALID"
	}
	v, n := r.verdict()
	text := string(v)
	if n < len(r.valid) {
		text += fmt.Sprintf(" %d/%d", n, len(r.valid))
	}
	if t, ok := r.typical(); ok && t.Also != "" {
		text += "\n+ " + string(t.Also)
	}
	if n := len(r.invalid); n > 0 {
		text += fmt.Sprintf("\n%d INVALID", n)
	}
	return text
}

// logCell formats the medians of the "table full" lines, and of those that the kernel suppressed.
func logCell(r row) string {
	if r.part != nil {
		return ""
	}
	lines := r.values(func(t *results.Trial) (float64, bool) {
		return float64(t.Conntrack.LogLines), t.Conntrack.LogMissing == ""
	})
	if len(lines) == 0 {
		return none
	}
	suppressed := r.values(results.FigureAt("conntrack.log_suppressed"))
	text := results.Count(int64(math.Round(compare.Median(lines))))
	if n := int64(math.Round(compare.Median(suppressed))); n > 0 {
		text += " +" + results.Count(n)
	}
	return text
}

// none stands for a figure that does not exist: the table was never full, nothing completed.
const none = "–"

// row is a scenario, or a part of its workload, with the trials that count for its figures.
type row struct {
	name     string
	part     *part // nil: the whole scenario
	scenario *results.Scenario
	trials   int             // all of them but the repeated ones
	valid    []results.Trial // those whose figures count
	invalid  []results.Trial
	repeated []results.Trial // INVALID ones that another trial measured again
}

// part is an entry or a probe of a scenario.
type part struct {
	words string // kind and role
	// prefix begins the paths of its figures in run.json where these are of all entries or probes.
	prefix string
	read   func(field string) trialValue
}

// figure returns how to read the figure at a path; nil where the part has none.
func (p *part) figure(path string) trialValue {
	if field, ok := strings.CutPrefix(path, p.prefix); ok {
		return finite(p.read(field))
	}
	return nil
}

// withParts returns the rows of scenarios, each with those of its entries and its probes, where
// there are several or where the scenario's own row lacks the load; briefly the latter alone.
func withParts(list []row, briefly bool) []row {
	var all []row
	for _, r := range list {
		all = append(all, r)
		entries, probes := map[string]results.Entry{}, map[string]results.Probe{}
		summed := true
		for _, t := range r.valid {
			maps.Copy(entries, t.Entries)
			maps.Copy(probes, t.Probes)
			summed = summed && t.Load != nil
		}
		add := func(name string, p part) {
			all = append(all, row{name: name, part: &p, valid: r.valid})
		}
		if len(entries) > 1 && !briefly || !summed {
			for _, name := range results.EntryNames(entries) {
				words := entries[name].Kind
				if role := entries[name].Role; role != "" {
					words += ", " + string(role)
				}
				add(name, part{words, "load.", func(field string) trialValue {
					return results.EntryFigure(name, field)
				}})
			}
		}
		if len(probes) > 1 && !briefly {
			for _, name := range slices.Sorted(maps.Keys(probes)) {
				words := "probe " + probes[name].Kind
				add(name, part{words, "probe.", func(field string) trialValue {
					return results.ProbeFigure(name, field)
				}})
			}
		}
	}
	return all
}

func rows(run *results.Run) []row {
	var list []row
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		r := row{name: s.Name, scenario: s}
		for _, t := range s.Trials {
			switch {
			case t.RepeatedAs > 0:
				r.repeated = append(r.repeated, t)
			case t.Verdict == results.Invalid:
				r.invalid = append(r.invalid, t)
			default:
				r.valid = append(r.valid, t)
			}
		}
		r.trials = len(r.valid) + len(r.invalid)
		list = append(list, r)
	}
	return list
}

// acted reports whether a trial of the scenario has faults or fixes.
func (r row) acted() bool {
	return slices.ContainsFunc(r.valid, func(t results.Trial) bool { return len(t.Actions) > 0 })
}

// several reports whether any scenario has more than one trial.
func several(list []row) bool {
	return slices.ContainsFunc(list, func(r row) bool { return r.trials > 1 })
}

// verdict returns the worst verdict among the valid trials, and how many of them have it.
func (r row) verdict() (v results.Verdict, n int) {
	if len(r.valid) == 0 {
		return results.Invalid, 0
	}
	v = slices.MaxFunc(r.valid, func(a, b results.Trial) int {
		return a.Verdict.Compare(b.Verdict)
	}).Verdict
	return v, len(r.having(v))
}

// having returns the valid trials with a verdict.
func (r row) having(v results.Verdict) []results.Trial {
	return slices.DeleteFunc(slices.Clone(r.valid), func(t results.Trial) bool {
		return t.Verdict != v
	})
}

// typical returns the trial that represents the scenario, if it has a valid one.
func (r row) typical() (results.Trial, bool) {
	if t := r.scenario.Typical(); t != nil {
		return *t, true
	}
	return results.Trial{}, false
}

// cell formats the median of a figure, with the distance of the farthest valid trial from it.
func (r row) cell(value trialValue, format func(float64) string) string {
	if value == nil {
		return ""
	}
	values := r.values(value)
	if len(values) == 0 {
		return none
	}
	middle := compare.Median(values)
	text := format(middle)
	if spread := compare.Spread(values); spread > 0 {
		if math.IsInf(spread, 0) {
			text += fmt.Sprintf(" ±%s", format(slices.Max(values)))
		} else if percent := math.Round(spread * 100); percent > 0 {
			text += fmt.Sprintf(" ±%.0f%%", percent)
		}
	}
	return text
}

func (r row) values(value trialValue) []float64 {
	var values []float64
	if value == nil {
		return nil
	}
	for i := range r.valid {
		if v, ok := value(&r.valid[i]); ok {
			values = append(values, v)
		}
	}
	return values
}
