package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
)

// roles are the functions of the program when it starts itself again.
var roles = map[string]func(ctx context.Context, args []string, stdout io.Writer) error{
	"generate":     generate,
	"serve":        serve,
	"connect-loop": connectLoop,
	"sample":       sample,
	"capture":      takeCapture,
}

// generate reads a spec and writes a result.
func generate(ctx context.Context, _ []string, stdout io.Writer) error {
	var spec generators.Spec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return fmt.Errorf("reading the spec: %w", err)
	}
	result, err := generators.Run(ctx, spec, nil)
	if err != nil {
		return err
	}
	usage, err := resources(unix.RUSAGE_SELF)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(outcome{result, usage.Maxrss << 10})
}

// outcome is the report of a generator process.
type outcome struct {
	Result     generators.Result `json:"result"`
	PeakMemory int64             `json:"peak_memory"` // bytes resident at most
}

// resources returns what this process, or the children that it has waited for, has used.
func resources(which int) (usage unix.Rusage, err error) {
	err = unix.Getrusage(which, &usage)
	return usage, err
}

// serve reads the spec of a responder, reports when it is ready and goes on until it is killed.
func serve(ctx context.Context, _ []string, stdout io.Writer) error {
	var spec responders.Spec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return fmt.Errorf("reading the spec: %w", err)
	}
	r, err := responders.Listen(ctx, spec)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "ready")
	<-ctx.Done()
	return r.Close()
}

// connectLoop does the work of the crafted handshakes' peer: a plain connect() loop that keeps the
// sockets. It reports when it is ready, begins on command and ends with its input.
func connectLoop(_ context.Context, args []string, stdout io.Writer) error {
	target, err := netip.ParseAddr(args[0])
	count, countErr := strconv.Atoi(args[1])
	if err := errors.Join(err, countErr); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "ready")
	if _, err := fmt.Fscan(os.Stdin, new(string)); err != nil {
		return err
	}
	var held []int
	for k := range count {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening socket %d: %w", k, err)
		}
		// Rotating ports shortens the kernel's search for a source port.
		to := unix.SockaddrInet4{Port: firstPort + k%ports, Addr: target.As4()}
		if err := unix.Connect(fd, &to); err != nil {
			return fmt.Errorf("connecting socket %d: %w", k, err)
		}
		held = append(held, fd)
	}
	fmt.Fprintln(stdout, "done")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	// Each ends by reset: an unanswered FIN would keep its port from the next row.
	reset := unix.Linger{Onoff: 1}
	for _, fd := range held {
		if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &reset); err != nil {
			return fmt.Errorf("preparing the resets: %w", err)
		}
	}
	return nil
}

// perLoop is the number of sockets of a connect loop: a usual limit of descriptors is 20000.
const perLoop = 15_000

// connectLoops runs connect loops, one for each CPU at a time, until together they hold count
// sockets.
func (l *lab) connectLoops(ctx context.Context, target string, count int) (h held, err error) {
	type loop struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out io.Reader
	}
	var loops []loop
	var start time.Time
	h.release = func() error {
		var errs []error
		for _, one := range loops {
			errs = append(errs, one.in.Close(), one.cmd.Wait())
			l.ran(one.cmd, start)
		}
		l.spent.Wall = h.seconds // the rest was waiting and checking
		return errors.Join(errs...)
	}
	for range count / perLoop {
		args := []string{selfPath, "connect-loop", target, strconv.Itoa(perLoop)}
		cmd := l.in(ctx, "client", "", args...)
		cmd.Stderr = os.Stderr
		in, inErr := cmd.StdinPipe()
		out, outErr := cmd.StdoutPipe()
		if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
			return h, err
		}
		loops = append(loops, loop{cmd, in, out})
		if _, err := fmt.Fscan(out, new(string)); err != nil {
			return h, err
		}
	}
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	start = time.Now()
	for _, one := range loops {
		group.Go(func() error {
			if _, err := fmt.Fprintln(one.in, "go"); err != nil {
				return err
			}
			_, err := fmt.Fscan(one.out, new(string))
			return err
		})
	}
	err = group.Wait()
	h.seconds = time.Since(start).Seconds()
	return h, err
}

// The ports that the responders listen on.
const (
	firstPort = 7000
	ports     = 16
)

func portList() []uint16 { return portsFrom(firstPort, firstPort+ports-1) }

// generator runs a spec in a process of its own in the client's namespace, on these CPUs.
func (l *lab) generator(ctx context.Context, cpus string, spec generators.Spec) (outcome, error) {
	var out outcome
	output, err := l.tool(withInput(l.in(ctx, "client", cpus, selfPath, "generate"), spec))
	if err == nil {
		err = json.Unmarshal(output, &out)
	}
	if err != nil {
		return out, err
	}
	if r := out.Result; r.Failed > r.Offered/100 {
		return out, fmt.Errorf("the generator failed %d of %d: %v", r.Failed, r.Offered, r.Causes)
	}
	return out, nil
}

// responder returns a setup that starts a responder in a namespace.
func (l *lab) responder(namespace string, spec responders.Spec) setup {
	return func(ctx context.Context) (func() error, error) {
		cmd := withInput(l.in(ctx, namespace, "", selfPath, "serve"), spec)
		cmd.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err = errors.Join(err, cmd.Start()); err != nil {
			return nil, err
		}
		if _, err := fmt.Fscan(pipe, new(string)); err != nil {
			return nil, errors.Join(fmt.Errorf("starting a responder: %w", err), cmd.Wait())
		}
		return func() error { return end(cmd) }, nil
	}
}

// selfPath is the path of this program, valid in other processes too.
var selfPath, _ = os.Executable() // fails only without /proc

// end interrupts a process that would go on forever, and waits for it.
func end(cmd *exec.Cmd) error {
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		return err
	}
	err := cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil // the interrupt ended it
	}
	return err
}

// output runs a command and returns its standard output; its standard error goes into the error.
func output(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	if err != nil {
		var stderr []byte
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			stderr = exit.Stderr
		}
		return out, fmt.Errorf("%v: %w: %s", cmd.Args[4:], err, stderr)
	}
	return out, nil
}

// portsFrom returns all ports from first to last.
func portsFrom(first, last int) []uint16 {
	var list []uint16
	for p := first; p <= last; p++ {
		list = append(list, uint16(p))
	}
	return list
}

// withInput gives a command a document as its input.
func withInput(cmd *exec.Cmd, document any) *exec.Cmd {
	text, err := json.Marshal(document)
	cmd.Err = errors.Join(cmd.Err, err)
	cmd.Stdin = bytes.NewReader(text)
	return cmd
}
