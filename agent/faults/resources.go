package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// maxCPU is the largest share of a CPU that CPUThrottle takes: the kernel itself keeps 5 % from
// real-time processes (sched_rt_runtime_us).
const maxCPU = 0.95

// cpuThrottle takes a share of each CPU.
func (s *Set) cpuThrottle(_ context.Context, f Fault) (*change, error) {
	e := newEater(f.Kind, f.CPU)
	var started time.Time
	c := &change{}
	threads := func() int { return realtimeThreads(e.pid()) }
	c.parts = []*part{{
		subject: "real-time threads of " + f.ID,
		read:    func(context.Context) (string, error) { return strconv.Itoa(threads()), nil },
		restore: func(context.Context) error {
			if pid := e.pid(); pid != 0 {
				used, err := processTime(pid)
				if err != nil {
					return err
				}
				taken := fmt.Sprintf("%.2f", used)
				c.found("CPU seconds taken", taken)
				c.remarks = append(c.remarks, fmt.Sprintf("the CPUs were taken for %s s in %.2f s",
					taken, time.Since(started).Seconds()))
			}
			e.stop()
			return nil
		},
	}}
	c.do = func(ctx context.Context) error {
		started = time.Now()
		return e.start(ctx)
	}
	c.check = func(context.Context) error {
		if threads() == 0 {
			return fmt.Errorf("%s has no real-time thread", EaterRole)
		}
		return nil
	}
	return c, nil
}

// realtimeThreads returns the number of threads of a process under SCHED_FIFO; 0 for a missing
// process.
func realtimeThreads(pid int) int {
	threads, err := procfs.AllThreads(pid)
	if pid == 0 || err != nil {
		return 0
	}
	count := 0
	for _, thread := range threads {
		attributes, err := unix.SchedGetAttr(thread.PID, 0)
		if err == nil && attributes.Policy == unix.SCHED_FIFO {
			count++
		}
	}
	return count
}

// processTime returns the CPU time, in seconds, that a process has used.
func processTime(pid int) (float64, error) {
	process, err := procfs.NewProc(pid)
	var stat procfs.ProcStat
	if err == nil {
		stat, err = process.Stat()
	}
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of %s: %w", EaterRole, err)
	}
	return stat.CPUTime(), nil
}

func checkCPU(f Fault) error {
	if !(f.CPU > 0 && f.CPU <= maxCPU) {
		return fmt.Errorf("share %v: not above 0 and at most %v", f.CPU, maxCPU)
	}
	return nil
}

const (
	// oomVictim makes a process the first that the kernel kills for memory, oomExempt one that it
	// never kills.
	oomVictim = "1000"
	oomExempt = "-1000"
	oomFile   = "/proc/self/oom_score_adj"
)

// memoryRetry separates the kernel's kill of the child that holds memory from the next attempt.
const memoryRetry = 100 * time.Millisecond

// memoryPressure takes memory until little is left and holds it. A request of a kernel thread or a
// process then makes the kernel kill the child that holds it, which starts again: the pressure has
// gaps, and the reading at its end counts them. The agent is exempt, as PID 1 always is.
//
// Allocations in interrupts (GFP_ATOMIC), such as those of connection tracking and of arriving
// packets, cannot wait: they use up the last reserves and fail. Connection tracking then drops the
// packet and counts it as drop, without its own line in the log, which has the kernel's "page
// allocation failure". That takes a burst: usually a request that can wait comes first, for which
// the kernel kills the child.
func (s *Set) memoryPressure(_ context.Context, f Fault) (*change, error) {
	e := newEater(f.Kind, float64(f.Leave))
	c := &change{}
	var kept sync.WaitGroup
	exempt, err := os.ReadFile(oomFile)
	if err != nil {
		return nil, fmt.Errorf("read the agent's own oom_score_adj: %w", err)
	}
	c.parts = []*part{
		{subject: "MemFree", read: memoryFigure("MemFree")},
		{subject: "MemAvailable", read: memoryFigure("MemAvailable")},
		{subject: "memory of " + f.ID, restore: func(context.Context) error {
			kills := e.stop()
			kept.Wait()
			if kills > 0 {
				c.remarks = append(c.remarks, fmt.Sprintf("the kernel killed %s, which held the "+
					"memory, %d times; it took the memory again each time", EaterRole, kills))
			}
			c.found("OOM kills", strconv.Itoa(kills))
			return os.WriteFile(oomFile, exempt, 0)
		}},
	}
	c.do = func(ctx context.Context) error {
		if err := os.WriteFile(oomFile, []byte(oomExempt), 0); err != nil {
			return fmt.Errorf("exempt the agent from being killed for memory: %w", err)
		}
		if err := e.start(ctx); err != nil {
			return err
		}
		kept.Go(func() { e.keep(memoryRetry) })
		return nil
	}
	return c, nil
}

// memoryFigure returns a function that reads a line of /proc/meminfo.
func memoryFigure(name string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		kib, err := meminfo(name)
		return fmt.Sprintf("%d KiB", kib), err
	}
}

func meminfo(name string) (kib int64, err error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read the state of the memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s", name)
}

const (
	memoryPiece     = 1 << 20
	memoryLastPiece = 64 << 10 // near the aim
	memoryWatch     = 10 * time.Millisecond
	lockedMemory    = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_POPULATE | unix.MAP_LOCKED
)

