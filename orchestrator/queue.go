package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

// queue hands out the trials of a plan to the labs and keeps their results.
type queue struct {
	Request
	run    *results.Run
	limits *limitSearch // names the trials one by one; nil: the plan names all of them

	mu       sync.Mutex
	changed  *sync.Cond
	open     []Slot // not begun, or due to be repeated
	begun    int
	underWay int
	repeated []int     // how many trials of each scenario were queued once more
	leftOut  int       // trials of scenarios that are not tried again
	labs     int       // labs that still take trials
	ended    error     // why the queue hands out no more trials
	origin   time.Time // of the run's seconds, which leave out the time before it was resumed
}

func newQueue(r Request, run *results.Run, limits *limitSearch) *queue {
	q := &queue{
		Request: r, run: run, limits: limits, labs: 1 + len(r.Beside),
		repeated: make([]int, len(r.Plan.Scenarios)),
		origin:   time.Now().Add(-time.Duration(run.Seconds * float64(time.Second))),
	}
	q.changed = sync.NewCond(&q.mu)
	if limits != nil { // it asks for each trial again, and for those that were made
		for _, s := range run.Scenarios {
			q.begun += len(s.Trials)
		}
		return q
	}
	for _, slot := range r.Plan.Order {
		made := func(t results.Trial) bool { return t.Number == slot.Number }
		if slices.ContainsFunc(run.Scenarios[slot.Scenario].Trials, made) {
			q.begun++
		} else {
			q.open = append(q.open, slot)
		}
	}
	for i, s := range run.Scenarios {
		q.takeOver(i)
		unlike := func(t results.Trial) bool { return t.NotAsAsked() }
		if slices.ContainsFunc(s.Trials, unlike) {
			q.leaveOut(i)
		}
	}
	return q
}

// takeOver counts the repeated trials of a scenario that a resumed run has, and queues the attempts
// that were due when the run ended.
func (q *queue) takeOver(scenario int) {
	trials := q.run.Scenarios[scenario].Trials
	// attempt returns how many attempts came before that trial.
	attempt := func(number int) (n int) {
		for at := number; at > 0; n++ {
			i := slices.IndexFunc(trials, func(t results.Trial) bool { return t.RepeatedAs == at })
			if i < 0 {
				break
			}
			at = trials[i].Number
		}
		return n
	}
	for _, t := range trials {
		if n := q.Plan.repetitions(t.Number); n > 0 {
			q.begun++
			q.repeated[scenario] = max(q.repeated[scenario], n)
		}
	}
	for _, t := range trials {
		if n := attempt(t.Number); t.Spoilt() && t.RepeatedAs == 0 && n < q.Plan.Retries {
			q.repeat(Slot{Scenario: scenario, Number: t.Number, Attempt: n})
		}
	}
}

// failedBootsInARow is the number of failed boots after which a lab gives up: the next boot would
// fail as well.
const failedBootsInARow = 2

// follow performs one trial after another in a lab until none is left, the run ends, or the lab is
// gone.
func (q *queue) follow(ctx context.Context, lab vm.Lab) (err error) {
	failedBoots := 0
	var next *early
	defer func() { err = errors.Join(err, next.abandon()) }()
	for {
		slot, ok, err := q.next()
		if !ok {
			return err
		}
		if next != nil && next.slot != slot { // its scenario is not tried again
			if err := next.abandon(); err != nil {
				return q.end(err)
			}
			next = nil
		}
		t, err := q.begin(slot, lab, next)
		if err != nil {
			return q.end(err)
		}
		next = nil // the trial ends its DUT
		t.bootNext = sync.OnceValue(func() (err error) {
			next, err = q.bootEarly(ctx, lab, slot)
			return err
		})
		err = t.perform(ctx)
		results.Judge(&t.result)

		dead, lost := q.survey(ctx, t, err)
		switch {
		case dead && t.result.Verdict == results.Invalid:
			err = q.discard(t)
		case dead:
			err = q.keep(t)
		default:
			err = errors.Join(q.keep(t), giveUp(ctx, err, &failedBoots))
		}
		if err != nil {
			return q.end(err)
		}
		if lost != nil {
			return q.leave(lost)
		}
	}
}

// next returns the next trial, if there is one. It waits for trials under way: one of them may have
// to be repeated. The error is that of a search.
func (q *queue) next() (slot Slot, ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.open) == 0 && q.underWay > 0 && q.ended == nil {
		q.changed.Wait()
	}
	if len(q.open) == 0 && q.limits != nil && q.ended == nil {
		slot, ok, err = q.limits.next(q.run)
		if q.ended = err; ok {
			q.open = append(q.open, slot)
			q.repeated = append(q.repeated, make([]int, len(q.run.Scenarios)-len(q.repeated))...)
		}
	}
	if len(q.open) == 0 || q.ended != nil {
		return Slot{}, false, err
	}
	slot, q.open = q.open[0], q.open[1:]
	q.underWay++
	return slot, true, nil
}

