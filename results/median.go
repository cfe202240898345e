package results

import (
	"math"
	"slices"
)

// Median is the middle value, or the mean of the two middle ones; NaN without values.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Spread is how far the farthest value is from the median, as a share of the median: 0 when all are
// equal or there is one, +Inf when the median is 0 and some value is not.
func Spread(values []float64) float64 {
	if len(values) < 2 {
		return 0
	}
	middle := Median(values)
	far := max(slices.Max(values)-middle, middle-slices.Min(values))
	switch {
	case far == 0:
		return 0
	case middle == 0:
		return math.Inf(1)
	default:
		return math.Abs(far / middle)
	}
}
