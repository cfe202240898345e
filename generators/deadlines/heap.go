package deadlines

import "time"

// Heap keeps slots by their times, in any order of insertion, in eight bytes each. A slot stays
// until its time has come: the caller checks whether it still waits for that time.
type Heap struct {
	// pieces hold a binary heap of n items: the time in ticks, and the slot in the low bits. They
	// never move, so that a growing heap leaves no garbage.
	pieces []*[pieceSize]uint64
	n      int
}

const pieceSize = 1 << 12

func (h *Heap) at(i int) *uint64 { return &h.pieces[i/pieceSize][i%pieceSize] }

const (
	// tick is the resolution of a heap. Its ticks reach 100 days.
	tick     = 128 * time.Microsecond
	slotBits = 28
	// mostSlots bounds the numbers of the slots of a heap.
	mostSlots = 1 << slotBits
)

// Push adds a slot, below mostSlots, for a time. Times are rounded up, by less than 128 µs.
func (h *Heap) Push(slot int64, at time.Duration) {
	item := uint64((at+tick-1)/tick)<<slotBits | uint64(slot)
	if h.n == len(h.pieces)*pieceSize {
		h.pieces = append(h.pieces, new([pieceSize]uint64))
	}
	i := h.n
	h.n++
	for i > 0 {
		parent := (i - 1) / 2
		if *h.at(parent) <= item {
			break
		}
		*h.at(i) = *h.at(parent)
		i = parent
	}
	*h.at(i) = item
}

// Len returns the number of slots, those included that wait no longer.
func (h *Heap) Len() int { return h.n }

// First returns the earliest time, or false when the heap is empty.
func (h *Heap) First() (time.Duration, bool) {
	if h.n == 0 {
		return 0, false
	}
	return time.Duration(*h.at(0)>>slotBits) * tick, true
}

// Due removes the earliest slot and returns it, if its time has come.
func (h *Heap) Due(now time.Duration) (slot int64, ok bool) {
	if first, some := h.First(); !some || first > now {
		return 0, false
	}
	return h.Pop(), true
}

// Pop removes the earliest slot of a heap that is not empty.
func (h *Heap) Pop() int64 {
	slot := int64(*h.at(0) % mostSlots)
	h.n--
	item := *h.at(h.n)
	i := 0
	for child := 1; child < h.n; child = 2*i + 1 {
		if child+1 < h.n && *h.at(child + 1) < *h.at(child) {
			child++
		}
		if item <= *h.at(child) {
			break
		}
		*h.at(i) = *h.at(child)
		i = child
	}
	*h.at(i) = item
	return slot
}
