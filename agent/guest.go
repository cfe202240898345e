package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/modload"
	"github.com/ctload/ctload/agent/tuning"
)

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
