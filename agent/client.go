package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
)

// Client talks to one node's agent.
type Client struct {
	node  string
	conn  *conn
	grpc  *grpc.ClientConn
	loads atomic.Int64
	pulse pulse
}

// NewClient connects to the agent at the other end of stream, which it then owns. node is the name
// in errors. The agent need not listen yet: calls wait for it until their context ends.
func NewClient(node string, stream io.ReadWriteCloser) (*Client, error) {
	c := &Client{node: node, conn: newConn(stream), pulse: pulse{interval: beatInterval}}
	var dialed atomic.Bool
	client, err := grpc.NewClient("passthrough:agent",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if dialed.Swap(true) {
				return nil, errStreamLost // a stream is not dialled twice
			}
			return c.conn, nil
		}),
		// A guest takes seconds from the first byte to its agent: the caller's context is the
		// limit.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Hour}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodec(codec{}),
			grpc.WaitForReady(true),
			grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy())
	if err != nil {
		return nil, fmt.Errorf("speak to the agent of %s: %w", node, err)
	}
	c.grpc = client
	return c, nil
}

// Lost returns a channel that closes when the stream has ended: the node is gone, or Close was
// called.
func (c *Client) Lost() <-chan struct{} { return c.conn.life.Done() }

// Gone returns why the stream has ended, nil before: a *silentError where the node stopped
// answering.
func (c *Client) Gone() error { return context.Cause(c.conn.life) }

// Close ends the stream; a guest then powers itself off.
func (c *Client) Close() error {
	err := c.grpc.Close()
	closed := c.conn.Close()
	for _, already := range []error{net.ErrClosed, os.ErrClosed, io.ErrClosedPipe} {
		if errors.Is(closed, already) {
			return err
		}
	}
	return errors.Join(err, closed)
}

// Hello waits for the agent's first answer.
func (c *Client) Hello(ctx context.Context) (Hello, error) {
	return call[Hello](ctx, c, "Hello", nothing{})
}

// Clock reads the node's clock.
func (c *Client) Clock(ctx context.Context) (Clock, error) {
	return call[Clock](ctx, c, "Clock", nothing{})
}

// Network sets the node's addresses.
func (c *Client) Network(ctx context.Context, network Network) error {
	return drop(call[nothing](ctx, c, "Network", network))
}

// Meet makes the node ask for the hardware addresses of neighbours on its own links, before packets
// have to wait for them. keep makes the node never forget them. silent are those without an answer.
func (c *Client) Meet(
	ctx context.Context, keep bool, addresses ...string,
) (silent []string, err error) {
	return call[[]string](ctx, c, "Meet", meetRequest{Addresses: addresses, Keep: keep})
}

// Cards counts the frames of the node's links, in the order in which the caller set them up.
func (c *Client) Cards(ctx context.Context) ([]Card, error) {
	return call[[]Card](ctx, c, "Cards", nothing{})
}

// CountFlows makes the node count, from now on, the packets that its links receive of flows, each
// list of them for itself. It returns why the node cannot; "" when it does.
func (c *Client) CountFlows(ctx context.Context, lists [][]Flows) (missing string, err error) {
	return call[string](ctx, c, "CountFlows", lists)
}

// FlowCounts returns the number of packets of each list of CountFlows.
func (c *Client) FlowCounts(ctx context.Context) ([]int64, error) {
	return call[[]int64](ctx, c, "FlowCounts", nothing{})
}

// Configure applies settings to the node's kernel.
func (c *Client) Configure(ctx context.Context, settings tuning.Settings) error {
	return drop(call[nothing](ctx, c, "Configure", settings))
}

// ReadBack asks the kernel for its present state of settings.
func (c *Client) ReadBack(ctx context.Context, settings tuning.Settings) (tuning.State, error) {
	return call[tuning.State](ctx, c, "ReadBack", settings)
}

// Respond starts a responder, which serves until the node ends.
func (c *Client) Respond(ctx context.Context, spec responders.Spec) error {
	return drop(call[nothing](ctx, c, "Respond", spec))
}

// WatchDrops makes the node count dropped packets by the kernel's own reason from now on, where its
// kernel can (see samplers.Sampler.WatchDrops); elsewhere missing says why not. It counts for the
// whole kernel of the node. Call it before Sample.
func (c *Client) WatchDrops(ctx context.Context) (missing string, err error) {
	return call[string](ctx, c, "WatchDrops", nothing{})
}

