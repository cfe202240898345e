package reports

import (
	"testing"

	"github.com/ctload/ctload/results"
)

// TestThinBars: joining bars loses no latency, makes none shorter, and leaves the tail alone.
func TestThinBars(t *testing.T) {
	var bars []results.Bar
	for i := range 10_001 {
		bars = append(bars, results.Bar{Millis: float64(i + 1), Count: int64(1 + i%3)})
	}
	kept := thinBars(bars, 1500)
	if len(kept) > 1500 || len(kept) < 700 {
		t.Errorf("%d are left", len(kept))
	}
	// The number of latencies up to each value never rises.
	below := func(list []results.Bar, millis float64) (n int64) {
		for _, b := range list {
			if b.Millis <= millis {
				n += b.Count
			}
		}
		return n
	}
	for i, b := range kept {
		if i > 0 && b.Millis <= kept[i-1].Millis {
			t.Fatalf("not in order at %v", b)
		}
		if got, was := below(kept, b.Millis), below(bars, b.Millis); got != was {
			t.Fatalf("%d up to %v ms, %d were", got, b.Millis, was)
		}
	}
	for i := range 500 {
		if kept[len(kept)-1-i] != bars[len(bars)-1-i] {
			t.Fatalf("the tail is changed %d from the end", i)
		}
	}
	if few := thinBars(bars[:1500], 1500); len(few) != 1500 {
		t.Errorf("%d of 1500 are left", len(few))
	}
}
