package threads

import (
	"sync/atomic"
	"testing"
)

func TestBarrier_CallsEachThreadOnce(t *testing.T) {
	c := NewBarrier(4)
	defer c.Close()
	var calls [4]atomic.Int32
	for range 200 {
		c.Together(func(i int) { calls[i].Add(1) })
	}
	for i := range calls {
		if n := calls[i].Load(); n != 200 {
			t.Errorf("thread %d was called %d times", i, n)
		}
	}
}