// eatMemory takes memory until only leave bytes are available, or, where leave is 0 or unattainably
// small, until no more is free than [lowFree], and then whatever becomes free again. It locks its
// pages, so that none goes to swap (CAP_IPC_LOCK).
func eatMemory(leave int64) error {
	if err := os.WriteFile(oomFile, []byte(oomVictim), 0); err != nil {
		return fmt.Errorf("become the first to be killed for memory: %w", err)
	}
	reserve, err := lowFree()
	if err != nil {
		return err
	}
	said := false
	for {
		// This question allocates no memory in the kernel, which so kills no process for it.
		var now unix.Sysinfo_t
		if err := unix.Sysinfo(&now); err != nil {
			return fmt.Errorf("ask for the free memory: %w", err)
		}
		over := int64(now.Freeram)*int64(now.Unit) - reserve<<10
		if leave > 0 {
			// The kernel kills a process that requests more than is free, if more is available.
			available, err := meminfo("MemAvailable")
			if err != nil {
				return err
			}
			over = min(over, available<<10-leave)
		}
		if over < memoryLastPiece {
			if !said {
				fmt.Println(ready)
				said = true
			}
			time.Sleep(memoryWatch)
			continue
		}
		piece := memoryLastPiece
		if over > 8*memoryPiece {
			piece = memoryPiece
		}
		_, err = unix.Mmap(-1, 0, piece, unix.PROT_READ|unix.PROT_WRITE, lockedMemory)
		switch {
		case errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EAGAIN):
			time.Sleep(memoryWatch)
		case err != nil:
			return fmt.Errorf("take memory: %w", err)
		}
	}
}

// lowFree returns the free memory, in KiB, at which the kernel begins to reclaim: the sum of the
// zones' low watermarks, and of what each zone reserves from requests that another could serve. The
// kernel still serves processes down to the min watermark, one fifth less, and so kills none yet;
// below that it serves only requests that cannot wait.
func lowFree() (kib int64, err error) {
	proc, err := procfs.NewDefaultFS()
	var zones []procfs.Zoneinfo
	if err == nil {
		zones, err = proc.Zoneinfo()
	}
	if err != nil {
		return 0, fmt.Errorf("read the watermarks of the memory: %w", err)
	}
	var pages int64
	for _, zone := range zones {
		var reserve int64
		for _, n := range zone.Protection {
			reserve = max(reserve, *n)
		}
		pages += reserve
		if zone.Low != nil {
			pages += *zone.Low
		}
	}
	if pages == 0 {
		return 0, errors.New("/proc/zoneinfo has no watermark")
	}
	return pages * int64(os.Getpagesize()) >> 10, nil
}

func checkMemory(f Fault) error {
	if f.Leave < 0 {
		return fmt.Errorf("%d bytes to be left", f.Leave)
	}
	return nil
}

// clockSubject is the distance of CLOCK_REALTIME from CLOCK_BOOTTIME, which no program can set.
const clockSubject = "CLOCK_REALTIME - CLOCK_BOOTTIME"

const (
	// clockTolerance bounds the error of a reading after the clock was set: the kernel adjusts its
	// source meanwhile, and clockOffset reads the two clocks one after the other.
	clockTolerance = 10 * time.Millisecond
	// clockReadings is the number of readings for one offset; the quickest counts.
	clockReadings = 8
)

// clockJump shifts the time of day by an offset. Connection tracking does not notice, since its
// timeouts count jiffies; the timestamps of entries and of logs change.
func (s *Set) clockJump(_ context.Context, f Fault) (*change, error) {
	before, err := clockOffset()
	if err != nil {
		return nil, err
	}
	// A time daemon may have corrected a part meanwhile: setTo corrects only the rest.
	setTo := func(offset time.Duration) error {
		now, err := clockOffset()
		if err != nil {
			return err
		}
		if by := offset - now; by.Abs() > time.Millisecond {
			if err := shiftClock(by); err != nil {
				return err
			}
		}
		now, err = clockOffset()
		if err == nil && (now-offset).Abs() > clockTolerance {
			err = fmt.Errorf("the clock is off by %v after it was set", now-offset)
		}
		return err
	}
	return &change{
		parts: []*part{{
			subject: clockSubject,
			read: func(context.Context) (string, error) {
				offset, err := clockOffset()
				return fmt.Sprintf("%.6f s", offset.Seconds()), err
			},
			restore: func(context.Context) error { return setTo(before) },
		}},
		do: func(context.Context) error { return setTo(before + f.Clock) },
	}, nil
}

func clockOffset() (time.Duration, error) {
	var best, offset int64
	for i := range clockReadings {
		var begin, real, end unix.Timespec
		err := errors.Join(
			unix.ClockGettime(unix.CLOCK_BOOTTIME, &begin),
			unix.ClockGettime(unix.CLOCK_REALTIME, &real),
			unix.ClockGettime(unix.CLOCK_BOOTTIME, &end))
		if err != nil {
			return 0, fmt.Errorf("read a clock: %w", err)
		}
		if took := end.Nano() - begin.Nano(); i == 0 || took < best {
			best, offset = took, real.Nano()-begin.Nano()-took/2
		}
	}
	return time.Duration(offset), nil
}

// shiftClock adds to CLOCK_REALTIME in one step (ADJ_SETOFFSET, Linux 2.6.39, CAP_SYS_TIME).
func shiftClock(by time.Duration) error {
	adjust := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO}
	whole := by.Truncate(time.Second)
	if whole > by {
		whole -= time.Second
	}
	adjust.Time.Sec, adjust.Time.Usec = int64(whole/time.Second), int64(by-whole)
	if _, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &adjust); err != nil {
		return fmt.Errorf("set the clock by %v: %w", by, err)
	}
	return nil
}

func checkClock(f Fault) error {
	if f.Clock == 0 {
		return errors.New("by no time at all")
	}
	return nil
}
