package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"slices"
	"sync"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/vm"
)

// Server is the lab's side.
type Server struct {
	listener net.Listener
	path     string
}

// Listen opens the socket at path and replaces one that a killed lab left. It is an error when a
// lab is up there.
func Listen(path string) (*Server, error) {
	conn, err := dial(path)
	if err == nil {
		about, _ := aboutOf(conn)
		return nil, errors.Join(fmt.Errorf("a lab is up already (%s, process %d); end it with: ctload vm down", about.Name, about.PID), conn.Close())
	}
	if !errors.Is(err, errNone) {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of a lab that is gone: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for callers of the lab: %w", err)
	}
	return &Server{listener: listener, path: path}, nil
}

// Close removes the socket.
func (s *Server) Close() error {
	err := s.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// Serve answers callers until one of them asks it to end the lab, which is no error, or ctx ends.
// It then kills running commands.
func (s *Server) Serve(ctx context.Context, about About, nodes map[string]vm.Node) error {
	about.Nodes = slices.Sorted(maps.Keys(nodes))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var calls sync.WaitGroup
	defer calls.Wait()
	context.AfterFunc(ctx, func() { _ = s.listener.Close() })
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			cancel(nil)
			if errors.Is(err, errDown) {
				return nil
			}
			return err
		}
		calls.Go(func() {
			c := &call{conn: conn, decoder: json.NewDecoder(conn), encoder: json.NewEncoder(conn)}
			if c.serve(ctx, about, nodes) {
				cancel(errDown)
				return // the connection ends with the process
			}
			_ = conn.Close()
		})
	}
}

// errDown is the cause when a caller asked to end the lab.
var errDown = errors.New("the lab is wanted down")

// call is one connection.
type call struct {
	conn    net.Conn
	decoder *json.Decoder
	encoder *json.Encoder
}

// serve answers the connection's request; down reports whether it asks to end the lab.
func (c *call) serve(ctx context.Context, about About, nodes map[string]vm.Node) (down bool) {
	var r request
	if err := c.decoder.Decode(&r); err != nil {
		return false
	}
	var err error
	switch r.Do {
	case doAbout:
		err = c.encoder.Encode(answer{About: &about})
	case doDown:
		return true
	case doRun:
		node, ok := nodes[r.Node]
		if !ok {
			_ = c.encoder.Encode(answer{Error: fmt.Sprintf("there is no node %q%s", r.Node, spelling.Hint(r.Node, about.Nodes))})
			return false
		}
		err = c.run(ctx, node.Agent(), r.Command)
	default:
		err = fmt.Errorf("this lab knows no %q: it was started by another ctload", r.Do)
	}
	if err != nil {
		_ = c.encoder.Encode(answer{Error: err.Error()})
	}
	return false
}

// run runs a command on a node until it or the caller ends.
func (c *call) run(ctx context.Context, node *agent.Client, command agent.Interaction) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	input := func() (in agent.InteractInput, err error) {
		err = c.decoder.Decode(&in)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the end of input has a message of its own
		}
		return in, err
	}
	exit, err := node.Interact(ctx, command, input, func(out agent.InteractOutput) error {
		return c.encoder.Encode(answer{InteractOutput: out})
	})
	if err != nil {
		return err
	}
	return c.encoder.Encode(answer{InteractOutput: agent.InteractOutput{Exit: &exit}})
}
