package agent

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ctload/ctload/generators"
)

// stopGrace bounds the time in which a stopped generator must deliver its result.
const stopGrace = 10 * time.Second

// Prepared is a load on a node that is ready to begin, so that several loads, on one node or on
// several, can begin at one instant.
type Prepared struct {
	client   *Client
	id       string
	progress atomic.Pointer[func(generators.Progress)]

	stream context.Context // outlives the caller's by the grace in which a result arrives
	cancel context.CancelCauseFunc
	ready  chan struct{} // closed when the generator is ready
	ended  chan struct{} // closed when the stream has ended; then the fields below are set

	result generators.Result
	err    error
}

// Prepare makes a load ready on the node: its sockets, threads and neighbours. The caller must call
// Run or Discard.
func (c *Client) Prepare(ctx context.Context, spec generators.Spec) (*Prepared, error) {
	p := &Prepared{
		client: c, id: fmt.Sprint(c.loads.Add(1)),
		ready: make(chan struct{}), ended: make(chan struct{}),
	}
	p.stream, p.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	go p.receive(spec)
	select {
	case <-p.ready:
		return p, nil
	case <-p.ended:
		return nil, p.err
	case <-ctx.Done():
		p.Discard()
		return nil, context.Cause(ctx)
	}
}

// receive takes the events of the load until its stream ends.
func (p *Prepared) receive(spec generators.Spec) {
	defer close(p.ended)
	defer p.cancel(nil)
	var failure error
	request := generateRequest{ID: p.id, Spec: spec}
	err := receive(p.stream, p.client, "Generate", request, func(event loadEvent) {
		switch progress := p.progress.Load(); {
		case event.Ready:
			close(p.ready)
		case event.Result != nil:
			p.result = *event.Result
			if event.Error != "" {
				failure = fmt.Errorf("%s on %s: %s", spec.Kind, p.client.node, event.Error)
			}
		case event.Progress != nil && progress != nil:
			(*progress)(*event.Progress)
		}
	})
	p.err = errors.Join(err, failure)
}

// Run makes the load and returns its result. It begins at an instant of the node's monotonic clock;
// 0 or a past instant means at once. When ctx ends, Run stops the generator and returns the result
// so far beside ctx's error.
func (p *Prepared) Run(
	ctx context.Context, begin time.Duration, progress func(generators.Progress),
) (generators.Result, error) {
	if progress != nil {
		p.progress.Store(&progress)
	}
	stop := context.AfterFunc(ctx, p.stop)
	defer stop()
	request := beginRequest{ID: p.id, At: begin}
	if err := drop(call[nothing](p.stream, p.client, "Begin", request)); err != nil {
		p.cancel(err)
	}
	<-p.ended
	if ctx.Err() != nil {
		return p.result, context.Cause(ctx)
	}
	return p.result, p.err
}

// stop asks the node to end the load, and waits until it has, at most for the grace.
func (p *Prepared) stop() {
	grace, cancel := context.WithTimeout(p.stream, stopGrace)
	defer cancel()
	if err := drop(call[nothing](grace, p.client, "Stop", p.id)); err != nil {
		p.cancel(err)
		return
	}
	<-grace.Done() // ends with the stream or after the grace
	p.cancel(context.DeadlineExceeded)
}

// Discard frees a load that did not run.
func (p *Prepared) Discard() {
	p.stop()
	<-p.ended
}
