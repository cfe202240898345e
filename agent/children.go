package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/tuning"
)

// children runs a node's commands. PID 1 reaps orphans in between: a blanket wait beside a running
// command would steal its exit status.
type children struct {
	mu      sync.Mutex
	running map[int]bool // by process id
}

// start starts a command.
func (c *children) start(cmd *exec.Cmd) error { return c.startBy(cmd, cmd.Start) }

// startBy starts a command through start instead of the command's own method.
func (c *children) startBy(cmd *exec.Cmd, start func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := start(); err != nil {
		return err
	}
	if c.running == nil {
		c.running = map[int]bool{}
	}
	c.running[cmd.Process.Pid] = true
	return nil
}

// wait waits for a started command.
func (c *children) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	c.mu.Lock()
	delete(c.running, cmd.Process.Pid)
	c.mu.Unlock()
	if os.Getpid() == 1 {
		c.reap() // the orphans that ended meanwhile
	}
	return err
}

// exec runs a command. Its exit status is no error.
func (c *children) exec(ctx context.Context, stdin string, argv []string) (*Output, error) {
	if len(argv) == 0 {
		return nil, errors.New("run a command: its name is missing")
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := c.start(cmd)
	if err == nil {
		err = c.wait(cmd)
	}
	out := &Output{Stdout: stdout.String(), Stderr: stderr.String()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		out.Exit = exit.ExitCode()
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", argv[0], err)
	}
	return out, nil
}

// run runs a command as exec does, for callers that treat a failing command as an error; it is a
// tuning.Runner.
func (c *children) run(ctx context.Context, stdin string, name string, args ...string) (string, error) {
	out, err := c.exec(ctx, stdin, append([]string{name}, args...))
	if err != nil {
		return "", err
	}
	if out.Exit != 0 {
		return out.Stdout, &tuning.ToolError{Name: name, Args: args, Stderr: out.Stderr, Err: fmt.Errorf("exit status %d", out.Exit)}
	}
	return out.Stdout, nil
}

// reap waits for every ended orphan while no command is running. Only PID 1 has orphans.
func (c *children) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.running) == 0 {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if pid <= 0 {
			return
		}
	}
}
