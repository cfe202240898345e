// Package generators makes load for a connection-tracking table. It knows nothing of virtual
// machines: a [Spec] goes in, a [Result] comes out. Linux only; kernels from 4.19 on, with better
// timing from 5.11 on.
//
// One thread for each core drives the sockets, each with its own epoll instance, without a
// goroutine for each connection. AF_PACKET sockets send packets in batches patched from a template.
// The times of the sends come from an absolute schedule ([pacing]), latency counts from the
// intended time, and addresses and ports come from an allocator ([tuples]).
//
// Everything that begins is Offered, and ends as Completed or as Failed under one [Cause]: Offered
// = Completed + Failed and Failed = sum of Causes hold for every [Result], also when the context
// ended first (what was unfinished then failed as [Cancelled]).
package generators

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/threads"
	"github.com/ctload/ctload/generators/tuples"
)

// Run makes the load at once and returns when it has ended; see [Load.Run].
func Run(ctx context.Context, spec Spec, progress func(Progress)) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	l, err := Prepare(spec)
	if err != nil {
		return Result{}, err
	}
	return l.Run(ctx, time.Now(), progress)
}

// Load is a load that is ready to begin: its threads and their sockets exist, and it knows the
// hardware addresses that it sends to.
type Load struct{ team *team }

// Prepare does all that a load takes before its first send. The caller must call Run or Close.
func Prepare(spec Spec) (*Load, error) {
	plan, err := spec.plan()
	if err != nil {
		return nil, fmt.Errorf("%s load: %w", spec.Kind, err)
	}
	t := &team{
		load:     &load{plan: plan},
		begin:    make(chan struct{}),
		ended:    make(chan error, plan.Workers),
		over:     make(chan struct{}),
		observed: make(chan error, 1),
	}
	l := &Load{t}
	if err := t.assemble(); err != nil {
		return nil, l.wrap(errors.Join(err, t.dismiss()))
	}
	return l, nil
}

// beginLead is the time before the first send in which a load wakes its threads.
const beginLead = 5 * time.Millisecond

// Run makes the load from begin on, at once where that is past, and returns when it has ended. It
// calls progress, which may be nil, about ten times a second and once at the end, never
// concurrently. When ctx ends first, Run returns ctx's error and a result with what was done until
// then. Any other error means that the load was not made as specified: the result is not valid.
func (l *Load) Run(
	ctx context.Context, begin time.Time, progress func(Progress),
) (Result, error) {
	t := l.team
	timer := time.NewTimer(time.Until(begin) - beginLead)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return Result{}, l.wrap(errors.Join(context.Cause(ctx), l.Close()))
	}
	if now := time.Now(); begin.Before(now) {
		begin = now
	}
	stop := context.AfterFunc(ctx, t.stop)
	err := t.work(begin, progress)
	stop()
	result := t.result()
	if ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return result, l.wrap(errors.Join(err, t.dismiss()))
}

// Close frees a load that did not run.
func (l *Load) Close() error {
	l.team.load.stopped.Store(true)
	return errors.Join(l.team.work(time.Now(), nil), l.team.dismiss())
}

func (l *Load) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s load to %s: %w", l.team.load.Kind, l.team.load.Target, err)
}

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
// namespace of the load, before the clock starts.
type worker interface {
	work() error    // returns when everything that it began has ended
	rouse()         // ends a wait; safe from any goroutine, also after close
	counts() *tally // the live counters may be read meanwhile
	close() error
}

// base is the part that all kinds of worker have.
type base struct {
	load      *load
	tally     *tally
	poll      *sockets.Poller
	attention deadlines.Attention
}

func newBase(l *load) (base, error) {
	poll, err := sockets.NewPoller()
	return base{load: l, tally: newTally(), poll: poll}, err
}

func (b *base) counts() *tally { return b.tally }
func (b *base) rouse()         { b.poll.Rouse() }

