package compare

import (
	"math"

	"github.com/ctload/ctload/results"
)

// Metric is a figure of a trial by which runs are compared.
type Metric struct {
	Name string // its path in run.json
	Unit string // "ms", "s", "/s" or none, as for a count
	// Worse is the direction that is worse for the user: 1: more, -1: less, 0: neither.
	Worse int
	// Timing marks a figure that depends on the speed of the host as well as on the kernel.
	Timing bool
	// noise is the least difference that means something: of a count the share of the
	// attempts that it is a part of, of a time an amount in its own unit.
	noise float64
	value func(*results.Trial) (float64, bool)
}

// metrics are the compared figures, in the order of the tables. A time that did not come is +Inf. A
// quantile of nothing is missing. Moments are as exact as samples and probes are frequent.
var metrics = []Metric{
	count("load.completed", -1),
	count("load.failed", 1),
	timing("load.rate_per_s", "/s", -1, 0),
	timing("load.connect_ms.p50", "ms", 1, 0),
	timing("load.connect_ms.p99", "ms", 1, 0),
	timing("load.latency_ms.p50", "ms", 1, 0),
	timing("load.latency_ms.p99", "ms", 1, 0),
	count("conntrack.peak", 0),
	count("conntrack.drop", 1),
	count("conntrack.early_drop", 1),
	count("conntrack.insert_failed", 1),
	timing("conntrack.seconds_to_full", "s", -1, 0.5),
	ofProbe(timing("conntrack.seconds_to_recover", "s", 1, 0.5)),
	{Name: "probe.lost", Worse: 1, noise: 0.02, value: results.FigureAt("probe.lost")},
	timing("probe.latency_ms.p99", "ms", 1, 0),
}

func count(name string, worse int) Metric {
	return Metric{Name: name, Worse: worse, noise: 0.001, value: results.FigureAt(name)}
}

func timing(name, unit string, worse int, noise float64) Metric {
	at := results.FigureAt(name)
	return Metric{Name: name, Unit: unit, Worse: worse, Timing: true, noise: noise, value: at}
}

// ofProbe marks a figure that only a trial with bystanders has.
func ofProbe(m Metric) Metric {
	value := m.value
	m.value = func(t *results.Trial) (float64, bool) {
		v, ok := value(t)
		return v, ok && t.Probe != nil
	}
	return m
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
