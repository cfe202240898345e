package deadlines

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestHeap compares a heap with a sorted list, while slots come and go.
func TestHeap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h Heap
	var list []time.Duration // slot i waits for list[i]
	waits := map[int64]bool{}
	for now := time.Duration(0); len(list) < 20_000; now += tick {
		for range random.IntN(4) {
			at := now + time.Duration(random.IntN(int(time.Second)))
			h.Push(int64(len(list)), at)
			waits[int64(len(list))] = true
			list = append(list, at)
		}
		for {
			slot, ok := h.Due(now)
			if !ok {
				break
			}
			if early := list[slot] - now; !waits[slot] || early > 0 || early <= -2*tick {
				t.Fatalf("slot %d for %s came at %s", slot, list[slot], now)
			}
			delete(waits, slot)
		}
		if h.Len() != len(waits) {
			t.Fatalf("the heap has %d slots, want %d", h.Len(), len(waits))
		}
	}
	var rest []time.Duration
	for h.Len() > 0 {
		at, _ := h.First()
		if slot := h.Pop(); at < list[slot] || at-list[slot] >= tick {
			t.Fatalf("slot %d for %s has %s", slot, list[slot], at)
		}
		rest = append(rest, at)
	}
	if len(rest) == 0 || !slices.IsSorted(rest) {
		t.Errorf("%d slots came out of order", len(rest))
	}
	if _, ok := h.Due(time.Hour); ok {
		t.Error("an empty heap has a slot")
	}
	h.Push(mostSlots-1, 100*24*time.Hour)
	if at, _ := h.First(); at.Round(time.Second) != 100*24*time.Hour || h.Pop() != mostSlots-1 {
		t.Errorf("the last slot after 100 days came back at %s", at)
	}
}
