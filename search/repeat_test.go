package search

import (
	"math/rand/v2"
	"testing"
)

// TestRepeat holds the interval of a median to its confidence, with figures of a skewed
// distribution whose median is known.
func TestRepeat(t *testing.T) {
	const median, searches = 1000, 2000
	within := 0
	for seed := range uint64(searches) {
		draw := rand.New(rand.NewPCG(seed, 3))
		r := NewRepeat(Settings{Start: 500, Confidence: .95, MaxTrials: 12, Retries: 2})
		for {
			value, _, more := r.Next()
			if !more {
				break
			}
			if value != 500 {
				t.Fatalf("a trial at %v", value)
			}
			figure := float64(median)
			if n := draw.NormFloat64(); n > 0 {
				figure *= 1 + n
			} else {
				figure *= 1 + n/20
			}
			r.Record(Observation{Value: value, Estimate: max(1, figure)})
		}
		result := r.Result()
		if result.Trials != 6 || *result.Low > result.Value || *result.High < result.Value {
			t.Fatalf("%+v", result)
		}
		if *result.Low <= median && median <= *result.High {
			within++
		}
	}
	if share := float64(within) / searches; share < .95 {
		t.Errorf("%.1f %% of the intervals hold the median", 100*share)
	}
}

// TestRepeat_Invalid: an INVALID trial, and one that shows nothing, are made again until too many
// were in a row.
func TestRepeat_Invalid(t *testing.T) {
	r := NewRepeat(Settings{Start: 1, Confidence: .95, MaxTrials: 12, Retries: 1})
	r.Record(Observation{Invalid: true})
	if _, why, more := r.Next(); !more || why != Measure {
		t.Errorf("%s after an INVALID trial", why)
	}
	r.Record(Observation{Estimate: 5})
	r.Record(Observation{})
	if r.Stuck() {
		t.Error("stuck after one trial that shows nothing")
	}
	r.Record(Observation{Invalid: true})
	if _, _, more := r.Next(); more || !r.Stuck() || r.Result().Trials != 1 ||
		r.Result().Invalid != 3 {
		t.Errorf("not stuck: %+v", r.Result())
	}
}
