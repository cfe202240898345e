// Package threads runs functions on dedicated threads: in a network namespace, on a CPU, or several
// at the same moment.
package threads

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Run runs f in a goroutine that keeps its thread, inside the network namespace whose file is path
// ("": the process's). The thread ends with the goroutine, so that no other goroutine inherits the
// namespace. f gets the error of entering it. Entering needs CAP_SYS_ADMIN in the user namespace
// that owns the network namespace.
func Run(path string, f func(err error)) {
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		f(enterNamespace(path))
	}()
}

func enterNamespace(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would hang
	if err != nil {
		return fmt.Errorf("opening network namespace: %w", err)
	}
	err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
	if err != nil {
		err = fmt.Errorf("entering network namespace %s: %w", path, err)
	}
	return errors.Join(err, file.Close())
}

// CPU returns the CPU time of the calling thread so far.
func CPU() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, fmt.Errorf("reading the thread's CPU time: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// Pin keeps the calling thread on one CPU.
func Pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pinning a worker to CPU %d: %w", cpu, err)
	}
	return nil
}

// pacedSlice is the time for which a paced thread requests a CPU: the shortest that is granted.
const pacedSlice = 100 * time.Microsecond

// Punctual makes the calling thread wake on time: timers fire without the usual slack of 50 µs.
// Beside other work it runs sooner, though for no more time in all, since it requests short slices
// (Linux 6.12). It needs no privilege and ignores what a kernel refuses.
func Punctual() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	attributes, err := unix.SchedGetAttr(0, 0)
	if err != nil || attributes.Policy != unix.SCHED_NORMAL {
		return
	}
	attributes.Runtime = uint64(pacedSlice)
	_ = unix.SchedSetAttr(0, attributes, 0)
}

// SleepUntil makes the calling thread sleep until an instant, without the delays of Go's scheduler.
func SleepUntil(instant time.Time) {
	for left := time.Until(instant); left > 0; left = time.Until(instant) {
		pause := unix.NsecToTimespec(int64(left))
		_ = unix.Nanosleep(&pause, nil) // a signal ends it early
	}
}

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
