package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/modload"
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

// PortName is the name of the virtio-serial port of a guest's agent.
const PortName = "org.ctload.agent"

// portWait bounds how long a guest looks for its port.
const portWait = 30 * time.Second

// InitRole is the name under which this program runs as a guest's PID 1.
const InitRole = "init"

// Init runs as PID 1 of a guest: it mounts, loads modules, answers the agent's calls, and powers
// the machine off when its stream has ended or a step fails. It does not return.
func Init() int {
	exitStatus(runGuest())
	powerOffMachine()
	return 1
}

func runGuest() error {
	if err := mountGuest(); err != nil {
		return err
	}
	// The kernel gives PID 1 its own PATH, without the folders of the rule tools.
	if err := os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return err
	}
	if err := modload.Boot(); err != nil {
		return err
	}
	if err := raiseLimits(); err != nil {
		return err
	}
	port, err := openPort(PortName)
	if err != nil {
		return err
	}
	children := new(children)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go reapOrphans(ctx, children)
	kernel := tuning.Kernel{LoadModule: func(_ context.Context, name string, parameters ...string) error {
		return modload.Load(name, parameters...)
	}}
	return serve(ctx, port, children, kernel, true)
}

func reapOrphans(ctx context.Context, children *children) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			children.reap()
		}
	}
}

func mountGuest() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"},
		{"devpts", "/dev/pts"}, {"tracefs", "/sys/kernel/tracing"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil && m.kind != "tracefs" {
			return fmt.Errorf("make %s: %w", m.at, err)
		}
		err := unix.Mount(m.kind, m.at, m.kind, 0, "")
		// The kernel may have mounted /dev itself; tracefs serves only drop reasons, which are
		// optional.
		if err != nil && !errors.Is(err, unix.EBUSY) && m.kind != "tracefs" {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return linkStandardStreams()
}

// linkStandardStreams adds the links that udev would: nft from 1.0.9 on opens /dev/stdin to read a
// script from its standard input, and devtmpfs has no such file.
func linkStandardStreams() error {
	for name, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(to, filepath.Join("/dev", name)); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("link /dev/%s: %w", name, err)
		}
	}
	return nil
}

// openPort finds the virtio-serial port by its name, which appears once virtio_console has found
// the device.
func openPort(name string) (io.ReadWriteCloser, error) {
	deadline := time.NewTimer(portWait)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		named, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, file := range named {
			text, err := os.ReadFile(file)
			if err != nil || strings.TrimSpace(string(text)) != name {
				continue
			}
			port, err := os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(file))), os.O_RDWR|unix.O_NONBLOCK, 0)
			if err != nil {
				return nil, fmt.Errorf("open the agent's port: %w", err)
			}
			return port, nil
		}
		select {
		case <-deadline.C:
			return nil, fmt.Errorf("no virtio-serial port called %s appeared in %v", name, portWait)
		case <-poll.C:
		}
	}
}

func powerOffMachine() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// StdioRole is the name under which this program runs as the agent of a machine that another
// program has booted: it speaks over its standard streams, as those of ssh.
const StdioRole = "ctload-agent-stdio"

// RunStdio answers calls on the standard streams of a process called [StdioRole] until they end. It
// needs root and the network namespace of the kernel under test.
func RunStdio() int {
	return exitStatus(runStdio())
}

func runStdio() error {
	// Other output on the standard output would break the protocol.
	stream := standardStreams{in: os.Stdin, out: os.Stdout}
	os.Stdout = os.Stderr
	// sudo and ssh may omit the folders of the rule tools.
	if err := os.Setenv("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"); err != nil {
		return err
	}
	if err := raiseLimits(); err != nil {
		return err
	}
	return serve(context.Background(), stream, new(children), tuning.Kernel{}, true)
}

// standardStreams joins a process's standard input and output into one stream.
type standardStreams struct {
	in, out *os.File
}

func (s standardStreams) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s standardStreams) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s standardStreams) Close() error                { return errors.Join(s.in.Close(), s.out.Close()) }
