// Package agent runs on a node: as PID 1 of a guest, or as a child process in a network namespace.
// It applies a scenario to the kernel ([agent/tuning]), makes load and answers it ([generators]),
// and samples ([agent/samplers]). A [Client] controls it over one byte stream that never crosses
// the network under test.
//
// The protocol is gRPC over that single stream. Its messages are the Go types themselves, encoded
// as JSON: both ends are the same build of the same program, so a second description of the
// messages (protobuf) would only be a copy to maintain.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/sockets"
)

// nothing is an empty message.
type nothing struct{}

// Hello is an agent's first answer.
type Hello struct {
	Release      string        // uname -r
	Architecture string        // uname -m
	CPUs         int           // online
	MemoryBytes  int64         // MemTotal
	Uptime       time.Duration // of the node's kernel
	Shared       bool          // the host's kernel: the node has no log and no drops of its own
}

// Clock is the node's clock at one instant.
type Clock struct {
	Realtime  time.Time
	Monotonic time.Duration // CLOCK_MONOTONIC
}

// Network is a node's configuration of one of its links.
type Network struct {
	MAC       string   // of the network card; empty: the only one
	Name      string   // of that card; empty: as it is
	Addresses []string // in CIDR notation
	Routes    []Route
	Local     []string // networks, in CIDR notation, of which every address is the node's
}

// Route names the neighbour that leads to a network.
type Route struct {
	To  string // in CIDR notation
	Via string // address
}

// meetRequest asks a node to learn its neighbours' hardware addresses.
type meetRequest struct {
	Addresses []string
	Keep      bool // for as long as the node lives
}

// Card counts the frames of one of a node's links since its kernel made it.
type Card struct {
	Name           string
	Received, Sent int64 // frames
	Dropped        int64 // frames that card or queue dropped instead of sending them
	// ShapedSent and ShapedReceived count the frames that conditions in the node dropped: instead
	// of sending them, or after the card had received them.
	ShapedSent, ShapedReceived int64
}

// Flows describes packets by their tuples.
type Flows = sockets.Flows

// execRequest is a command to run on the node.
type execRequest struct {
	Argv  []string
	Stdin string
}

// Output is the result of a command.
type Output struct {
	Stdout, Stderr string
	Exit           int
}

// generateRequest prepares a generator, which then waits for the call Begin.
type generateRequest struct {
	ID   string // for the calls Begin and Stop
	Spec generators.Spec
}

// beginRequest lets a prepared generator begin.
type beginRequest struct {
	ID string
	At time.Duration // CLOCK_MONOTONIC of the node; 0 or past: at once
}

// loadEvent is one message of a generator: that it is ready, its progress, or, last, its result.
type loadEvent struct {
	Ready    bool                 `json:",omitempty"`
	Progress *generators.Progress `json:",omitempty"`
	Result   *generators.Result   `json:",omitempty"`
	Error    string               `json:",omitempty"` // beside a Result: why the result is partial
}

// Table holds the contents of the node's table after the load, and the memory of an entry.
type Table struct {
	Composition samplers.Composition
	Memory      samplers.Memory
}

// KernelLog is the node's kernel log since the last call, the first time since boot.
type KernelLog struct {
	Records []samplers.Record
	Dropped int64 // records that the node had no memory to keep
}

const serviceName = "ctload.Agent"

// service lists the calls.
var service = grpc.ServiceDesc{
	ServiceName: serviceName,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		unary("Hello", (*server).hello),
		unary("Clock", (*server).clock),
		unary("Reseed", (*server).reseed),
		unary("Network", (*server).network),
		unary("Meet", (*server).meet),
		unary("Cards", (*server).countCards),
		unary("CountFlows", (*server).countFlows),
		unary("FlowCounts", (*server).flowCounts),
		unary("Configure", (*server).configure),
		unary("ReadBack", (*server).readBack),
		unary("Respond", (*server).respond),
		unary("Begin", (*server).begin),
		unary("Stop", (*server).stop),
		unary("WatchDrops", (*server).watchDrops),
		unary("FinalSample", (*server).finalSample),
		unary("Dump", (*server).dump),
		unary("KernelLog", (*server).kernelLog),
		unary("CounterMeaning", (*server).counterMeaning),
		unary("Apply", (*server).Apply),
		unary("Revert", (*server).Revert),
		unary("Exec", (*server).exec),
		unary("ReadFile", (*server).readFile),
	},
	Streams: []grpc.StreamDesc{
		streaming("Generate", (*server).generate),
		streaming("Sample", (*server).sample),
		interactions,
	},
}

