package vagrant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/ctload/ctload/vm"
)

// endpoint is the path of an ssh_config(5) for the machine, as `vagrant ssh-config dut` prints it.
type endpoint string

// args returns ssh's arguments for this machine, without a command. They come before Vagrant's. ssh
// ignores host keys: the machine is new and has a link of its own. The first algorithms are those
// that cost an emulated machine least. An option that only Vagrant knows is no error.
func (e endpoint) args() []string {
	args := []string{"-F", string(e), "-T"}
	for option := range strings.FieldsSeq(`IgnoreUnknown=* LogLevel=ERROR ConnectTimeout=10
		StrictHostKeyChecking=no UserKnownHostsFile=/dev/null GlobalKnownHostsFile=/dev/null
		PasswordAuthentication=no KbdInteractiveAuthentication=no IdentitiesOnly=yes
		ServerAliveInterval=5 ServerAliveCountMax=12
		KexAlgorithms=^curve25519-sha256 HostKeyAlgorithms=^ssh-ed25519`) {
		args = append(args, "-o", option)
	}
	return append(args, "dut")
}

// command returns ssh with a command for the machine's shell.
func (e endpoint) command(ctx context.Context, command string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ssh", append(e.args(), command)...)
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// run runs a command in the machine's shell, with stdin as its input, and returns its output.
func (e endpoint) run(ctx context.Context, stdin io.Reader, command string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := e.command(ctx, command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("over ssh: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// until repeats a command until it succeeds or ctx ends: a machine or an ssh server that has just
// started refuses connections at first.
func (e endpoint) until(ctx context.Context, command string) error {
	const between = 200 * time.Millisecond
	for {
		attempt, cancel := context.WithTimeout(ctx, 15*time.Second)
		_, err := e.run(attempt, nil, command)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(between):
		}
	}
}

// copy writes a file of this host to a path of the machine, as root and executable.
func (e endpoint) copy(ctx context.Context, from, to string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	const script = "sudo -n sh -c 'umask 022; mkdir -p %[1]s && cat > %[2]s && chmod 0755 %[2]s'"
	_, err = e.run(ctx, file, fmt.Sprintf(script, path.Dir(to), to))
	return err
}

// stream starts a command whose standard streams are one stream of bytes. It ends with the command.
func (e endpoint) stream(command string) (*remote, error) {
	r := new(remote)
	r.cmd = e.command(context.Background(), command)
	r.cmd.Stderr = &r.said
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if r.out, err = r.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start ssh: %w", err)
	}
	return r, nil
}

// remote is a command on a machine, as a stream of bytes.
type remote struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.ReadCloser
	said vm.Tail // end of its standard error
	once sync.Once
}

func (r *remote) Read(p []byte) (int, error)  { return r.out.Read(p) }
func (r *remote) Write(p []byte) (int, error) { return r.in.Write(p) }

// Close ends ssh at once; the command on the machine ends with its stream.
func (r *remote) Close() error {
	r.once.Do(func() {
		_ = r.in.Close()
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait() // killed, so its status says nothing
	})
	return nil
}
