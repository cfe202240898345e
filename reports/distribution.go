package reports

import (
	"math"

	"github.com/ctload/ctload/results"
)

// barsPerDistribution is how many bars of a latency distribution a page may hold.
const barsPerDistribution = 1_500

// plotLatency is a latency distribution in the page's form: all bars of the histogram where there
// is one, and the percentiles otherwise. Values are in microseconds, each the difference from the
// one before.
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
	p.Micros = steps(bars, func(b results.Bar) int64 { return int64(math.Round(b.Millis * 1000)) })
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
