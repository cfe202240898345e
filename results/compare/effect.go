package compare

import (
	"fmt"
	"math"
	"slices"

	"github.com/ctload/ctload/results"
)

// Effect says by how much the values of one side differ from those of the base.
type Effect struct {
	// Ratio says that the figures below are factors. Without it they are differences in the unit of
	// the metric, as where a value is 0 and no ratio exists.
	Ratio     bool
	Estimate  float64
	Low, High float64 // of the interval
	// Confidence is the probability with which such an interval holds the effect: 0.95, or the
	// highest that the trials allow; 0 without an interval.
	Confidence float64
}

// intervalFrom is the number of values on each side from which an effect has an interval.
const intervalFrom = 3

// effectOf returns the estimate of Hodges and Lehmann (1963): the median of the ratios of each
// value to each value of the base, or of their differences where a value is 0. The interval
// consists of the effects that the exact Mann-Whitney test does not refuse; its ends are two of
// those ratios (Hollander and Wolfe, Nonparametric Statistical Methods, 1973, section 4.3). With
// ties it is at least as sure as stated. effectOf returns nil when a side is empty, when all values
// are equal, and when a value is a time that never came, since it has no distance from others.
func effectOf(base, values []float64) *Effect {
	all := slices.Concat(base, values)
	if len(base) == 0 || len(values) == 0 {
		return nil
	}
	if most := slices.Max(all); most == slices.Min(all) || math.IsInf(most, 1) {
		return nil
	}
	e := &Effect{Ratio: slices.Min(all) > 0}
	between := make([]float64, 0, len(base)*len(values))
	for _, x := range base {
		for _, y := range values {
			if e.Ratio {
				x, y := math.Log(x), math.Log(y)
				between = append(between, y-x)
			} else {
				between = append(between, y-x)
			}
		}
	}
	slices.Sort(between)
	e.Estimate = Median(between)
	if min(len(base), len(values)) >= intervalFrom {
		var outside int
		outside, e.Confidence = interval(len(base), len(values))
		e.Low, e.High = between[outside], between[len(between)-1-outside]
	}
	if e.Ratio {
		e.Estimate, e.Low, e.High = math.Exp(e.Estimate), math.Exp(e.Low), math.Exp(e.High)
	}
	return e
}

// interval returns how many of the sorted differences between n and m values lie outside of the
// interval on each side, and the interval's confidence: as many as leave at least 1 - Alpha, by the
// distribution of Mann and Whitney's U without ties. None are outside where the values are too few
// for that.
func interval(n, m int) (outside int, confidence float64) {
	ranks := make([]int, n+m)
	for i := range ranks {
		ranks[i] = i + 1
	}
	ways := selections(ranks, n)[n*(n+1)/2:] // by U, the rank sum above its lowest
	tails := func(u int) float64 { return 2 * total(ways[:u+1]) / choose(n+m, n) }
	for tails(outside+1) <= Alpha {
		outside++
	}
	return outside, 1 - tails(outside)
}

// words formats the effect on a metric: "1.42 x, 1.31 to 1.55", "+97, +80 to +110".
func (e *Effect) words(m Metric) string {
	format := func(v float64) string {
		if v > 0 {
			return "+" + m.Bare(v)
		}
		return m.Bare(v)
	}
	text := format(e.Estimate)
	if e.Ratio {
		format = func(v float64) string { return factor(v, e.Estimate) }
		text = format(e.Estimate) + " x"
	}
	if e.Confidence > 0 {
		text += fmt.Sprintf(", %s to %s", format(e.Low), format(e.High))
	}
	return text
}

// factor formats a ratio; effect says how finely: that of an effect near 1, or near 0, is finer.
func factor(v, effect float64) string {
	switch {
	case math.Abs(effect-1) < 0.05:
		return fmt.Sprintf("%.3f", v)
	case effect < 0.1:
		return fmt.Sprintf("%.2g", v)
	default:
		return results.Figure(v)
	}
}

// Confidence returns the lowest confidence of the comparison's intervals, 0 without any.
func (c *Comparison) Confidence() (lowest float64) {
	for _, g := range c.Groups {
		for _, row := range g.Rows {
			for _, cell := range row.Cells {
				e := cell.Effect()
				if e == nil || e.Confidence == 0 {
					continue
				}
				if lowest == 0 || e.Confidence < lowest {
					lowest = e.Confidence
				}
			}
		}
	}
	return lowest
}