// FinalSample returns a whole sample, with the baseline of Sample.
func (c *Client) FinalSample(ctx context.Context) (samplers.Sample, error) {
	return call[samplers.Sample](ctx, c, "FinalSample", nothing{})
}

// Dump walks the node's table once. Call it after the load.
func (c *Client) Dump(ctx context.Context) (Table, error) {
	return call[Table](ctx, c, "Dump", nothing{})
}

// Apply makes a fault on the node and returns the kernel's state before and after it. On an error
// nothing of it is left. The node undoes it on Revert, or when the stream ends.
func (c *Client) Apply(ctx context.Context, fault faults.Fault) (faults.Reading, error) {
	return call[faults.Reading](ctx, c, "Apply", fault)
}

// Revert undoes the fault with that id.
func (c *Client) Revert(ctx context.Context, id string) (faults.Reading, error) {
	return call[faults.Reading](ctx, c, "Revert", id)
}

// KernelLog fetches the kernel log since the last call, the first time since boot.
func (c *Client) KernelLog(ctx context.Context) (KernelLog, error) {
	return call[KernelLog](ctx, c, "KernelLog", nothing{})
}

// Exec runs a command on the node and waits for it. An exit status other than 0 is not an error of
// the call.
func (c *Client) Exec(ctx context.Context, stdin string, argv ...string) (Output, error) {
	return call[Output](ctx, c, "Exec", execRequest{Argv: argv, Stdin: stdin})
}

// ReadFile reads a small file of the node, as those in /proc.
func (c *Client) ReadFile(ctx context.Context, path string) (string, error) {
	return call[string](ctx, c, "ReadFile", path)
}

// Generate makes a load on the node at once; see [Prepared.Run].
func (c *Client) Generate(
	ctx context.Context, spec generators.Spec, progress func(generators.Progress),
) (generators.Result, error) {
	load, err := c.Prepare(ctx, spec)
	if err != nil {
		return generators.Result{}, err
	}
	return load.Run(ctx, 0, progress)
}

// Sample reads the node's kernel at every interval and passes each sample to observe, until ctx
// ends, which is not an error.
func (c *Client) Sample(
	ctx context.Context, interval time.Duration, observe func(samplers.Sample),
) error {
	err := receive(ctx, c, "Sample", interval, observe)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func call[Resp any](ctx context.Context, c *Client, method string, req any) (Resp, error) {
	ctx, end := c.bind(ctx)
	defer end()
	ctx, cancel := c.within(ctx, method)
	defer cancel()
	var resp Resp
	if err := c.grpc.Invoke(ctx, "/"+serviceName+"/"+method, &req, &resp); err != nil {
		return resp, c.explain(ctx, method, err)
	}
	c.heard(method)
	return resp, nil
}

func receive[Event any](
	ctx context.Context, c *Client, method string, req any, observe func(Event),
) error {
	ctx, end := c.bind(ctx)
	defer end()
	about := &grpc.StreamDesc{ServerStreams: true}
	stream, err := c.grpc.NewStream(ctx, about, "/"+serviceName+"/"+method)
	if err == nil {
		err = errors.Join(stream.SendMsg(&req), stream.CloseSend())
	}
	if err != nil {
		return c.explain(ctx, method, err)
	}
	for {
		var event Event
		switch err := stream.RecvMsg(&event); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return c.explain(ctx, method, err)
		}
		c.heard(method)
		observe(event)
	}
}

// bind ends ctx when the stream ends: gRPC would otherwise wait for another connection.
func (c *Client) bind(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.conn.life, func() { cancel(c.Gone()) })
	return ctx, func() { stop(); cancel(nil) }
}

// RefusedError reports that an agent answered, and that it could not do what it was asked.
type RefusedError struct{ text string }

func (e *RefusedError) Error() string { return e.text }

// explain turns gRPC's error into one in ctload's terms.
func (c *Client) explain(ctx context.Context, method string, err error) error {
	cause := context.Cause(ctx)
	if cause == nil && status.Code(err) == codes.Unavailable && c.conn.life.Err() != nil {
		cause = c.Gone() // gRPC noticed before the context did
	}
	if cause != nil {
		return fmt.Errorf("%s on %s: %w", method, c.node, cause)
	}
	s := status.Convert(err)
	if s.Code() == codes.Unknown {
		return &RefusedError{fmt.Sprintf("%s on %s: %s", method, c.node, s.Message())}
	}
	return fmt.Errorf("%s on %s: %w", method, c.node, err)
}

func drop[T any](_ T, err error) error { return err }
