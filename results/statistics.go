package results

import (
	"cmp"
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

// Alpha is the level below which a difference counts as significant, for all the cells of a
// comparison together.
const Alpha = 0.05

// Stat summarises the values of one cell.
type Stat struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Spread float64 `json:"spread"` // see Spread
}

// Describe summarises values.
func Describe(values []float64) Stat {
	return Stat{N: len(values), Median: Median(values), Spread: Spread(values)}
}

// Test is the result of a two-sided Mann-Whitney U test of two samples. With few values, as trials
// are, it is exact, ties included.
type Test struct {
	P float64 // 1 when all values are equal or a sample is empty
	// Constant tells that all values of both samples are equal: there is nothing to test.
	Constant bool
	// Least is the lowest P that samples of these sizes can reach.
	Least float64
}

// MannWhitney tests whether two samples come from the same distribution. It assumes nothing of it.
func MannWhitney(a, b []float64) Test {
	t := Test{P: 1, Least: 1}
	if len(a) == 0 || len(b) == 0 {
		return t
	}
	t.Least = min(1, 2/choose(len(a)+len(b), len(a)))
	all := slices.Concat(a, b)
	if slices.Min(all) == slices.Max(all) {
		t.Constant = true
		return t
	}
	th := benchmath.DefaultThresholds
	th.CompareAlpha = Alpha
	c := benchmath.AssumeNothing.Compare(
		benchmath.NewSample(slices.Clone(a), &th),
		benchmath.NewSample(slices.Clone(b), &th))
	t.P = min(1, c.P)
	return t
}

func choose(n, k int) float64 {
	c := 1.0
	for i := range k {
		c = c * float64(n-i) / float64(i+1)
	}
	return c
}

// Holm adjusts p-values for being several (Holm 1979): after it, taking each adjusted value below
// alpha for significant is wrong about any of them with probability alpha at most.
func Holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	adjusted := make([]float64, len(p))
	running := 0.0
	for rank, i := range order {
		running = max(running, float64(len(p)-rank)*p[i])
		adjusted[i] = min(1, running)
	}
	return adjusted
}

// enoughTrials is how many trials on each side the test needs so that one difference among so many
// cells can be significant.
func enoughTrials(cells int) int {
	for n := 1; n < 1000; n++ {
		if 2/choose(2*n, n)*float64(cells) < Alpha {
			return n
		}
	}
	return 1000
}

// relative is the change from before to after as a share of before: +Inf when before is 0 and after
// is not, NaN when it has no meaning.
func relative(before, after float64) float64 {
	switch {
	case before == after:
		return 0
	case math.IsInf(before, 0) || math.IsInf(after, 0) || math.IsNaN(before) || math.IsNaN(after):
		return math.NaN()
	case before == 0:
		return math.Inf(int(math.Copysign(1, after)))
	default:
		return (after - before) / math.Abs(before)
	}
}
