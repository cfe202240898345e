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

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/actions"
)

func init() {
	makers[actions.MemoryPressure] = maker{checkMemory, (*Set).memoryPressure}
}

const (
	// oomVictim makes a process the first that the kernel kills for memory, oomExempt one that it
	// never kills.
	oomVictim = "1000"
	oomExempt = "-1000"
	oomFile   = "/proc/self/oom_score_adj"
)

// memoryRetry is how long memory stays free after the kernel has killed the child that held it.
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
	e := newEater(f.Kind, strconv.FormatInt(f.Leave, 10))
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
				c.remarks = append(c.remarks, fmt.Sprintf("the kernel killed what held the memory %d times; it was taken again each time", kills))
			}
			c.figures = append(c.figures, Figure{Name: "OOM kills", Before: "0", After: strconv.Itoa(kills)})
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
		// This question allocates no memory in the kernel, so that the kernel kills no process for
		// it.
		var now unix.Sysinfo_t
		if err := unix.Sysinfo(&now); err != nil {
			return fmt.Errorf("ask for the free memory: %w", err)
		}
		over := int64(now.Freeram)*int64(now.Unit) - reserve<<10
		if leave > 0 {
			// Not all available memory can be had: the kernel kills a process that requests more
			// than is free.
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
		_, err = unix.Mmap(-1, 0, piece, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE|unix.MAP_LOCKED)
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
	text, err := os.ReadFile("/proc/zoneinfo")
	if err != nil {
		return 0, fmt.Errorf("read the watermarks of the memory: %w", err)
	}
	var pages int64
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(strings.NewReplacer("(", " ", ")", " ", ",", " ").Replace(line))
		var most int64
		switch {
		case len(fields) == 2 && fields[0] == "low":
		case len(fields) > 1 && fields[0] == "protection:":
		default:
			continue
		}
		for _, field := range fields[1:] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the watermarks of the memory: %q: %w", line, err)
			}
			most = max(most, n)
		}
		pages += most
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
