package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Pause stops the agent's process, and with it all that makes or answers load there. The network stack of its
// namespace is the kernel's and goes on.
func (c *Child) Pause() error { return c.signal(syscall.SIGSTOP) }

// Resume lets a paused agent go on; one that is not paused is not harmed.
func (c *Child) Resume() error { return c.signal(syscall.SIGCONT) }

// Paused reports whether the agent's process is stopped.
func (c *Child) Paused() (bool, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid()) + "/stat")
	if err != nil {
		return false, fmt.Errorf("ask for the state of the agent of %s: %w", c.node, err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name in brackets may hold anything
	return strings.HasPrefix(rest, "T"), nil
}

func (c *Child) signal(signal syscall.Signal) error {
	if err := c.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %v to the agent of %s: %w", signal, c.node, err)
	}
	return nil
}
