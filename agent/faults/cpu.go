package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/actions"
)

func init() {
	makers[actions.CPUThrottle] = maker{checkCPU, (*Set).cpuThrottle}
}

// maxCPU is the largest share of a CPU that CPUThrottle takes: the kernel itself keeps 5 % from
// real-time processes (sched_rt_runtime_us).
const maxCPU = 0.95

// cpuThrottle takes a share of each CPU.
func (s *Set) cpuThrottle(_ context.Context, f Fault) (*change, error) {
	e := newEater(f.Kind, strconv.FormatFloat(f.CPU, 'g', -1, 64))
	var started time.Time
	c := &change{}
	c.parts = []*part{{
		subject: "real-time threads of " + f.ID,
		read:    func(context.Context) (string, error) { return strconv.Itoa(realtimeThreads(e.pid())), nil },
		restore: func(context.Context) error {
			if pid := e.pid(); pid != 0 {
				used, err := processTime(pid)
				if err != nil {
					return err
				}
				c.figures = append(c.figures, Figure{Name: "CPU seconds taken", Before: "0", After: fmt.Sprintf("%.2f", used.Seconds())})
				c.remarks = append(c.remarks, fmt.Sprintf("the CPUs were taken for %.2f s in %.2f s", used.Seconds(), time.Since(started).Seconds()))
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
		if realtimeThreads(e.pid()) == 0 {
			return fmt.Errorf("%s has no real-time thread", EaterRole)
		}
		return nil
	}
	return c, nil
}

// realtimeThreads returns the number of threads of a process under SCHED_FIFO; 0 for a missing
// process.
func realtimeThreads(pid int) int {
	if pid == 0 {
		return 0
	}
	tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return 0
	}
	count := 0
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		if attributes, err := unix.SchedGetAttr(tid, 0); err == nil && attributes.Policy == unix.SCHED_FIFO {
			count++
		}
	}
	return count
}

// clockTick is the unit of /proc/PID/stat on every architecture that Go supports (USER_HZ).
const clockTick = 10 * time.Millisecond

// processTime returns the CPU time that a process has used.
func processTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of %s: %w", EaterRole, err)
	}
	// The name, in brackets, may hold any text; utime and stime are the 14th and 15th field.
	_, rest, _ := strings.Cut(string(text), ") ")
	var ticks time.Duration
	if fields := strings.Fields(rest); len(fields) > 12 {
		for _, field := range fields[11:13] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the CPU time of %s: %w", EaterRole, err)
			}
			ticks += time.Duration(n)
		}
	}
	return ticks * clockTick, nil
}

func checkCPU(f Fault) error {
	if !(f.CPU > 0 && f.CPU <= maxCPU) {
		return fmt.Errorf("share %v: not above 0 and at most %v", f.CPU, maxCPU)
	}
	return nil
}
