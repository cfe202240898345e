package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/ctload/ctload/agent/tuning"
)

// children runs a node's commands. PID 1 reaps orphans in between: a blanket wait beside a running
// command would steal its exit status.
type children struct {
	mu      sync.Mutex
	running map[int]bool // by process id
}

// start starts a command through its own method start or another one.
func (c *children) start(cmd *exec.Cmd, start func() error) error {
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
func (c *children) exec(ctx context.Context, command execRequest) (Output, error) {
	if len(command.Argv) == 0 {
		return Output{}, errors.New("run a command: its name is missing")
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, command.Argv[0], command.Argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(command.Stdin), &stdout, &stderr
	err := c.start(cmd, cmd.Start)
	if err == nil {
		err = c.wait(cmd)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !(ok && exit.Exited()) {
		return Output{}, fmt.Errorf("run %s: %w", command.Argv[0], err)
	}
	return Output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, nil
}

// run runs a command as exec does, for callers that treat a failing command as an error; it is a
// tuning.Runner.
func (c *children) run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	out, err := c.exec(ctx, execRequest{Argv: append([]string{name}, args...), Stdin: stdin})
	if err == nil && out.Exit != 0 {
		status := fmt.Errorf("exit status %d", out.Exit)
		err = &tuning.ToolError{Name: name, Args: args, Stderr: out.Stderr, Err: status}
	}
	return out.Stdout, err
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

// Interaction is a command that talks with a user at a terminal, or with a script, while it runs.
type Interaction struct {
	Argv        []string      // empty: a shell
	Environment []string      // added to the agent's, as TERM=xterm
	Terminal    *TerminalSize // nil: its standard streams are pipes
}

// TerminalSize is in characters.
type TerminalSize struct {
	Rows, Cols uint16
}

// InteractInput is one message to a command: the first starts it, the others carry input.
type InteractInput struct {
	Start *Interaction  `json:",omitempty"`
	Data  []byte        `json:",omitempty"` // for its standard input
	End   bool          `json:",omitempty"` // end of its standard input
	Size  *TerminalSize `json:",omitempty"` // new size of the terminal
}

// InteractOutput is one message of a command: its output, or, last, its exit status.
type InteractOutput struct {
	Stdout []byte `json:",omitempty"`
	Stderr []byte `json:",omitempty"`
	Exit   *int   `json:",omitempty"` // 128 + the signal that ended it, if one did
}

// shells lists shells in the order of preference.
var shells = []string{"bash", "sh", "ash"}

// maxPart bounds the bytes in one message.
const maxPart = 32 << 10

// interactions is the call in which both sides send at any time.
var interactions = grpc.StreamDesc{
	StreamName: "Interact", ServerStreams: true, ClientStreams: true, Handler: interact,
}

func interact(s any, stream grpc.ServerStream) error {
	var first InteractInput
	if err := stream.RecvMsg(&first); err != nil {
		return err
	}
	if first.Start == nil {
		return errors.New("run a command: the first message does not say which")
	}
	argv := first.Start.Argv
	if len(argv) == 0 {
		shell, err := findShell()
		if err != nil {
			return err
		}
		argv = []string{shell}
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(plainEnvironment(), first.Start.Environment...)
	// All processes that it has started: a shell's job would hold the terminal open.
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	p := &interaction{children: s.(*server).children, cmd: cmd, stream: stream, cancel: cancel}
	run := p.onPipes
	if size := first.Start.Terminal; size != nil {
		run = func() (int, error) { return p.onTerminal(*size) }
	}
	exit, err := run()
	if errors.Is(err, exec.ErrNotFound) {
		text := "ctload: this node has no " + argv[0] + "\n"
		exit, err = notFound, p.send(InteractOutput{Stderr: []byte(text)})
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", argv[0], err)
	}
	return p.send(InteractOutput{Exit: &exit})
}

// passed lists the variables that a command for a user gets of the agent's environment: in a
// namespace that environment is the caller's, and may hold secrets.
var passed = []string{"PATH", "HOME", "USER", "SHELL", "TMPDIR", "LANG", "TERM", "XTABLES_LOCKFILE"}

func plainEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(setting string) bool {
		name, _, _ := strings.Cut(setting, "=")
		return !slices.Contains(passed, name) && !strings.HasPrefix(name, "LC_") &&
			!strings.HasPrefix(name, "CTLOAD_")
	})
}

// notFound is the exit status of shells for a missing command.
const notFound = 127

func findShell() (string, error) {
	for _, shell := range shells {
		if path, err := exec.LookPath(shell); err == nil {
			return path, nil
		}
	}
	return "", errors.New("this node has no shell; name a command")
}

// interaction is a running command.
type interaction struct {
	children *children
	cmd      *exec.Cmd
	stream   grpc.ServerStream
	cancel   context.CancelFunc

	mu sync.Mutex // serializes sending
}

func (p *interaction) send(out InteractOutput) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stream.SendMsg(&out)
}

func (p *interaction) onTerminal(size TerminalSize) (int, error) {
	var terminal *os.File
	err := p.children.start(p.cmd, func() (err error) {
		terminal, err = pty.StartWithSize(p.cmd, &pty.Winsize{Rows: size.Rows, Cols: size.Cols})
		return err
	})
	if err != nil {
		return 0, err
	}
	const endOfInput = 4 // ctrl-D
	go p.receive(func(in InteractInput) error {
		var err error
		switch {
		case in.Size != nil:
			err = pty.Setsize(terminal, &pty.Winsize{Rows: in.Size.Rows, Cols: in.Size.Cols})
		case in.End:
			_, err = terminal.Write([]byte{endOfInput})
		default:
			_, err = terminal.Write(in.Data)
		}
		return err
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.copyStdout(terminal)
	}()
	exit, err := p.end()
	// The last process that holds the terminal ends it, with EIO; a background process may stay.
	// Unread bytes after lastWords mean that this node stood still and reads now, or that a
	// background process keeps writing.
	for said, left := false, 10; !said && left > 0; left-- {
		select {
		case <-ended:
			said = true
		case <-time.After(lastWords):
			said = unread(terminal) == 0
		}
	}
	return exit, errors.Join(err, terminal.Close())
}

// lastWords bounds the time in which output from before a command's end must arrive.
const lastWords = time.Second

// unread returns the number of bytes written to a terminal and not yet read; 0 also where it is
// unknown.
func unread(terminal *os.File) (n int) {
	conn, err := terminal.SyscallConn()
	if err != nil {
		return 0
	}
	ask := func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }
	if conn.Control(ask) != nil || err != nil {
		return 0
	}
	return n
}

func (p *interaction) onPipes() (int, error) {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, errIn := p.cmd.StdinPipe()
	stdout, errOut := p.cmd.StdoutPipe()
	stderr, errErr := p.cmd.StderrPipe()
	if err := errors.Join(errIn, errOut, errErr); err != nil {
		return 0, err
	}
	if err := p.children.start(p.cmd, p.cmd.Start); err != nil {
		return 0, err
	}
	go p.receive(func(in InteractInput) error {
		if in.End {
			return stdin.Close()
		}
		_, _ = stdin.Write(in.Data) // the command may have closed it
		return nil
	})
	var copies errgroup.Group
	copies.Go(func() error { return p.copyStdout(stdout) })
	copies.Go(func() error { return p.copyStderr(stderr) })
	copied := copies.Wait() // before the wait, which closes the pipes
	exit, err := p.end()
	return exit, errors.Join(err, copied)
}

// receive passes messages to take until the other side is gone, and then ends the command.
func (p *interaction) receive(take func(InteractInput) error) {
	for {
		var in InteractInput
		err := p.stream.RecvMsg(&in)
		if err != nil && !errors.Is(err, io.EOF) { // EOF: the caller has no more input
			p.cancel()
		}
		if err != nil || take(in) != nil {
			return
		}
	}
}

func (p *interaction) copyStdout(from io.Reader) error {
	return p.copy(from, func(data []byte) InteractOutput { return InteractOutput{Stdout: data} })
}

func (p *interaction) copyStderr(from io.Reader) error {
	return p.copy(from, func(data []byte) InteractOutput { return InteractOutput{Stderr: data} })
}

// copy sends the command's output.
func (p *interaction) copy(from io.Reader, message func([]byte) InteractOutput) error {
	buffer := make([]byte, maxPart)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if err := p.send(message(buffer[:n])); err != nil {
				p.cancel()
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, unix.EIO) || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// end waits for the command; its exit status is no error.
func (p *interaction) end() (int, error) {
	err := p.children.wait(p.cmd)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Interact runs a command on the node. It calls input for the command's input until that returns an
// error, io.EOF at its end; output receives what the command writes. The exit status is no error.
// When ctx ends, the node kills the command.
func (c *Client) Interact(
	ctx context.Context, command Interaction,
	input func() (InteractInput, error), output func(InteractOutput) error,
) (exit int, err error) {
	ctx, end := c.bind(ctx)
	defer end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.grpc.NewStream(ctx, &interactions, "/"+serviceName+"/Interact")
	if err == nil {
		err = stream.SendMsg(&InteractInput{Start: &command})
	}
	if err != nil {
		return 0, c.explain(ctx, "Interact", err)
	}
	go func() {
		for {
			in, err := input()
			if errors.Is(err, io.EOF) {
				_ = stream.CloseSend()
				return
			}
			if err != nil {
				cancel() // the receiver of the output is gone
				return
			}
			if stream.SendMsg(&in) != nil {
				return
			}
		}
	}()
	for {
		var out InteractOutput
		if err := stream.RecvMsg(&out); err != nil {
			return 0, c.explain(ctx, "Interact", err)
		}
		if out.Exit != nil {
			return *out.Exit, nil
		}
		if err := output(out); err != nil {
			return 0, err
		}
	}
}
