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
)

// args returns ssh's arguments for this machine, without a command. ssh ignores host keys: the
// machine is new and has a link of its own. The first algorithms are those that cost an emulated
// machine least.
func (e endpoint) args() []string {
	args := []string{
		"-F", "none", "-T", "-p", e.port, "-l", e.user,
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "PasswordAuthentication=no", "-o", "KbdInteractiveAuthentication=no", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR",
		"-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=12",
		"-o", "KexAlgorithms=^curve25519-sha256", "-o", "HostKeyAlgorithms=^ssh-ed25519",
	}
	for _, key := range e.keys {
		args = append(args, "-i", key)
	}
	return append(args, e.host)
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
	script := fmt.Sprintf("umask 022; mkdir -p %[1]s && cat > %[2]s && chmod 0755 %[2]s", path.Dir(to), to)
	_, err = e.run(ctx, file, "sudo -n sh -c '"+script+"'")
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
	said tail // end of its standard error
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

// tail keeps the last bytes that are written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const tailBytes = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - tailBytes; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}

// endpoint is the address of a machine, as `vagrant ssh-config` prints it.
type endpoint struct {
	host string // address
	port string
	user string
	keys []string // paths of private keys
}

// parseSSHConfig parses the first Host of an ssh_config(5), as `vagrant ssh-config MACHINE` prints
// it.
func parseSSHConfig(text string) (endpoint, error) {
	e := endpoint{port: "22"}
	hosts := 0
	for line := range strings.Lines(text) {
		keyword, value := option(line)
		switch strings.ToLower(keyword) {
		case "host":
			hosts++
		case "hostname":
			e.host = value
		case "port":
			e.port = value
		case "user":
			e.user = value
		case "identityfile":
			e.keys = append(e.keys, value)
		}
		if hosts > 1 {
			break
		}
	}
	switch {
	case e.host == "":
		return endpoint{}, fmt.Errorf("vagrant ssh-config names no HostName in %q", text)
	case e.user == "":
		return endpoint{}, errors.New("vagrant ssh-config names no User")
	case strings.HasPrefix(e.host, "-") || strings.HasPrefix(e.user, "-"):
		return endpoint{}, fmt.Errorf("vagrant ssh-config names %s@%s, which ssh would take for an option", e.user, e.host)
	}
	return e, nil
}

// option splits a line of ssh_config(5): a keyword, blanks or one "=", and a value that may be in
// quotes.
func option(line string) (keyword, value string) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", ""
	}
	end := strings.IndexAny(line, " \t=")
	if end < 0 {
		return line, ""
	}
	keyword, value = line[:end], strings.TrimSpace(line[end:])
	if rest, ok := strings.CutPrefix(value, "="); ok {
		value = strings.TrimSpace(rest)
	}
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	return keyword, value
}
