package reports

import (
	"iter"
	"math"

	"github.com/ctload/ctload/results"
)

// SeriesSource provides what the folder of a run has beside run.json; a [results.Folder] is one.
type SeriesSource interface {
	Experiment() ([]byte, error)
	Series(*results.Trial) ([]results.Sample, []results.ProbeSample, error)
	Distributions(*results.Trial) (map[string]results.Distribution, error)
}

// Numbers of points that a page may hold: over all trials, and for each at least and at most.
const (
	pagePoints = 120_000
	fewPoints  = 300
	manyPoints = 2_000
)

// pointsPerTrial returns how finely each trial is drawn.
func pointsPerTrial(trials int) int {
	if trials == 0 {
		return manyPoints
	}
	return max(fewPoints, min(manyPoints, pagePoints/trials))
}

// thin leaves about n samples: the first, the last, and of each stretch of time the lowest and the
// highest count, which keeps every peak. Cumulative counters lose none of their rise.
func thin(samples []results.Sample, n int) []results.Sample {
	if len(samples) <= n {
		return samples
	}
	var kept []results.Sample
	for stretch := range stretches(samples, n) {
		low, high := 0, 0
		for i, s := range stretch {
			if s.Count < stretch[low].Count {
				low = i
			}
			if s.Count >= stretch[high].Count {
				high = i
			}
		}
		kept = append(kept, stretch[min(low, high)])
		if low != high {
			kept = append(kept, stretch[max(low, high)])
		}
	}
	if kept[0].Seconds != samples[0].Seconds {
		kept = append([]results.Sample{samples[0]}, kept...)
	}
	if last := samples[len(samples)-1]; kept[len(kept)-1].Seconds != last.Seconds {
		kept = append(kept, last)
	}
	return kept
}

// stretches divides a list into n/2 parts in their order.
func stretches[T any](list []T, n int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		size := float64(len(list)) / (float64(n) / 2)
		for from := 0.0; int(from) < len(list); from += size {
			if !yield(list[int(from):min(len(list), int(from+size))]) {
				return
			}
		}
	}
}

// thinProbes leaves about n attempts: of each stretch the slowest answer and one lost probe.
func thinProbes(probes []results.ProbeSample, n int) []results.ProbeSample {
	if len(probes) <= n {
		return probes
	}
	var kept []results.ProbeSample
	for stretch := range stretches(probes, n) {
		slowest, lost := -1, -1
		for i, p := range stretch {
			switch {
			case !p.OK:
				lost = i
			case slowest < 0 || p.Millis > stretch[slowest].Millis:
				slowest = i
			}
		}
		for _, i := range []int{min(slowest, lost), max(slowest, lost)} {
			if i >= 0 {
				kept = append(kept, stretch[i])
			}
		}
	}
	return kept
}

