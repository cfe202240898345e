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

	"github.com/ctload/ctload/agent/faults"
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

// endLimit bounds the time that an agent has for its end.
const endLimit = 10 * time.Second

// Close ends the stream, which ends the agent, and waits for the agent.
func (c *Child) Close() error {
	_ = c.Resume() // a paused agent would never notice; the error of a gone one is no failure
	err := c.Client.Close()
	late := time.AfterFunc(endLimit, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
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
		node := faults.Node{Kernel: tuning.Kernel{Run: tuning.GivenBox()}}
		err = serve(context.Background(), stream, new(children), node)
	}
	return exitStatus(err)
}

// raiseLimits raises the limits of what a load needs: a responder asks for a deep backlog, which
// each network namespace limits, and every open connection needs a descriptor.
func raiseLimits() error {
	if err := os.WriteFile("/proc/sys/net/core/somaxconn", []byte("65535"), 0); err != nil {
		return fmt.Errorf("raise somaxconn: %w", err)
	}
	_, err := sockets.RaiseDescriptors(sockets.PlentyDescriptors)
	return err
}

func socketPair() (ours, theirs *os.File, err error) {
	kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fds, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err != nil {
		return nil, nil, err
	}
	file := func(fd int) *os.File { return os.NewFile(uintptr(fd), "agent stream") }
	return file(fds[0]), file(fds[1]), nil
}

// Pause stops the agent's process, and with it all that makes or answers load there. The network
// stack of its namespace is the kernel's and continues. It returns when the process stands still.
func (c *Child) Pause() error { return c.signal(syscall.SIGSTOP, true) }

// Resume continues a paused agent; it does nothing to a running one.
func (c *Child) Resume() error { return c.signal(syscall.SIGCONT, false) }

// pauseLimit bounds how long a process takes to obey a signal, which its threads get when the
// kernel next checks them.
const pauseLimit = 5 * time.Second

// signal sends a signal and waits for its effect.
func (c *Child) signal(signal syscall.Signal, paused bool) error {
	if err := c.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %v to the agent of %s: %w", signal, c.node, err)
	}
	for deadline := time.Now().Add(pauseLimit); ; time.Sleep(time.Millisecond) {
		switch now, err := c.Paused(); {
		case err != nil || now == paused:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("agent of %s: no effect of %v within %v", c.node, signal, pauseLimit)
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
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		for range ended { // until the machine is off
			children.reap()
		}
	}()
	load := func(_ context.Context, name string, parameters ...string) error {
		return modload.Load(name, parameters...)
	}
	node := faults.Node{Kernel: tuning.Kernel{LoadModule: load}, Own: true}
	return serve(context.Background(), port, children, node)
}

func mountGuest() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"},
		{"tmpfs", "/tmp"}, {"devpts", "/dev/pts"}, {"tracefs", "/sys/kernel/tracing"},
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
	for name, to := range map[string]string{"fd": "", "stdin": "0", "stdout": "1", "stderr": "2"} {
		err := os.Symlink(filepath.Join("/proc/self/fd", to), filepath.Join("/dev", name))
		if err != nil && !errors.Is(err, os.ErrExist) {
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
			device := filepath.Join("/dev", filepath.Base(filepath.Dir(file)))
			port, err := os.OpenFile(device, os.O_RDWR|unix.O_NONBLOCK, 0)
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
func RunStdio() int { return exitStatus(runStdio()) }

func runStdio() error {
	stream := struct {
		io.ReadCloser
		io.Writer
	}{os.Stdin, os.Stdout}
	os.Stdout = os.Stderr // other output would break the protocol
	// Go ends a process that writes to a broken standard output, before it reverts its faults,
	// unless it has asked for the signal. An ignored one would be ignored by every child.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	// sudo and ssh may omit the folders of the rule tools.
	const path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
	if err := os.Setenv("PATH", path); err != nil {
		return err
	}
	if err := raiseLimits(); err != nil {
		return err
	}
	return serve(context.Background(), stream, new(children), faults.Node{Own: true})
}
