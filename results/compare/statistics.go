package compare

import (
	"cmp"
	"math"
	"slices"
)

// Alpha is the level of significance for all the cells of a comparison together.
const Alpha = 0.05

// Stat summarises the values of one cell.
type Stat struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Spread float64 `json:"spread"` // see Spread
}

// Test is the result of the exact two-sided Mann-Whitney U test of two samples.
type Test struct {
	P float64 // 1 when all values are equal or a sample is empty
	// Constant says that all values of both samples are equal: there is nothing to test.
	Constant bool
	// Least is the lowest P that samples of these sizes with these ties can reach.
	Least float64
}

// mannWhitney tests whether two samples come from the same distribution. It assumes nothing about
// it: P is the share of all divisions of the pooled values into samples of these sizes whose rank
// sum is as far out, the smaller tail doubled. Tied values share their mean rank (Lehmann,
// Nonparametrics, 1975, section 1.4).
func mannWhitney(a, b []float64) Test {
	t := Test{P: 1, Least: 1}
	if len(a) == 0 || len(b) == 0 {
		return t
	}
	all := slices.Concat(a, b)
	if slices.Min(all) == slices.Max(all) {
		t.Constant = true
		return t
	}
	if len(a) > len(b) { // the sums of the smaller sample are fewer
		a, b = b, a
		all = slices.Concat(a, b)
	}
	ranks := doubleRanks(all)
	sum := 0
	for _, r := range ranks[:len(a)] {
		sum += r
	}
	ways := selections(ranks, len(a))
	tail := func(ways []float64) float64 { return 2 * total(ways) / choose(len(all), len(a)) }
	t.P = min(1, tail(ways[:sum+1]), tail(ways[sum:]))
	lowest := slices.IndexFunc(ways, func(n float64) bool { return n > 0 })
	t.Least = min(1, tail(ways[:lowest+1]), tail(ways[len(ways)-1:]))
	return t
}

// doubleRanks returns the ranks of the values from 1, doubled, so that the mean rank of tied values
// is an integer.
func doubleRanks(values []float64) []int {
	ranks := make([]int, len(values))
	for i, v := range values {
		for _, other := range values {
			switch {
			case other < v:
				ranks[i] += 2
			case other == v:
				ranks[i]++
			}
		}
		ranks[i]++
	}
	return ranks
}

// selections counts for each sum, from 0, the selections of n ranks that have it. It adds one rank
// after the other to the selections of those before (dynamic programming).
func selections(ranks []int, n int) []float64 {
	sorted := slices.Sorted(slices.Values(ranks))
	highest := 0
	for _, r := range sorted[len(sorted)-n:] {
		highest += r
	}
	ways := make([][]float64, n+1) // by the number of selected ranks, then by their sum
	for k := range ways {
		ways[k] = make([]float64, highest+1)
	}
	ways[0][0] = 1
	for _, r := range sorted {
		for k := n; k > 0; k-- {
			for s := r; s <= min(k*r, highest); s++ { // no rank so far is above r
				ways[k][s] += ways[k-1][s-r]
			}
		}
	}
	return ways[n]
}

func total(values []float64) (sum float64) {
	for _, v := range values {
		sum += v
	}
	return sum
}

func choose(n, k int) float64 {
	c := 1.0
	for i := range k {
		c = c * float64(n-i) / float64(i+1)
	}
	return c
}

// holm adjusts p-values for multiple tests (Holm 1979): if adjusted values below alpha count as
// significant, the probability of any wrong decision is at most alpha.
func holm(p []float64) []float64 {
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

// enoughTrials returns the least number of trials on each side with which a cell can be
// significant; cells is the number of all cells.
func enoughTrials(cells int) int {
	for n := 1; n < 1000; n++ {
		if 2/choose(2*n, n)*float64(cells) < Alpha {
			return n
		}
	}
	return 1000
}

// relative returns after/before - 1: +Inf from 0 to another value, NaN when it has no meaning.
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

// Median returns the middle value, or the mean of the two middle ones; NaN without values.
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

// Spread returns the largest distance of a value from the median, as a share of the median: 0 when
// all are equal or there is one, +Inf when the median is 0 and some value is not.
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
