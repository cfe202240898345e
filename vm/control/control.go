// Package control lets other processes of the same user talk to the nodes of a lab that is up: its
// process listens on a socket in the user's runtime folder, which only the user can enter.
//
// A connection carries a request as a line of JSON, then the messages of [agent.Client.Interact].
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/vm"
)

// request is the first message of a connection.
type request struct {
	Do      string            `json:"do"` // one of the constants below
	Node    string            `json:"node,omitempty"`
	Command agent.Interaction `json:"command,omitzero"`
}

// Kinds of requests.
const (
	doAbout = "about"
	doRun   = "run"
	doDown  = "down" // the connection then ends with the lab
)

// answer is a message to the caller.
type answer struct {
	agent.InteractOutput
	About *About `json:"about,omitempty"`
	Error string `json:"error,omitempty"`
}

// About describes the lab that is up.
type About struct {
	Name  string   `json:"name"` // experiment and scenario
	Nodes []string `json:"nodes"`
	PID   int      `json:"pid"` // of the process that the user started
}

// errNone means that no lab is up.
var errNone = errors.New("no lab is up; start one with: ctload vm up EXPERIMENT")

// Socket returns the path of the user's socket and makes its folder.
func Socket() (string, error) {
	folder := filepath.Join(vm.RuntimeFolder(), fmt.Sprintf("ctload-%d", os.Getuid()))
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make the folder of the lab's socket: %w", err)
	}
	info, err := os.Lstat(folder)
	if err != nil {
		return "", fmt.Errorf("look at the folder of the lab's socket: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("the folder of the socket, %s, is not yours alone (0700)", folder)
	}
	return filepath.Join(folder, "vm.sock"), nil
}

// dial connects to the lab that is up; without one it returns [errNone].
func dial(path string) (net.Conn, error) {
	conn, err := net.Dial("unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errNone
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the lab: %w", err)
	}
	return conn, nil
}

// caller is a connection to a lab.
type caller struct {
	wire
	hangUp func()
}

// wire carries messages both ways.
type wire struct {
	*json.Encoder
	decoder *json.Decoder
	meter   *meter
}

func newWire(conn net.Conn) wire {
	m := &meter{from: conn}
	return wire{json.NewEncoder(conn), json.NewDecoder(m), m}
}

// Decode reads one message of at most maxMessage bytes.
func (w wire) Decode(message any) error {
	w.meter.left = maxMessage
	return w.decoder.Decode(message)
}

// maxMessage bounds a message, in bytes: the input of a command comes in parts of 32 KiB.
const maxMessage = 1 << 20

// meter reads up to a number of bytes.
type meter struct {
	from io.Reader
	left int
}

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, fmt.Errorf("the message is longer than %d bytes", maxMessage)
	}
	n, err := m.from.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

// ask connects to the lab at path and sends a request. The connection also ends with ctx.
func ask(ctx context.Context, path string, r request) (*caller, error) {
	conn, err := dial(path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	c := &caller{newWire(conn), func() {
		stop()
		_ = conn.Close()
	}}
	if err := c.Encode(r); err != nil {
		c.hangUp()
		return nil, fmt.Errorf("ask the lab: %w", err)
	}
	return c, nil
}

// RefusedError is the reason for which a lab refuses a request.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Look returns what is up at path. The error is [errNone] without a lab.
func Look(path string) (About, error) {
	c, err := ask(context.Background(), path, request{Do: doAbout})
	if err != nil {
		return About{}, err
	}
	defer c.hangUp()
	var a answer
	if err := c.Decode(&a); err != nil || a.About == nil {
		return About{}, fmt.Errorf("ask the lab what it is: %w", lost(err))
	}
	return *a.About, nil
}

// Down ends the lab at path and returns when it is gone, or ctx has ended; see [errNone].
func Down(ctx context.Context, path string) error {
	c, err := ask(ctx, path, request{Do: doDown})
	if err != nil {
		return err
	}
	defer c.hangUp()
	var a answer
	err = c.Decode(&a)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil && a.Error != "":
		return &RefusedError{a.Error}
	}
	return nil // the connection has ended with the lab
}

// Run runs a command on a node of the lab at path, with stdin until its end and the sizes from
// sizes, and returns its exit status. When ctx ends, the lab kills the command.
func Run(
	ctx context.Context, path, node string, command agent.Interaction,
	stdin io.Reader, sizes <-chan agent.TerminalSize, stdout, stderr io.Writer,
) (exit int, err error) {
	c, err := ask(ctx, path, request{Do: doRun, Node: node, Command: command})
	if err != nil {
		return 0, err
	}
	defer c.hangUp()
	s := &sender{encoder: c.Encoder}
	go s.copy(stdin)
	go s.follow(ctx, sizes)
	for {
		var a answer
		if err := c.Decode(&a); err != nil {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			return 0, fmt.Errorf("the lab is gone: %w", lost(err))
		}
		switch {
		case a.Error != "":
			return 0, &RefusedError{a.Error}
		case a.Exit != nil:
			return *a.Exit, nil
		}
		if _, err := stdout.Write(a.Stdout); err != nil {
			return 0, err
		}
		if _, err := stderr.Write(a.Stderr); err != nil {
			return 0, err
		}
	}
}

// lost turns the end of a connection into io.ErrUnexpectedEOF.
func lost(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// sender sends input. Safe for concurrent use.
type sender struct {
	mu      sync.Mutex
	encoder *json.Encoder
}

func (s *sender) send(in agent.InteractInput) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.encoder.Encode(in)
}

// copy sends stdin, and its end.
func (s *sender) copy(stdin io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := stdin.Read(buffer)
		if n > 0 && s.send(agent.InteractInput{Data: buffer[:n]}) != nil {
			return
		}
		if err != nil {
			_ = s.send(agent.InteractInput{End: true})
			return
		}
	}
}

// follow sends the sizes of the terminal.
func (s *sender) follow(ctx context.Context, sizes <-chan agent.TerminalSize) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes:
			if !ok || s.send(agent.InteractInput{Size: &size}) != nil {
				return
			}
		}
	}
}
