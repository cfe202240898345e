package control

import (
	"cmp"
	"context"
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
type Server struct{ listener *net.UnixListener }

// Listen opens the socket at path in place of a killed lab's. A lab that is up there is an error.
func Listen(path string) (*Server, error) {
	about, err := Look(path)
	switch {
	case err == nil:
		return nil, fmt.Errorf("a lab is up already (%s, process %d); end it with: ctload vm down",
			about.Name, about.PID)
	case !errors.Is(err, errNone):
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of a lab that is gone: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for callers of the lab: %w", err)
	}
	return &Server{listener}, nil
}

// File returns the listening socket as a file, to be handed over to another process; see [Attach].
func (s *Server) File() (*os.File, error) { return s.listener.File() }

// Attach serves a socket that another process listens on, and removes at its end.
func Attach(file *os.File) (*Server, error) {
	if file == nil {
		return nil, errors.New("the sandbox was given no socket for callers of the lab")
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("listen for callers of the lab: %w", err)
	}
	unix, ok := listener.(*net.UnixListener)
	if !ok {
		return nil, errors.New("listen for callers of the lab: it is no Unix socket")
	}
	return &Server{unix}, nil
}

// Close removes the socket.
func (s *Server) Close() error {
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Serve answers callers until one ends the lab (no error) or ctx ends, and kills their commands.
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
			err = cmp.Or(context.Cause(ctx), err)
			cancel(nil)
			if errors.Is(err, errDown) {
				return nil
			}
			return err
		}
		calls.Go(func() {
			if newWire(conn).serve(ctx, about, nodes) {
				cancel(errDown)
				return // the connection ends with the process
			}
			_ = conn.Close()
		})
	}
}

// errDown is the cause when a caller asked to end the lab.
var errDown = errors.New("the lab is wanted down")

// serve answers the caller's request; down reports whether it asks to end the lab.
func (w wire) serve(ctx context.Context, about About, nodes map[string]vm.Node) (down bool) {
	var r request
	err := w.Decode(&r)
	if err != nil {
		return false
	}
	switch node, ok := nodes[r.Node]; {
	case r.Do == doAbout:
		err = w.Encode(answer{About: &about})
	case r.Do == doDown:
		return true
	case r.Do != doRun:
		err = fmt.Errorf("this lab knows no %q: it was started by another ctload", r.Do)
	case !ok:
		err = fmt.Errorf("there is no node %q%s", r.Node, spelling.Hint(r.Node, about.Nodes))
	default:
		err = w.run(ctx, node.Agent(), r.Command)
	}
	if err != nil {
		_ = w.Encode(answer{Error: err.Error()})
	}
	return false
}

// run runs a command on a node until it or the caller ends.
func (w wire) run(ctx context.Context, node *agent.Client, command agent.Interaction) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	input := func() (in agent.InteractInput, err error) {
		err = w.Decode(&in)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the end of input has a message of its own
		}
		return in, err
	}
	exit, err := node.Interact(ctx, command, input, func(out agent.InteractOutput) error {
		return w.Encode(answer{InteractOutput: out})
	})
	if err != nil {
		return err
	}
	return w.Encode(answer{InteractOutput: agent.InteractOutput{Exit: &exit}})
}
