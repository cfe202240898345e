package compare

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// A series is tested for a change of its level by the maximally selected rank statistic: of all
// places that part it in two, the one where the mean ranks of the parts differ most, in units of
// what chance makes of it there (Miller and Siegmund 1982; with ranks, Lausen and Schumacher 1992).
// It assumes no distribution, and an outlier weighs no more than its rank. Its p-value is that of a
// permutation test: the share of orders of the same values with a statistic as high.
const (
	// leastPart is the number of values on each side of a change: a single one is an outlier.
	leastPart = 2
	// permutations bounds the orders that are drawn; enoughAbove ends the draw early, when so many
	// had a statistic as high (Besag and Clifford 1991).
	permutations, enoughAbove = 9999, 50
)

// fewestValues is the least number of values with which a change can be significant: of 8 values
// in two parts of 4, 2 of 70 divisions are as far out as the farthest.
const fewestValues = 8

// split finds the change in a series: the index of the first value after it, and its p-value. The
// values may include +Inf. at is 0 for a series that is too short, or without a change of values.
func split(values []float64) (at int, p float64) {
	n := len(values)
	if n < fewestValues || slices.Min(values) == slices.Max(values) {
		return 0, 1
	}
	ranks := doubleRanks(values)
	at, found := farthest(ranks)
	// The same series always gives the same p.
	random := rand.New(rand.NewPCG(1, uint64(n)))
	above := 0
	for drawn := 1; drawn <= permutations; drawn++ {
		random.Shuffle(n, func(i, j int) { ranks[i], ranks[j] = ranks[j], ranks[i] })
		if _, other := farthest(ranks); other >= found-1e-9 {
			if above++; above == enoughAbove {
				return at, float64(above) / float64(drawn)
			}
		}
	}
	return at, float64(above+1) / (permutations + 1)
}

// farthest returns where the ranks, doubled, differ most, and by how much. The variance of the sum
// of t of n ranks is t (n - t) times a constant of the ranks.
func farthest(ranks []int) (at int, most float64) {
	n, sum := len(ranks), 0
	for t := 1; t <= n-leastPart; t++ {
		sum += ranks[t-1] - (n + 1) // their mean is n + 1
		if t < leastPart {
			continue
		}
		if z := math.Abs(float64(sum)) / math.Sqrt(float64(t*(n-t))); z > most+1e-9 {
			at, most = t, z
		}
	}
	return at, most
}

// change is a place in a series where its level changes.
type change struct {
	at int // index of the first value after it
	p  float64
}

// changes finds the changes of several series. The first of each series is tested against the
// others by Benjamini and Hochberg's rule (1995): of the changes found, at most the share [Alpha]
// is chance, on average. Each part of a series that has one is then tested at the same level.
func changes(series [][]float64) [][]change {
	first := make([]change, len(series))
	p := make([]float64, 0, len(series))
	for i, values := range series {
		if first[i].at, first[i].p = split(values); first[i].at > 0 {
			p = append(p, first[i].p)
		}
	}
	level := falseShare(p)
	list := make([][]change, len(series))
	for i, values := range series {
		if first[i].at > 0 && first[i].p <= level {
			list[i] = within(values, first[i], 0, level)
		}
	}
	return list
}

// within returns a change and those in the parts beside it, in order; from is the index of the
// first value in the whole series.
func within(values []float64, c change, from int, level float64) (list []change) {
	for _, part := range []struct {
		values []float64
		from   int
	}{{values[:c.at], from}, {values[c.at:], from + c.at}} {
		if at, p := split(part.values); at > 0 && p <= level {
			list = append(list, within(part.values, change{at, p}, part.from, level)...)
		}
	}
	list = append(list, change{from + c.at, c.p})
	slices.SortFunc(list, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	return list
}

// falseShare returns the highest p-value that is significant where at most the share [Alpha] of
// what is called significant may be chance (Benjamini and Hochberg 1995); a negative one where none
// is.
func falseShare(p []float64) float64 {
	sorted := slices.Sorted(slices.Values(p))
	for i, value := range slices.Backward(sorted) {
		if value <= Alpha*float64(i+1)/float64(len(sorted)) {
			return value
		}
	}
	return -1
}