// peek returns the next trial, if one is left, without taking it.
func (q *queue) peek() (Slot, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.open) == 0 || q.ended != nil {
		return Slot{}, false
	}
	return q.open[0], true
}

// begin begins a trial. dut is its DUT where that boots already, or nil.
func (q *queue) begin(slot Slot, lab vm.Lab, dut *early) (*trial, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.begun++
	total := len(q.Plan.Order) - q.leftOut
	if q.limits != nil {
		total = max(total, q.limits.most())
	}
	for _, n := range q.repeated {
		total += n
	}
	e := q.Plan.event(events.TrialBegin, slot)
	e.Index, e.Total = q.begun, total
	q.emit(e)
	r := q.Request
	r.Lab = lab
	return newTrial(r, slot, dut)
}

// spread is a lab on several hosts, any of which may disappear.
type spread interface {
	// Survey asks every host whether it still answers, and goes on without those that do not; dead
	// holds a sentence for each of them. The error is a *vm.LostError when the remaining hosts
	// cannot hold a trial.
	Survey(ctx context.Context) (dead []string, err error)
}

// survey finds out after a failed trial whether a host of its lab has died, and whether the lab is
// lost with it. The measurements of such a trial say nothing about the DUT.
func (q *queue) survey(ctx context.Context, t *trial, err error) (dead bool, lost error) {
	lab, ok := t.Lab.(spread)
	if !ok || err == nil || ctx.Err() != nil {
		return false, nil
	}
	gone, lost := lab.Survey(ctx)
	if len(gone) == 0 {
		return false, nil
	}
	text := strings.Join(gone, "; ")
	if t.result.Verdict == results.Invalid {
		text += fmt.Sprintf("; trial %s is done again", q.Plan.Name(t.slot))
	}
	q.remark(text)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.run.Warnings = append(q.run.Warnings, text)
	return true, lost
}

// discard returns a trial to the open ones and discards its measurements.
func (q *queue) discard(t *trial) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = append([]Slot{t.slot}, q.open...)
	q.begun--
	q.underWay--
	q.changed.Broadcast()
	return t.folder.Remove()
}

// keep adds a trial to the run, saves the run, and queues another attempt where the host has spoilt
// the trial.
func (q *queue) keep(t *trial) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	record(q.run, t.slot, t.result, t.Lab.About())
	q.run.Seconds = time.Since(q.origin).Seconds()
	again := t.result.Spoilt() && t.slot.Attempt < q.Plan.Retries
	if again {
		q.repeat(t.slot)
	}
	left := 0
	if t.result.NotAsAsked() {
		left = q.leaveOut(t.slot.Scenario)
	}
	if left > 0 {
		text := fmt.Sprintf("%s is not tried again: the DUT was not as asked, and would not be "+
			"(trials left out: %d)", q.Plan.Scenarios[t.slot.Scenario].Name, left)
		q.run.Warnings = append(q.run.Warnings, text)
		defer q.remark(text)
	}
	q.underWay--
	q.changed.Broadcast()
	if err := q.save(q.run); err != nil {
		return err
	}
	e := q.Plan.event(events.TrialEnd, t.slot)
	result := t.result
	e.Result = &result
	q.emit(e)
	if again {
		q.remark(q.Plan.Name(t.slot) + " is measured again, since the host has spoilt it")
	}
	return nil
}

// leaveOut takes the trials of a scenario that are open from the queue, and returns how many.
func (q *queue) leaveOut(scenario int) int {
	before := len(q.open)
	q.open = slices.DeleteFunc(q.open, func(s Slot) bool { return s.Scenario == scenario })
	q.leftOut += before - len(q.open)
	return before - len(q.open)
}

// repeat queues another attempt at a trial, after all others, under the scenario's next number.
func (q *queue) repeat(slot Slot) {
	q.repeated[slot.Scenario]++
	q.open = append(q.open, Slot{
		Scenario: slot.Scenario, Repeats: slot.Number, Attempt: slot.Attempt + 1,
		Number: q.Plan.repetition(q.repeated[slot.Scenario]),
	})
}

// giveUp returns the error that ends the run after a trial with error err, or nil.
func giveUp(ctx context.Context, err error, failedBoots *int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, lost := errors.AsType[*vm.LostError](err); lost {
		return err
	}
	if missing, ok := errors.AsType[*guest.MissingError](err); ok {
		return missing // the next trial would meet the same
	}
	boot, failed := errors.AsType[*vm.BootError](err)
	if !failed {
		*failedBoots = 0
		return nil
	}
	if *failedBoots++; *failedBoots == failedBootsInARow {
		const format = "%d machines in a row did not boot, giving up: %s"
		return fmt.Errorf(format, *failedBoots, boot.Brief())
	}
	return nil
}

// end lets no further trial begin.
func (q *queue) end(err error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = err
	q.changed.Broadcast()
	return err
}

// leave retires a lab; without labs left it ends the run.
func (q *queue) leave(lost error) error {
	q.mu.Lock()
	q.labs--
	last := q.labs == 0
	q.mu.Unlock()
	if last {
		return q.end(lost)
	}
	return nil
}
