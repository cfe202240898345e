package tuples

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// talkers share the numbers of a walk among sources by weight: the k-th source, from 1, has a share
// proportional to k^-s (Zipf's law). Each block of numbers has a source as often as its share says,
// in an order that the seed draws: shares are exact, and a number leads to its source and back.
type talkers struct {
	source []uint32 // of each number of a block
	rank   []uint32 // how many numbers before it in the block have the same source
	at     []uint32 // the numbers of a block, by source and rank
	first  []uint32 // the index in at of a source's first number, and in the end the length of at
}

// block is the number of numbers after which the order of the sources repeats. A source whose share
// is less than half of one number may not occur.
const block = 1 << 18

func newTalkers(sources uint64, s float64, seed uint64) (*talkers, error) {
	if sources > block {
		return nil, fmt.Errorf("at most %d sources can have weights, not %d", block, sources)
	}
	weights, sum := make([]float64, sources), 0.0
	for k := range weights {
		weights[k] = math.Pow(float64(k+1), -s)
		sum += weights[k]
	}
	// The largest remainders get the numbers that rounding down leaves over.
	counts, order, left := make([]int, sources), make([]int, sources), block
	for k, w := range weights {
		whole, rest := math.Modf(w / sum * block)
		counts[k], weights[k], order[k] = int(whole), rest, k
		left -= int(whole)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(weights[b], weights[a]) })
	for _, k := range order[:left] {
		counts[k]++
	}

	t := &talkers{
		source: make([]uint32, 0, block), rank: make([]uint32, block), at: make([]uint32, block),
		first: make([]uint32, 1, sources+1),
	}
	for k, n := range counts {
		t.source = append(t.source, slices.Repeat([]uint32{uint32(k)}, n)...)
		t.first = append(t.first, uint32(len(t.source)))
	}
	random := rand.New(rand.NewPCG(seed, 0x7a69_7066)) // apart from other uses of the seed
	random.Shuffle(block, func(i, j int) { t.source[i], t.source[j] = t.source[j], t.source[i] })
	seen := make([]uint32, sources)
	for i, k := range t.source {
		t.rank[i] = seen[k]
		t.at[t.first[k]+seen[k]] = uint32(i)
		seen[k]++
	}
	return t, nil
}

// count returns how often a source occurs in a block.
func (t *talkers) count(source uint64) uint64 {
	return uint64(t.first[source+1] - t.first[source])
}

// split returns the source of number i, and how many numbers before i have it.
func (t *talkers) split(i uint64) (source, before uint64) {
	source = uint64(t.source[i%block])
	return source, i/block*t.count(source) + uint64(t.rank[i%block])
}

// index inverts split; it returns false for a source that does not occur.
func (t *talkers) index(source, before uint64) (uint64, bool) {
	n := t.count(source)
	if n == 0 {
		return 0, false
	}
	return before/n*block + uint64(t.at[uint64(t.first[source])+before%n]), true
}

// room returns how many numbers there are before a source occurs more than each times.
func (t *talkers) room(each uint64) uint64 {
	most := uint64(1)
	for k := range uint64(len(t.first) - 1) {
		most = max(most, t.count(k))
	}
	whole := each / most
	for i, k := range t.source {
		if whole*t.count(uint64(k))+uint64(t.rank[i]) >= each {
			return whole*block + uint64(i)
		}
	}
	return (whole + 1) * block
}
