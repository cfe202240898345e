package deadlines

import "time"

// Heap keeps slots by their times, in any order of insertion, in eight bytes each. A slot stays
// until its time has come: the caller checks whether it still waits for that time.
type Heap struct {
	items []uint64 // a binary heap; each is the time in ticks, and the slot in the low bits
}

const (
	// tick is the resolution of a heap. Its ticks reach 100 days.
	tick     = 128 * time.Microsecond
	slotBits = 28
	// MostSlots bounds the numbers of the slots of a heap.
	MostSlots = 1 << slotBits
)

// Push adds a slot, below MostSlots, for a time. Times are rounded up, by less than 128 µs.
func (h *Heap) Push(slot int64, at time.Duration) {
	item := uint64((at+tick-1)/tick)<<slotBits | uint64(slot)
	h.items = append(h.items, item)
	i := len(h.items) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if h.items[parent] <= item {
			break
		}
		h.items[i] = h.items[parent]
		i = parent
	}
	h.items[i] = item
}

// Len returns the number of slots, those included that wait no longer.
func (h *Heap) Len() int { return len(h.items) }

// First returns the earliest time, or false when the heap is empty.
func (h *Heap) First() (time.Duration, bool) {
	if len(h.items) == 0 {
		return 0, false
	}
	return time.Duration(h.items[0]>>slotBits) * tick, true
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
	slot := int64(h.items[0] % MostSlots)
	last := len(h.items) - 1
	item := h.items[last]
	h.items = h.items[:last]
	i := 0
	for child := 1; child < last; child = 2*i + 1 {
		if child+1 < last && h.items[child+1] < h.items[child] {
			child++
		}
		if item <= h.items[child] {
			break
		}
		h.items[i] = h.items[child]
		i = child
	}
	if last > 0 {
		h.items[i] = item
	}
	return slot
}
