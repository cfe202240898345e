package search

import (
	"math"
	"slices"
)

// Repeat measures a figure of a configuration, such as a time, by trials at one value. It is a
// search whose value does not vary: each trial's Estimate holds the figure.
//
// The result is the median, and its interval reaches from the least figure to the largest one. The
// median of any distribution lies outside of n figures with a probability of 2 x 0.5^n, so the
// confidence tells the number of trials: 6 for 95 %.
type Repeat struct {
	Settings
	figures []float64
	inARow  int // INVALID trials since the last valid one
	invalid int // in all
}

// NewRepeat begins a measurement by trials at the value Start.
func NewRepeat(s Settings) *Repeat { return &Repeat{Settings: s} }

// trials returns how many figures the confidence takes, within MaxTrials.
func (r *Repeat) trials() int {
	return min(r.MaxTrials, int(math.Ceil(1-math.Log2(1-r.Confidence)-1e-9)))
}

// Next names the value of the next trial; false where the measurement is over.
func (r *Repeat) Next() (value float64, why Step, more bool) {
	return r.Start, Measure, !r.Stuck() && len(r.figures) < r.trials()
}

// Record takes what came of a trial. One without a figure counts as INVALID.
func (r *Repeat) Record(o Observation) {
	if o.Invalid || o.Estimate <= 0 {
		r.invalid++
		r.inARow++
		return
	}
	r.inARow = 0
	r.figures = append(r.figures, o.Estimate)
}

// Result returns what the trials so far say of the figure; bounds come with all of them.
func (r *Repeat) Result() Result {
	result := Result{Trials: len(r.figures), Invalid: r.invalid}
	if len(r.figures) == 0 {
		return result
	}
	sorted := slices.Sorted(slices.Values(r.figures))
	n := len(sorted)
	result.Value = (sorted[n/2] + sorted[(n-1)/2]) / 2
	result.Low, result.High = &sorted[0], &sorted[n-1]
	return result
}

// Stuck reports whether trials stayed INVALID.
func (r *Repeat) Stuck() bool { return r.inARow > r.Retries }
