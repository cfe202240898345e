package compare

import (
	"maps"
	"math"
	"slices"

	"github.com/ctload/ctload/results"
)

// Metric is a figure of a trial by which runs are compared.
type Metric struct {
	Name string // its path in run.json
	// Part is the entry or the probe that it is of; empty: the whole trial. Figure is then its path
	// as of load, or of probe; else Name.
	Part, Figure string
	Unit         string // "ms", "s", "/s" or none, as for a count
	// Worse is the direction that is worse for the user: 1: more, -1: less, 0: neither.
	Worse int
	// Timing marks a figure that depends on the speed of the host as well as on the kernel.
	Timing bool
	// noise is the least difference that means something: of a count the share of the
	// attempts that it is a part of, of a time an amount in its own unit.
	noise float64
	value figure
	// whole is the number of attempts that a count is a part of.
	whole figure
	// ends marks how many attempts completed or failed, which few trials suffice to judge.
	ends bool
}

// figure reads a figure from a trial that has it. A time that did not come is +Inf. A quantile of
// nothing is missing.
type figure = func(*results.Trial) (float64, bool)

// metricsOf returns the figures by which scenarios are compared, in the order of the tables: those
// of each entry and of each probe where all trials have the same several ones, else those of the
// load and of all probes. Moments are as exact as samples and probes are frequent.
func metricsOf(sides []*results.Scenario) []Metric {
	var list []Metric
	if names, roles := entriesOf(sides); len(names) > 0 {
		for _, name := range names {
			of := func(field string) figure { return results.EntryFigure(name, field) }
			list = append(list, ofLoad("entries."+name+".", name, of, roles[name])...)
		}
	} else {
		of := func(field string) figure { return results.FigureAt("load." + field) }
		list = ofLoad("load.", "", of, "")
	}
	list = append(list,
		count("conntrack.peak", 0),
		count("conntrack.drop", 1),
		count("conntrack.early_drop", 1),
		count("conntrack.insert_failed", 1),
		timing("conntrack.seconds_to_full", "s", -1, 0.5),
		ofProbes(timing("conntrack.seconds_to_recover", "s", 1, 0.5)))
	if names := probesOf(sides); len(names) > 1 {
		for _, name := range names {
			of := func(field string) figure { return results.ProbeFigure(name, field) }
			list = append(list, ofProbe("probes."+name+".", name, of)...)
		}
		return list
	}
	return append(list, ofProbe("probe.", "", func(field string) figure {
		return results.FigureAt("probe." + field)
	})...)
}

// ofLoad returns the metrics of an entry, or of the load. Failures of a hostile entry are no worse
// and no better.
func ofLoad(prefix, part string, of func(string) figure, role results.Role) []Metric {
	list := []Metric{
		{Name: "completed", Worse: -1, noise: 0.001, ends: true},
		{Name: "failed", Worse: 1, noise: 0.001, ends: true},
		{Name: "rate_per_s", Unit: "/s", Worse: -1, Timing: true},
		{Name: "connect_ms.p50", Unit: "ms", Worse: 1, Timing: true},
		{Name: "connect_ms.p99", Unit: "ms", Worse: 1, Timing: true},
		{Name: "latency_ms.p50", Unit: "ms", Worse: 1, Timing: true},
		{Name: "latency_ms.p99", Unit: "ms", Worse: 1, Timing: true},
	}
	for i := range list {
		m := &list[i]
		m.value, m.whole = of(m.Name), of("offered")
		m.Name, m.Part, m.Figure = prefix+m.Name, part, "load."+m.Name
		if role == results.Hostile {
			m.Worse = 0
		}
	}
	return list
}

// ofProbe returns the metrics of a probe, or of all.
func ofProbe(prefix, part string, of func(string) figure) []Metric {
	return []Metric{
		{
			Name: prefix + "lost", Part: part, Figure: "probe.lost", Worse: 1, noise: 0.02,
			value: of("lost"), whole: of("sent"),
		},
		{
			Name: prefix + "latency_ms.p99", Part: part, Figure: "probe.latency_ms.p99", Unit: "ms",
			Worse: 1, Timing: true, value: of("latency_ms.p99"),
		},
	}
}

func count(name string, worse int) Metric {
	return Metric{
		Name: name, Figure: name, Worse: worse, noise: 0.001, value: results.FigureAt(name),
		whole: offered,
	}
}

func timing(name, unit string, worse int, noise float64) Metric {
	return Metric{
		Name: name, Figure: name, Unit: unit, Worse: worse, Timing: true, noise: noise,
		value: results.FigureAt(name),
	}
}

// ofProbes marks a figure that only a trial with bystanders has.
func ofProbes(m Metric) Metric {
	value := m.value
	m.value = func(t *results.Trial) (float64, bool) {
		v, ok := value(t)
		return v, ok && t.Probe != nil
	}
	return m
}

// offered returns how many attempts the load made, whatever their units.
func offered(t *results.Trial) (float64, bool) {
	if len(t.Entries) == 0 {
		return results.FigureAt("load.offered")(t)
	}
	var sum int64
	for _, e := range t.Entries {
		sum += e.Offered
	}
	return float64(sum), true
}

// entriesOf returns the names and the roles of the entries, where all valid trials have the same
// ones and load does not tell their figures: there are several, or it has no sum.
func entriesOf(sides []*results.Scenario) (names []string, roles map[string]results.Role) {
	apart := false
	for _, s := range sides {
		for t := range s.ValidTrials() {
			own := results.EntryNames(t.Entries)
			if names != nil && !slices.Equal(own, names) {
				return nil, nil
			}
			names, roles = own, map[string]results.Role{}
			for _, name := range own {
				roles[name] = t.Entries[name].Role
			}
			apart = apart || len(own) > 1 || t.Load == nil
		}
	}
	if !apart {
		return nil, nil
	}
	return names, roles
}

// probesOf returns the names of the probes, where all valid trials have the same ones.
func probesOf(sides []*results.Scenario) (names []string) {
	for _, s := range sides {
		for t := range s.ValidTrials() {
			own := slices.Sorted(maps.Keys(t.Probes))
			if names != nil && !slices.Equal(own, names) {
				return nil
			}
			names = own
		}
	}
	return names
}

// Values returns the metric's values in the valid trials of a scenario, in the order of the trials.
func (m Metric) Values(s *results.Scenario) []float64 {
	var values []float64
	for t := range s.ValidTrials() {
		if v, ok := m.value(t); ok {
			values = append(values, v)
		}
	}
	return values
}

// Words formats a value of the metric with its unit, Bare without.
func (m Metric) Words(v float64) string {
	switch {
	case m.Unit == "" || math.IsInf(v, 0) || math.IsNaN(v):
		return m.Bare(v)
	case m.Unit == "/s":
		return m.Bare(v) + m.Unit
	default:
		return m.Bare(v) + " " + m.Unit
	}
}

// Bare formats a value of the metric; the metric's name says the unit.
func (m Metric) Bare(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return results.Never
	case math.IsNaN(v):
		return "–"
	case m.Unit == "":
		return results.Count(int64(math.Round(v)))
	default:
		return results.Figure(v)
	}
}
