package threads

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Barrier makes a system call on several threads at the same moment. Connection tracking races
// where two CPUs each handle a packet whose entry is not confirmed yet. The kernel handles packets
// of one thread, or of one receive queue, one after the other.
type Barrier struct {
	size    int32
	threads []chan call // of the threads besides the caller's
	arrived atomic.Int32
	done    sync.WaitGroup
}

// call is one call for one thread.
type call struct {
	number int
	call   func(number int)
}

// NewBarrier starts size-1 threads, which sleep between calls. The caller is the last thread.
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

// Together calls f on every thread, numbered from 0, and returns when all calls have returned.
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

// meet spins until all threads have arrived, since a sleep would take longer than the moment to
// meet. It yields at times, because with fewer CPUs than threads the others need this one's CPU.
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
