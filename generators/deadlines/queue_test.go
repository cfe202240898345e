package deadlines

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQueue checks that the queue equals a plain list under random puts and removals.
func TestQueue(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	links := make([]Link, 20)
	q := NewQueue(func(i int32) *Link { return &links[i] })
	var model []int32
	for now := range 20_000 {
		i := int32(random.IntN(len(links)))
		model = slices.DeleteFunc(model, func(x int32) bool { return x == i })
		if random.IntN(3) == 0 {
			q.Remove(i)
		} else {
			q.Put(i, time.Duration(now))
			model = append(model, i)
		}
		var got []int32
		for at := q.Head; at != None; at = links[at].next {
			got = append(got, at)
		}
		if !slices.Equal(got, model) {
			t.Fatalf("the queue is %v, want %v", got, model)
		}
		first, ok := q.First()
		if ok != (len(model) > 0) || ok && first != links[model[0]].deadline ||
			ok && (q.Due(first-1) || !q.Due(first)) {
			t.Fatalf("first %s, %t of %v", first, ok, model)
		}
	}
}