func unary[Req, Resp any](
	name string, handle func(*server, context.Context, Req) (Resp, error),
) grpc.MethodDesc {
	type interceptor = grpc.UnaryServerInterceptor
	call := func(s any, ctx context.Context, decode func(any) error, _ interceptor) (any, error) {
		var req Req
		if err := decode(&req); err != nil {
			return nil, err
		}
		return handle(s.(*server), ctx, req)
	}
	return grpc.MethodDesc{MethodName: name, Handler: call}
}

func streaming[Req, Event any](
	name string, handle func(*server, context.Context, Req, func(Event) error) error,
) grpc.StreamDesc {
	call := func(s any, stream grpc.ServerStream) error {
		var req Req
		if err := stream.RecvMsg(&req); err != nil {
			return err
		}
		send := func(event Event) error { return stream.SendMsg(event) }
		return handle(s.(*server), stream.Context(), req, send)
	}
	return grpc.StreamDesc{StreamName: name, ServerStreams: true, Handler: call}
}

// codec encodes messages as JSON.
type codec struct{}

func (codec) Marshal(message any) ([]byte, error)      { return json.Marshal(message) }
func (codec) Unmarshal(data []byte, message any) error { return json.Unmarshal(data, message) }
func (codec) Name() string                             { return "json" }

// maxMessage bounds one message in bytes: a result with its histograms and its series is the
// largest.
const maxMessage = 256 << 20

// errStreamLost is the cause of every call that was running when the stream broke.
var errStreamLost = errors.New("the node's agent is gone: its stream ended")

// conn makes a byte stream (a virtio-serial port, a socket, a pair of pipes) a net.Conn.
type conn struct {
	io.ReadWriteCloser
	life context.Context // until the stream ends; its cause says why it did
	end  context.CancelCauseFunc

	received atomic.Int64 // bytes
}

func newConn(stream io.ReadWriteCloser) *conn {
	c := &conn{ReadWriteCloser: stream}
	c.life, c.end = context.WithCancelCause(context.Background())
	return c
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(p)
	c.received.Add(int64(n))
	if err != nil {
		c.end(errStreamLost)
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Write(p)
	if err != nil {
		c.end(errStreamLost)
	}
	return n, err
}

func (c *conn) Close() error {
	c.end(errStreamLost)
	return c.ReadWriteCloser.Close()
}

func (c *conn) LocalAddr() net.Addr                { return streamAddr{} }
func (c *conn) RemoteAddr() net.Addr               { return streamAddr{} }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.SetDeadline(t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

// SetDeadline does so where the stream supports it; gRPC uses deadlines only to give up early.
func (c *conn) SetDeadline(t time.Time) error {
	if s, ok := c.ReadWriteCloser.(interface{ SetDeadline(time.Time) error }); ok {
		return s.SetDeadline(t)
	}
	return os.ErrNoDeadline
}

type streamAddr struct{}

func (streamAddr) Network() string { return "stream" }
func (streamAddr) String() string  { return "agent" }

// listener returns one connection, and ends when that has ended.
type listener struct {
	conn  *conn
	taken bool
}

// Accept returns the one connection, then waits until it has ended. Only one goroutine calls it.
func (l *listener) Accept() (net.Conn, error) {
	if !l.taken {
		l.taken = true
		return l.conn, nil
	}
	<-l.conn.life.Done()
	return nil, io.EOF
}

func (l *listener) Close() error   { return l.conn.Close() }
func (l *listener) Addr() net.Addr { return streamAddr{} }