// failed counts a failure, perhaps of a connection or a flow that has no socket yet.
func (b *base) failed(intended, now time.Duration, cause Cause) {
	b.tally.fail(now, cause)
	b.point(intended, now, cause)
}

// point records a sample of the probe, with the cause of its failure or "".
func (b *base) point(intended, now time.Duration, cause Cause) {
	if b.load.Kind != Probe {
		return
	}
	t, at := b.tally, b.load.start.Add(intended)
	if cause == "" {
		t.answered.Store(int64(now - intended))
	}
	t.Probe = append(t.Probe, ProbePoint{at, now - intended, cause == "", cause})
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
	l.pacer = pacing.NewPacer(l.schedule, pacing.Limits{
		Count: l.most(), Duration: l.Duration, Slack: l.Slack, CatchUp: l.CatchUp,
	})
	return nil
}

// settle counts as cancelled, in the first worker's tally, the crafted packets that still await
// answers when all workers have ended.
func (l *load) settle(workers []worker) {
	if l.awaiting == nil || len(workers) == 0 {
		return
	}
	now := l.now()
	for range l.awaiting.open.Load() {
		workers[0].counts().fail(now, Cancelled)
	}
}

// newWorker sets up a worker of the plan's kind on the calling thread.
func (l *load) newWorker(number int) (worker, error) {
	if l.crafted() {
		return newCrafted(l, number)
	}
	return l.traits.engine(l, number)
}

// observeEvery is the time between progress reports and between samples of the own namespace.
const observeEvery = 100 * time.Millisecond

// team holds the workers of a load, each on its thread, and an observer on another.
type team struct {
	load    *load
	workers []worker
	begin   chan struct{} // closed when the clock starts
	ended   chan error    // one value from each worker
	watch   *watch
	usage   Usage

	progress func(Progress)
	over     chan struct{} // closed when all workers have ended
	observed chan error
}

// assemble starts the threads and sets up the workers on them. Each then waits for the start.
func (t *team) assemble() error {
	ready := make(chan error)
	threads.Run(t.load.Namespace, func(err error) { t.observe(err, ready) })
	if err := <-ready; err != nil {
		close(t.begin)
		return err
	}
	// The workers start one after another: set-up is quick, and the list then needs no lock.
	for i := range t.load.Workers {
		threads.Run(t.load.Namespace, func(err error) { t.thread(i, err, ready) })
		if err := <-ready; err != nil {
			t.load.stopped.Store(true)
			// The workers already there end at once.
			return errors.Join(err, t.work(time.Now(), nil))
		}
	}
	return nil
}

// thread runs a worker's thread from set-up to end.
func (t *team) thread(number int, err error, ready chan<- error) {
	if cpus := t.load.CPUs; err == nil && len(cpus) > 0 {
		err = threads.Pin(cpus[number%len(cpus)])
	}
	if t.load.openLoop() {
		threads.Punctual()
	}
	var w worker
	if err == nil {
		w, err = t.load.newWorker(number)
	}
	if err == nil {
		t.workers = append(t.workers, w)
	}
	ready <- err
	if err != nil {
		return
	}
	<-t.begin
	threads.SleepUntil(t.load.start)
	before, beforeErr := threads.CPU()
	w.counts().begun = t.load.now()
	err = w.work()
	after, afterErr := threads.CPU()
	w.counts().cpu = after - before
	t.ended <- errors.Join(err, beforeErr, afterErr)
}

// work lets the workers begin at an instant and returns when all have ended. When one fails, it
// stops the others.
func (t *team) work(begin time.Time, progress func(Progress)) error {
	t.progress = progress
	t.load.start = begin
	var errs []error
	if t.watch != nil {
		errs = append(errs, t.watch.begin())
	}
	for _, w := range t.workers { // all, since each gets answers to the others' packets
		if c, ok := w.(*crafted); ok {
			errs = append(errs, c.listen())
		}
	}
	close(t.begin)
	for range t.workers {
		if err := <-t.ended; err != nil {
			errs = append(errs, err)
			t.stop()
		}
	}
	t.load.settle(t.workers)
	close(t.over)
	return errors.Join(append(errs, <-t.observed)...)
}

