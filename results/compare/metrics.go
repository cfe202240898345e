package compare

import (
	"math"

	"github.com/ctload/ctload/results"
)

// Metric is a figure of a trial by which runs are compared. Name is its path in run.json.
type Metric struct {
	Name string
	Unit string // "ms", "s", "/s" or none, as for a count
	// Worse is the direction that is worse for the user: 1 when more is, -1 when less is, 0 when
	// neither.
	Worse int
	// Timing marks a figure that depends on the speed of the host as well as on the kernel.
	Timing bool
	value  func(*results.Trial) (float64, bool)
	// of returns the number of attempts of which the metric counts a part; nil stands for the
	// offered ones.
	of func(*results.Trial) int64
	// noise is what a difference must exceed to mean something: of a count the share of those
	// attempts, of a time an amount in its own unit.
	noise float64
}

// metrics are the compared figures, in the order of the tables. A time that did not come is later
// than any other, +Inf. Quantiles are missing where nothing completed.
var metrics = []Metric{
	count("load.completed", -1, func(t *results.Trial) int64 { return t.Load.Completed }),
	count("load.failed", 1, func(t *results.Trial) int64 { return t.Load.Failed }),
	timing("load.rate_per_s", "/s", -1, func(t *results.Trial) (float64, bool) { return t.Load.Rate, true }),
	quantile("load.connect_ms.p50", func(t *results.Trial) *results.Latency { return &t.Load.Connect }, func(l *results.Latency) float64 { return l.P50 }),
	quantile("load.connect_ms.p99", func(t *results.Trial) *results.Latency { return &t.Load.Connect }, func(l *results.Latency) float64 { return l.P99 }),
	quantile("load.latency_ms.p50", func(t *results.Trial) *results.Latency { return &t.Load.Latency }, func(l *results.Latency) float64 { return l.P50 }),
	quantile("load.latency_ms.p99", func(t *results.Trial) *results.Latency { return &t.Load.Latency }, func(l *results.Latency) float64 { return l.P99 }),
	count("conntrack.peak", 0, func(t *results.Trial) int64 { return t.Conntrack.Peak }),
	count("conntrack.drop", 1, func(t *results.Trial) int64 { return t.Conntrack.Drop }),
	count("conntrack.early_drop", 1, func(t *results.Trial) int64 { return t.Conntrack.EarlyDrop }),
	count("conntrack.insert_failed", 1, func(t *results.Trial) int64 { return t.Conntrack.InsertFailed }),
	sampled(timing("conntrack.seconds_to_full", "s", -1, func(t *results.Trial) (float64, bool) { return moment(t.Conntrack.SecondsToFull), true })),
	sampled(timing("conntrack.seconds_to_recover", "s", 1, func(t *results.Trial) (float64, bool) {
		return moment(t.Conntrack.SecondsToRecover), t.Probe != nil
	})),
	{
		Name: "probe.lost", Worse: 1, noise: 0.02,
		value: func(t *results.Trial) (float64, bool) {
			if t.Probe == nil {
				return 0, false
			}
			return float64(t.Probe.Lost), true
		},
		of: func(t *results.Trial) int64 { return t.Probe.Sent },
	},
	quantile("probe.latency_ms.p99", func(t *results.Trial) *results.Latency {
		if t.Probe == nil {
			return &results.Latency{}
		}
		return &t.Probe.Latency
	}, func(l *results.Latency) float64 { return l.P99 }),
}

func count(name string, worse int, value func(*results.Trial) int64) Metric {
	return Metric{Name: name, Worse: worse, noise: 0.001, value: func(t *results.Trial) (float64, bool) { return float64(value(t)), true }}
}

func timing(name, unit string, worse int, value func(*results.Trial) (float64, bool)) Metric {
	return Metric{Name: name, Unit: unit, Worse: worse, Timing: true, value: value}
}

// sampled sets the noise of a moment, which is known as finely as samples and probes follow each
// other.
func sampled(m Metric) Metric {
	m.noise = 0.5
	return m
}

func quantile(name string, of func(*results.Trial) *results.Latency, value func(*results.Latency) float64) Metric {
	return timing(name, "ms", 1, func(t *results.Trial) (float64, bool) {
		l := of(t)
		return value(l), l.Count > 0
	})
}

func moment(v *float64) float64 {
	if v == nil {
		return math.Inf(1)
	}
	return *v
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
