package main

import (
	"os/exec"
	"time"
)

// cpu is the CPU time that a tool has used, and how long it ran, in seconds: what it takes itself and
// what the kernel takes for it. What the kernel does for the target in the same breath, on this one
// machine, is in it.
type cpu struct {
	User   float64 `json:"user"`
	Kernel float64 `json:"kernel"`
	Wall   float64 `json:"wall"`
}

func (c cpu) total() float64 { return c.User + c.Kernel }

// ran adds a tool that has ended, and that was started at since, to what the measurement has spent.
func (l *lab) ran(cmd *exec.Cmd, since time.Time) {
	if cmd.ProcessState == nil {
		return
	}
	l.spent.User += cmd.ProcessState.UserTime().Seconds()
	l.spent.Kernel += cmd.ProcessState.SystemTime().Seconds()
	l.spent.Wall = max(l.spent.Wall, time.Since(since).Seconds())
}

// tool runs the command of a tool that is measured and returns its standard output.
func (l *lab) tool(cmd *exec.Cmd) ([]byte, error) {
	start := time.Now()
	out, err := output(cmd)
	l.ran(cmd, start)
	return out, err
}
