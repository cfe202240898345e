package generators

import (
	"errors"
	"time"

	"github.com/ctload/ctload/generators/threads"
	"github.com/ctload/ctload/generators/tuples"
)

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

func newTeam(p *plan) *team {
	return &team{
		load:     &load{plan: p},
		begin:    make(chan struct{}),
		ended:    make(chan error, p.Workers),
		over:     make(chan struct{}),
		observed: make(chan error, 1),
	}
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
			return errors.Join(err, t.work(nil)) // the workers already there end at once
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
	before, err := threads.CPU()
	if err != nil {
		t.ended <- err
		return
	}
	err = w.work()
	after, cpuErr := threads.CPU()
	w.counts().cpu = after - before
	t.ended <- errors.Join(err, cpuErr)
}

// work starts the workers and returns when all have ended. When one fails, it stops the others.
func (t *team) work(progress func(Progress)) error {
	t.progress = progress
	t.load.start = time.Now()
	close(t.begin)
	var errs []error
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
	errs = append(errs, t.watch.finish(&t.usage), t.watch.close())
	t.observed <- errors.Join(errs...)
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
	r := Result{Kind: l.Kind, Unit: l.traits.unit, Started: l.start, Target: l.Target, Ports: tuples.FormatPorts(l.Ports), Concurrency: l.Concurrency}
	if l.Kind == HTTP {
		r.Path = l.Path
	}
	var cpu threads.CPUTime
	for _, w := range t.workers {
		part := w.counts().result()
		part.Started = l.start
		r.Merge(part)
		cpu += w.counts().cpu
		t.usage.AnswersLost += w.counts().lost
		t.usage.RepliesUnsent += w.counts().unsent
	}
	r.Missed = l.pacer.Missed()
	r.Usage = t.usage
	r.Usage.Workers = len(t.workers)
	r.Usage.CPUSeconds = time.Duration(cpu).Seconds()
	if wall := r.Elapsed.Seconds() * float64(len(t.workers)); wall > 0 {
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