// stop ends the load early.
func (t *team) stop() {
	t.load.stopped.Store(true)
	for _, w := range t.workers {
		w.rouse()
	}
}

// observe runs the observer's thread from set-up to end.
func (t *team) observe(err error, ready chan<- error) {
	if err == nil {
		err = t.load.prepare()
	}
	if err == nil {
		t.watch, err = startWatch(t.load.descriptors())
	}
	ready <- err
	if err != nil {
		t.observed <- nil
		return
	}
	<-t.begin
	ticker := time.NewTicker(observeEvery)
	defer ticker.Stop()
	var errs []error
	for running := true; running; {
		select {
		case <-ticker.C:
		case <-t.over:
			running = false
		}
		if len(errs) == 0 {
			errs = append(errs, t.watch.sample())
		}
		if t.progress != nil {
			t.progress(t.live())
		}
	}
	t.usage, err = t.watch.finish()
	t.observed <- errors.Join(append(errs, err, t.watch.close())...)
}

// live returns the sum of the workers' counts so far. It reads ends before begins, so that ends
// never exceed begins.
func (t *team) live() Progress {
	var p Progress
	for _, w := range t.workers {
		c := w.counts()
		p.Broken += c.broken.Load()
		p.Failed += c.failed.Load()
		p.Completed += c.completed.Load()
		p.Offered += c.offered.Load()
		p.Answered = max(p.Answered, time.Duration(c.answered.Load()))
	}
	p.Open = p.Offered - p.Completed - p.Failed
	p.Elapsed = t.load.now()
	return p
}

// result returns what the workers did, after they ended.
func (t *team) result() Result {
	l := t.load
	r := Result{
		Kind: l.Kind, Unit: l.traits.unit, Started: l.start, Target: l.Target,
		Ports: tuples.FormatPorts(l.Ports), Concurrency: l.Concurrency,
	}
	if l.Kind == HTTP {
		r.Path = l.Path
	}
	var cpu time.Duration
	for i, w := range t.workers {
		part := w.counts().result()
		part.Started = l.start
		r.Merge(part)
		if begun := w.counts().begun; i == 0 || begun < r.Begun {
			r.Begun = begun
		}
		cpu += w.counts().cpu
		t.usage.AnswersLost += w.counts().lost
		t.usage.RepliesUnsent += w.counts().unsent
		t.usage.PortWaits += w.counts().portWaits
	}
	slots, widths := l.pacer.Delivered()
	seconds := make([]Second, len(slots))
	for i, s := range slots {
		seconds[i].Slots = s
	}
	r.Missed, r.Widths = l.pacer.Missed(), widths
	r.Series = addSeries(r.Series, seconds, 0)
	r.Usage = t.usage
	r.Usage.Workers = len(t.workers)
	r.Usage.CPUSeconds = cpu.Seconds()
	// A closed loop of some milliseconds is busy all the time, and has no rate to speak of.
	const short = 100 * time.Millisecond
	if wall := r.Elapsed.Seconds() * float64(len(t.workers)); r.Elapsed >= short {
		r.Usage.Busy = r.Usage.CPUSeconds / wall
	}
	r.Tuples.Size = l.tuples.Len()
	r.Tuples.Used = min(uint64(r.Offered), r.Tuples.Size)
	r.Tuples.Wrapped = uint64(r.Offered) > r.Tuples.Size
	r.Limits, r.Notes = l.judge(r)
	return r
}

// dismiss frees the workers' resources.
func (t *team) dismiss() error {
	var errs []error
	for _, w := range t.workers {
		errs = append(errs, w.close())
	}
	return errors.Join(errs...)
}