// The curves of a trial in the page's form: each number is the difference from the one before,
// which keeps the page small. Times are in milliseconds, latencies in microseconds.
type (
	plotTrial struct {
		Number  int         `json:"number"`
		Verdict string      `json:"verdict"`
		Seconds float64     `json:"seconds"`
		Marks   []mark      `json:"marks"`
		Phases  []band      `json:"phases,omitempty"`
		Actions []band      `json:"actions,omitempty"`
		T       []int64     `json:"t"`
		Count   []int64     `json:"count"`
		Max     []int64     `json:"max"`
		Offered []int64     `json:"offered"`
		Done    []int64     `json:"done"`
		Failed  []int64     `json:"failed"`
		Entries []plotLoad  `json:"entries,omitempty"` // where there are several
		Refused []plotCurve `json:"refused"`
		Probe   plotProbe   `json:"probe"`
		// Predicted is the count as it was predicted; nil without a prediction.
		Predicted *plotForecast `json:"predicted,omitempty"`
	}
	plotForecast struct {
		T     []int64 `json:"t"`
		Count []int64 `json:"count"`
	}
	// plotLoad is the progress of an entry.
	plotLoad struct {
		Name   string  `json:"name"`
		Word   string  `json:"word"` // completed, or sent
		Done   []int64 `json:"done"`
		Failed []int64 `json:"failed"`
	}
	// plotCurve is a counter that the table of counters marks for a chart.
	plotCurve struct {
		Name  string  `json:"name"`
		Tone  string  `json:"tone"`           // colour of the page
		Rare  bool    `json:"rare,omitempty"` // not drawn where it did not rise
		Total []int64 `json:"total"`
	}
	plotProbe struct {
		T      []int64 `json:"t"`
		Micros []int64 `json:"us"`   // of an answer; of a lost probe, the time waited
		Lost   []int64 `json:"lost"` // 0 or 1, not as differences
	}
	mark struct {
		Seconds float64 `json:"t"`
		Text    string  `json:"text"`
	}
	// band is an action or a phase on the time line.
	band struct {
		Seconds float64  `json:"t"`
		To      *float64 `json:"to,omitempty"` // none: the action is instantaneous
		Text    string   `json:"text"`
		Fix     bool     `json:"fix,omitempty"`
	}
	plotScenario struct {
		Name    string      `json:"name"`
		Trials  []plotTrial `json:"trials"`
		Typical int         `json:"typical"` // index of the trial that represents the scenario
		Shown   bool        `json:"shown"`   // among those laid over each other at first
		Entries []plotEntry `json:"entries"` // of that trial
	}
	// plotEntry are the latencies of an entry; nil where none was recorded.
	plotEntry struct {
		Name    string       `json:"name"` // empty: the only one
		Connect *plotLatency `json:"connect"`
		Total   *plotLatency `json:"total"`
	}
)

func plotOf(
	t *results.Trial, samples []results.Sample, probes []results.ProbeSample, points int,
) plotTrial {
	p := plotTrial{Number: t.Number, Verdict: string(t.Verdict), Seconds: t.Seconds}
	p.Marks, p.Actions = marks(t), bandsOf(t, samples)
	samples, probes = thin(samples, points), thinProbes(probes, points)
	p.T = steps(samples, func(s results.Sample) int64 { return thousandths(s.Seconds) })
	p.Count = steps(samples, func(s results.Sample) int64 { return s.Count })
	p.Max = steps(samples, func(s results.Sample) int64 { return s.Max })
	p.Offered = steps(samples, func(s results.Sample) int64 { return s.Offered })
	p.Done = steps(samples, func(s results.Sample) int64 { return s.Done })
	p.Failed = steps(samples, func(s results.Sample) int64 { return s.Failed })
	if names := results.EntryNames(t.Entries); len(names) > 1 {
		for _, name := range names {
			of := func(count func(results.Progress) int64) []int64 {
				return steps(samples, func(s results.Sample) int64 {
					return count(s.Entries[name])
				})
			}
			p.Entries = append(p.Entries, plotLoad{
				Name: name, Word: t.Entries[name].DoneWord(),
				Done:   of(func(p results.Progress) int64 { return p.Done }),
				Failed: of(func(p results.Progress) int64 { return p.Failed }),
			})
		}
	}
	for _, c := range results.ConntrackCounters {
		if c.Chart != "" {
			total := steps(samples, func(s results.Sample) int64 { return *c.In(&s.Counters) })
			p.Refused = append(p.Refused, plotCurve{c.Name, c.Chart, c.RareCurve, total})
		}
	}
	if f := t.Prediction; f != nil && len(f.Counts) > 0 {
		p.Predicted = &plotForecast{
			T: steps(f.Counts, func(c results.PredictedCount) int64 {
				return thousandths(c.Seconds)
			}),
			Count: steps(f.Counts, func(c results.PredictedCount) int64 { return c.Count }),
		}
	}
	p.Probe.T = steps(probes, func(s results.ProbeSample) int64 { return thousandths(s.Seconds) })
	p.Probe.Micros = steps(probes, func(s results.ProbeSample) int64 {
		return thousandths(s.Millis)
	})
	for _, s := range probes {
		lost := int64(1)
		if s.OK {
			lost = 0
		}
		p.Probe.Lost = append(p.Probe.Lost, lost)
	}
	return p
}

