package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators/sockets"
)

// ChildRole is the name under which this program runs as the agent of a namespace.
const ChildRole = "ctload-agent"

// childFD is the descriptor of a child agent's stream.
const childFD = 3

// Child is an agent in a process of its own, in a new network namespace.
type Child struct {
	*Client
	cmd *exec.Cmd
}

// StartChild starts an agent in a new network namespace, which ends with it; environment adds to
// the caller's, as KEY=value. It needs CAP_SYS_ADMIN.
func StartChild(node string, environment ...string) (*Child, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("make a stream for the agent of %s: %w", node, err)
	}
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = ChildRole
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), environment...)
	cmd.ExtraFiles = []*os.File{theirs} // descriptor childFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the agent of %s: %w", node, err), ours.Close())
	}
	client, err := NewClient(node, ours)
	if err != nil {
		return nil, errors.Join(err, ours.Close(), cmd.Wait())
	}
	return &Child{Client: client, cmd: cmd}, nil
}

// Pid returns the process whose network namespace is the node's.
func (c *Child) Pid() int { return c.cmd.Process.Pid }

// Close ends the stream, which ends the agent, and waits for the agent.
func (c *Child) Close() error {
	_ = c.Resume() // a paused agent would never notice; the error of a gone one is no failure
	err := c.Client.Close()
	if wait := c.cmd.Wait(); wait != nil {
		err = errors.Join(err, fmt.Errorf("agent process: %w", wait))
	}
	return err
}

// RunChild answers calls in the process that [StartChild] started, until its stream ends.
func RunChild() int {
	stream := os.NewFile(childFD, "agent stream")
	err := raiseLimits()
	if err == nil {
		err = serve(context.Background(), stream, new(children), tuning.Kernel{}, false)
	}
	return exitStatus(err)
}

// raiseLimits raises the limits of what a load needs: a responder asks for a deep backlog, which each
// network namespace limits, and every open connection needs a descriptor.
func raiseLimits() error {
	if err := os.WriteFile("/proc/sys/net/core/somaxconn", []byte("65535"), 0); err != nil {
		return fmt.Errorf("raise somaxconn: %w", err)
	}
	_, err := sockets.RaiseDescriptors(sockets.PlentyDescriptors)
	return err
}

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "agent stream"), os.NewFile(uintptr(fds[1]), "agent stream"), nil
}

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
	process, err := procfs.NewProc(c.Pid())
	var stat procfs.ProcStat
	if err == nil {
		stat, err = process.Stat()
	}
	if err != nil {
		return false, fmt.Errorf("ask for the state of the agent of %s: %w", c.node, err)
	}
	return stat.State == "T", nil
}

func (c *Child) signal(signal syscall.Signal) error {
	if err := c.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %v to the agent of %s: %w", signal, c.node, err)
	}
	return nil
}
