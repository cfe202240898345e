package generators

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// mostAtOnce bounds [Spec].AtOnce: each of them has a thread that waits for the others awake.
const mostAtOnce = 16

// chorus makes a system call on several threads at the same moment. Connection tracking has its races
// where two CPUs each handle a packet whose entry is not confirmed yet, and packets that one thread
// sends, or that come in by one queue, are handled one after the other.
type chorus struct {
	size    int32
	voices  []chan part // of the threads beside the caller's
	arrived atomic.Int32
	sung    sync.WaitGroup
}

// part is what one voice sings.
type part struct {
	number int
	call   func(number int)
}

// newChorus starts the threads, which sleep between two songs.
func newChorus(size int) *chorus {
	c := &chorus{size: int32(size)}
	for range size - 1 {
		voice := make(chan part)
		c.voices = append(c.voices, voice)
		onThread("", func(error) {
			for p := range voice {
				c.meet()
				p.call(p.number)
				c.sung.Done()
			}
		})
	}
	return c
}

// together calls call on every thread, numbered from 0, and returns when all have returned.
func (c *chorus) together(call func(number int)) {
	c.arrived.Store(0)
	c.sung.Add(len(c.voices))
	for i, voice := range c.voices {
		voice <- part{i + 1, call}
	}
	c.meet()
	call(0)
	c.sung.Wait()
}

// meet waits for the others without sleep, which would cost more than the moment is long. With fewer
// CPUs than threads the others need this one's now and then.
func (c *chorus) meet() {
	c.arrived.Add(1)
	for looks := 1; c.arrived.Load() < c.size; looks++ {
		if looks%1024 == 0 {
			runtime.Gosched()
		}
	}
}

// close ends the threads. A nil chorus has none.
func (c *chorus) close() {
	if c == nil {
		return
	}
	for _, voice := range c.voices {
		close(voice)
	}
}