// bandsOf returns where the actions of a trial lie; one that was not undone lasted until the end.
func bandsOf(t *results.Trial, samples []results.Sample) []band {
	var list []band
	for _, a := range t.Actions {
		if a.Begun == nil {
			continue
		}
		b := band{Seconds: *a.Begun, To: a.Ended, Text: a.Name, Fix: a.Fix}
		if n := len(samples); b.To == nil && a.Lasts() && n > 0 {
			b.To = &samples[n-1].Seconds
		}
		list = append(list, b)
	}
	return list
}

func thousandths(v float64) int64 { return int64(math.Round(v * 1000)) }

// steps returns the differences of a figure from one element to the next, from 0 on.
func steps[T any](list []T, value func(T) int64) []int64 {
	out := make([]int64, len(list))
	last := int64(0)
	for i, v := range list {
		out[i] = value(v) - last
		last = value(v)
	}
	return out
}

// marks returns the moments that the charts name for every trial, and the events of this one.
func marks(t *results.Trial) []mark {
	list := []mark{{0, "load"}, {t.Seconds, "recovery"}}
	add := func(at *float64, text string) {
		if at != nil {
			list = append(list, mark{*at, text})
		}
	}
	c := t.Conntrack
	for _, a := range t.Actions {
		add(a.Begun, a.Name)
	}
	if t.Heal != nil {
		add(t.Heal.Deviated, "out of the normal")
		add(t.Heal.Healed, "healed")
	}
	add(c.SecondsToFull, "full")
	add(c.FirstDrop, "first drop")
	add(c.FirstEarlyDrop, "first early_drop")
	if c.SecondsToRecover != nil && t.Verdict != results.Clean {
		list = append(list, mark{t.Seconds + *c.SecondsToRecover, "recovered"})
	}
	return list
}

// barsPerDistribution limits the bars of a latency distribution on a page.
const barsPerDistribution = 1_500

// plotLatency is a latency distribution in the page's form: the bars of the histogram, if there is
// one, and the percentiles. Values are in microseconds, each the difference from the one before.
type plotLatency struct {
	Count  int64   `json:"count"`
	P50    float64 `json:"p50"`
	P90    float64 `json:"p90"`
	P99    float64 `json:"p99"`
	P999   float64 `json:"p999"`
	Max    float64 `json:"max"`
	Micros []int64 `json:"us,omitempty"`
	Counts []int64 `json:"n,omitempty"`
}

func plotLatencyOf(l results.Latency, bars []results.Bar) *plotLatency {
	if l.Count == 0 {
		return nil
	}
	p := &plotLatency{Count: l.Count, P50: l.P50, P90: l.P90, P99: l.P99, P999: l.P999, Max: l.Max}
	bars = thinBars(bars, barsPerDistribution)
	p.Micros = steps(bars, func(b results.Bar) int64 { return thousandths(b.Millis) })
	for _, b := range bars {
		p.Counts = append(p.Counts, b.Count)
	}
	return p
}

// thinBars joins neighbours until at most n bars are left, the most common latencies first: the
// tail matters most. It shortens no latency and loses none.
func thinBars(bars []results.Bar, n int) []results.Bar {
	for len(bars) > n {
		tail := len(bars) - n/3
		var joined []results.Bar
		for i := 0; i < tail; i += 2 {
			b := bars[i]
			if i+1 < tail {
				b = results.Bar{Millis: bars[i+1].Millis, Count: b.Count + bars[i+1].Count}
			}
			joined = append(joined, b)
		}
		bars = append(joined, bars[tail:]...)
	}
	return bars
}
