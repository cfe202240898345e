package agent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/tuning"
)

// StdioRole is the name under which this program runs as the agent of a machine that another
// program has booted: it speaks over its standard streams, as those of ssh.
const StdioRole = "ctload-agent-stdio"

// RunStdio answers calls on the standard streams of a process called [StdioRole] until they end. It
// needs root and the network namespace of the kernel under test.
func RunStdio() int {
	if err := runStdio(); err != nil {
		logf("%v", err)
		return 1
	}
	return 0
}

func runStdio() error {
	// Other output on the standard output would break the protocol.
	stream := standardStreams{in: os.Stdin, out: os.Stdout}
	os.Stdout = os.Stderr
	// sudo and ssh may omit the folders of the rule tools.
	if err := os.Setenv("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"); err != nil {
		return err
	}
	// As in a guest: a deep backlog, and the descriptors for all its connections.
	if err := os.WriteFile("/proc/sys/net/core/somaxconn", []byte("65535"), 0); err != nil {
		return fmt.Errorf("raise somaxconn: %w", err)
	}
	const descriptors = 1 << 20
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: descriptors, Max: descriptors}); err != nil {
		return fmt.Errorf("raise the limit of descriptors: %w", err)
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
