package threads

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// CPUTime is the time that a thread spent on a CPU.
type CPUTime time.Duration

// CPU returns the CPU time of the calling thread so far.
func CPU() (CPUTime, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, fmt.Errorf("reading the thread's CPU time: %w", err)
	}
	return CPUTime(ts.Nano()), nil
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

// pacedSlice is the share of a CPU that a paced thread requests at a time: the shortest that the
// kernel grants.
const pacedSlice = 100 * time.Microsecond

// Punctual makes the calling thread wake on time. Timers fire without the usual slack of 50 µs.
// Beside other work the scheduler runs the thread sooner, though for no more time in all, since it
// requests short slices (Linux 6.12; earlier schedulers ignore that). Punctual needs no privilege
// and ignores what a kernel refuses.
func Punctual() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	attributes, err := unix.SchedGetAttr(0, 0)
	if err != nil || attributes.Policy != unix.SCHED_NORMAL {
		return
	}
	attributes.Runtime = uint64(pacedSlice)
	_ = unix.SchedSetAttr(0, attributes, 0)
}
