package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Pause stops the agent's process, and with it all that makes or answers load there. The network
// stack of its namespace is the kernel's and continues. It returns when the process stands still.
func (c *Child) Pause() error {
	if err := c.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return c.until(true)
}

// Resume continues a paused agent; it does nothing to a running one.
func (c *Child) Resume() error {
	if err := c.signal(syscall.SIGCONT); err != nil {
		return err
	}
	return c.until(false)
}

// pauseLimit bounds how long a process takes to obey a signal, which its threads get when the
// kernel next checks them.
const pauseLimit = 5 * time.Second

func (c *Child) until(paused bool) error {
	for deadline := time.Now().Add(pauseLimit); ; time.Sleep(time.Millisecond) {
		switch now, err := c.Paused(); {
		case err != nil || now == paused:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("the agent of %s does not heed a signal: paused %v after %v", c.node, now, pauseLimit)
		}
	}
}

// Paused reports whether the agent's process is stopped.
func (c *Child) Paused() (bool, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.Pid()) + "/stat")
	if err != nil {
		return false, fmt.Errorf("ask for the state of the agent of %s: %w", c.node, err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name in brackets may hold any text
	return strings.HasPrefix(rest, "T"), nil
}

func (c *Child) signal(signal syscall.Signal) error {
	if err := c.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %v to the agent of %s: %w", signal, c.node, err)
	}
	return nil
}
