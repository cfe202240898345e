package samplers

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"
)

// heavyHitters counts the most frequent addresses of a stream in bounded memory: exactly up to as
// many different ones as it has counters, then by the Space-Saving algorithm (Metwally, Agrawal, El
// Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams, 2005): the newcomer
// replaces the rarest and takes its count as the bound of the error.
type heavyHitters struct {
	capacity int
	counters map[netip.Addr]*addressCounter
	rarest   counterHeap
	full     bool // an address was replaced
}

type addressCounter struct {
	SourceCount
	place int // in the heap
}

func newHeavyHitters(capacity int) *heavyHitters {
	return &heavyHitters{capacity: capacity, counters: map[netip.Addr]*addressCounter{}}
}

func (h *heavyHitters) add(address netip.Addr) {
	if c, ok := h.counters[address]; ok {
		c.Entries++
		heap.Fix(&h.rarest, c.place)
		return
	}
	if len(h.rarest) < h.capacity {
		c := &addressCounter{SourceCount: SourceCount{Address: address, Entries: 1}}
		h.counters[address] = c
		heap.Push(&h.rarest, c)
		return
	}
	h.full = true
	c := h.rarest[0]
	delete(h.counters, c.Address)
	c.Address, c.Error = address, c.Entries
	c.Entries++
	h.counters[address] = c
	heap.Fix(&h.rarest, 0)
}

// top returns the n most frequent addresses.
func (h *heavyHitters) top(n int) []SourceCount {
	all := make([]SourceCount, 0, len(h.rarest))
	for _, c := range h.rarest {
		all = append(all, c.SourceCount)
	}
	slices.SortFunc(all, func(a, b SourceCount) int {
		return cmp.Or(cmp.Compare(b.Entries, a.Entries), a.Address.Compare(b.Address))
	})
	return slices.Clone(all[:min(n, len(all))])
}

// distinct returns the number of different addresses, 0 when there were too many.
func (h *heavyHitters) distinct() int64 {
	if h.full {
		return 0
	}
	return int64(len(h.rarest))
}

// counterHeap has the smallest count on top.
type counterHeap []*addressCounter

func (h counterHeap) Len() int           { return len(h) }
func (h counterHeap) Less(i, j int) bool { return h[i].Entries < h[j].Entries }
func (h counterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *counterHeap) Push(x any) {
	c := x.(*addressCounter)
	c.place = len(*h)
	*h = append(*h, c)
}

func (h *counterHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}
