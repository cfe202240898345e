package main

import (
	"os/exec"
	"time"
)

// cpu is the CPU time of a tool, and how long it ran, in seconds: its own time and the kernel's for
// it. It includes the kernel's work for the target in the same system calls, on this one machine.
type cpu struct {
	User   float64 `json:"user"`
	Kernel float64 `json:"kernel"`
	Wall   float64 `json:"wall"`
}

func (c cpu) total() float64 { return c.User + c.Kernel }

// ran adds the CPU time and the run time of a tool that was started at since and has ended to those
// of the measurement.
func (l *lab) ran(cmd *exec.Cmd, since time.Time) {
	if cmd.ProcessState == nil {
		return
	}
	l.spent.User += cmd.ProcessState.UserTime().Seconds()
	l.spent.Kernel += cmd.ProcessState.SystemTime().Seconds()
	l.spent.Wall = max(l.spent.Wall, time.Since(since).Seconds())
}

// tool runs the command of a measured tool and returns its standard output.
func (l *lab) tool(cmd *exec.Cmd) ([]byte, error) {
	start := time.Now()
	out, err := output(cmd)
	l.ran(cmd, start)
	return out, err
}
