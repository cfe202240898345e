package threads

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Barrier makes a system call on several threads at the same moment. Connection tracking has its races
// where two CPUs each handle a packet whose entry is not confirmed yet, and packets that one thread
// sends, or that come in by one queue, are handled one after the other.
type Barrier struct {
	size    int32
	threads []chan call // of the threads beside the caller's
	arrived atomic.Int32
	done    sync.WaitGroup
}

// call is what one thread calls.
type call struct {
	number int
	call   func(number int)
}

// NewBarrier starts the threads, which sleep between two calls.
func NewBarrier(size int) *Barrier {
	b := &Barrier{size: int32(size)}
	for range size - 1 {
		thread := make(chan call)
		b.threads = append(b.threads, thread)
		Run("", func(error) {
			for p := range thread {
				b.meet()
				p.call(p.number)
				b.done.Done()
			}
		})
	}
	return b
}

// Together calls f on every thread, numbered from 0, and returns when all have returned.
func (b *Barrier) Together(f func(number int)) {
	b.arrived.Store(0)
	b.done.Add(len(b.threads))
	for i, thread := range b.threads {
		thread <- call{i + 1, f}
	}
	b.meet()
	f(0)
	b.done.Wait()
}

// meet waits for the others without sleep, which would cost more than the moment is long. With fewer
// CPUs than threads the others need this one's now and then.
func (b *Barrier) meet() {
	b.arrived.Add(1)
	for looks := 1; b.arrived.Load() < b.size; looks++ {
		if looks%1024 == 0 {
			runtime.Gosched()
		}
	}
}

// Close ends the threads. A nil barrier has none.
func (b *Barrier) Close() {
	if b == nil {
		return
	}
	for _, thread := range b.threads {
		close(thread)
	}
}
