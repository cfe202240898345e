package generators

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/ctload/ctload/generators/pacing"
)

// load is one run of a plan: the state that its workers share.
type load struct {
	*plan
	pacer   *pacing.Pacer
	start   time.Time   // set before any worker works
	stopped atomic.Bool // the context ended

	awaiting *awaiting // crafted packets that await answers; nil: none do
	fanout   int32     // the group of the packet sockets that read the answers
}

// worker makes its share of a load on a thread of its own. A team creates it on that thread, in the
// namespace of the load, before the clock starts. work returns when everything that it began has
// ended.
type worker interface {
	work() error
	rouse()         // ends a wait; safe from any goroutine, also after close
	counts() *tally // the live counters may be read meanwhile
	close() error
}

// now returns the time since the start of the load.
func (l *load) now() time.Duration { return time.Since(l.start) }

// prepare completes the plan with facts from the namespace. It runs on a thread in it.
func (l *load) prepare() error {
	if l.crafted() {
		if err := l.prepareCrafted(); err != nil {
			return err
		}
	}
	l.pacer = pacing.NewPacer(l.schedule, pacing.Limits{Count: l.most(), Duration: l.Duration, Slack: l.Slack, CatchUp: l.CatchUp})
	return nil
}

// settle counts as cancelled the crafted packets that still await answers when all workers have
// ended. The count goes to the first worker's tally.
func (l *load) settle(workers []worker) {
	if l.awaiting == nil || len(workers) == 0 {
		return
	}
	now := l.now()
	for range l.awaiting.open.Load() {
		workers[0].counts().fail(now, causeCancelled)
	}
}

// newWorker sets up a worker of the plan's kind on the calling thread.
func (l *load) newWorker(number int) (worker, error) {
	if l.crafted() {
		return newCrafted(l, number)
	}
	return l.traits.engine(l, number)
}

// run makes the load.
func (p *plan) run(ctx context.Context, progress func(Progress)) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	t := newTeam(p)
	if err := t.assemble(); err != nil {
		return Result{}, errors.Join(err, t.dismiss())
	}
	stop := context.AfterFunc(ctx, t.stop)
	err := t.work(progress)
	stop()
	result := t.result()
	if ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return result, errors.Join(err, t.dismiss())
}
