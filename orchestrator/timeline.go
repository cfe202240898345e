package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// timeline performs the actions of a trial, each in a goroutine of its own: the goroutine waits for
// the action's moment, performs it, and undoes it when its time is over. Before each step it writes
// the step to the trial's folder. Actions that still hold when the trial ends are undone then, the
// last one first.
type timeline struct {
	t      *trial
	file   *results.Lines[results.ActionEvent]
	begun  chan struct{}            // closed when the load begins
	ended  chan struct{}            // closed when it has ended
	joined map[string]chan struct{} // by the entry that waits for an action
	alone  chan struct{}            // closed when the entries that wait for none have ended
	group  *errgroup.Group          // of the actions; nil until they wait
	cancel context.CancelFunc

	mu         sync.Mutex
	live       results.Live
	bystanders map[string]generators.Progress
	waiting    []*waiter
	made       []*made
	problems   []string
	held       map[string]string // what an action owns, and the action's name
	resetting  chan struct{}     // closed when the DUT is back; nil while no reset is under way
}

// waiter is a condition that has not come true.
type waiter struct {
	condition *results.Condition
	came      chan struct{} // closed when it has come true
}

// made is one occurrence of an action, past or pending.
type made struct {
	action results.Action // its times are filled in when the axis is known
	begun  instant
	over   instant
	// undo is nil once the action is undone, or where there is nothing to undo.
	undo func(context.Context) (effects, error)
}

// instant is a point in time: on this host, or on the clock of the DUT.
type instant struct {
	here  time.Time
	clock *clock // the DUT's clock, which shows there; nil: here
	there time.Duration
}

func (i instant) time() time.Time {
	if i.clock != nil {
		return i.clock.at(i.there)
	}
	return i.here
}

// actionLimit bounds one change of a node or a link. A saturated node needs a while, and a reset is
// a boot.
const actionLimit = 150 * time.Second

func newTimeline(t *trial) (*timeline, error) {
	l := &timeline{
		t: t, begun: make(chan struct{}), ended: make(chan struct{}), alone: make(chan struct{}),
		joined: map[string]chan struct{}{}, bystanders: map[string]generators.Progress{}, held: map[string]string{},
	}
	for _, a := range t.scenario.Actions {
		if a.Kind == actions.Join {
			l.joined[a.Entry] = make(chan struct{})
		}
	}
	if len(t.scenario.Actions) == 0 {
		return l, nil
	}
	var err error
	l.file, err = t.folder.Actions()
	return l, err
}

// start lets the actions wait for their moments.
func (l *timeline) start(ctx context.Context) {
	ctx, l.cancel = context.WithCancel(ctx)
	l.mu.Lock() // samples arrive already
	defer l.mu.Unlock()
	l.group = new(errgroup.Group)
	for i, a := range l.t.scenario.Actions {
		var w *waiter
		if condition := l.t.Plan.conditions[l.t.slot.Scenario][i]; condition != nil {
			w = &waiter{condition, make(chan struct{})}
			l.waiting = append(l.waiting, w)
		}
		l.group.Go(func() error { l.perform(ctx, a, w); return nil })
	}
}

// take reserves for an action what it owns, until release. It returns an error when another action
// owns any of it: where conditions say when, only the trial shows that.
func (l *timeline) take(what []string, action string) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, each := range what {
		if other, taken := l.held[each]; taken {
			return nil, fmt.Errorf("%s still has %s, which takes one action at a time", other, each)
		}
	}
	for _, each := range what {
		l.held[each] = action
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, each := range what {
			delete(l.held, each)
		}
	}, nil
}

// observe takes a sample of the DUT, and releases the actions whose condition it meets.
func (l *timeline) observe(s results.Sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.group == nil || s.Seconds < 0 {
		return
	}
	select {
	case <-l.begun:
	default:
		return // its time is not known yet
	}
	var probe results.MomentProbe
	for _, p := range l.bystanders {
		probe.Sent += p.Completed + p.Failed
		probe.Lost += p.Failed
		probe.Latency = max(probe.Latency, milliseconds(p.Answered))
	}
	moment := l.live.Add(s, probe)
	l.waiting = slices.DeleteFunc(l.waiting, func(w *waiter) bool {
		if !w.condition.Holds(&moment) {
			return false
		}
		close(w.came)
		return true
	})
}

// probed records what a bystander has seen so far.
func (l *timeline) probed(name string, p generators.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bystanders[name] = p
}

// moment waits for an action's first moment. The error is that of ctx, which ends with the trial.
func (l *timeline) moment(ctx context.Context, a scenarios.Action, w *waiter) error {
	start, delay := l.begun, time.Duration(a.At)
	switch {
	case w != nil:
		start, delay = w.came, time.Duration(a.After)
	case a.Phase == scenarios.PhaseRecovery:
		start = l.ended
	default:
		from, _ := l.t.scenario.ActionBegins(a)
		delay = time.Duration(from)
	}
	select {
	case <-start:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if w == nil && a.Phase != scenarios.PhaseRecovery {
		delay -= time.Since(l.t.zero)
	}
	return wait(ctx, delay)
}

// perform waits for an action's moments, makes each occurrence, and undoes it in time.
func (l *timeline) perform(ctx context.Context, a scenarios.Action, w *waiter) {
	m := l.add(a)
	if err := l.moment(ctx, a, w); err != nil {
		if w == nil {
			l.fail(m, errTooLate)
		}
		return
	}
	next := time.Now()
	for n := range max(1, int(a.Times)) {
		if n > 0 {
			m = l.add(a)
			if wait(ctx, time.Until(next)) != nil {
				l.fail(m, errTooLate)
				return
			}
		}
		next = next.Add(time.Duration(a.Every))
		if !l.make(ctx, m, a) || a.For == 0 {
			return
		}
		if wait(ctx, time.Duration(a.For)) != nil {
			return // the trial is over; stop undoes it
		}
		l.undo(m, true)
	}
}

// add appends a pending occurrence of an action.
func (l *timeline) add(a scenarios.Action) *made {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &made{action: results.Action{Name: a.Name, Kind: string(a.Kind), Where: a.Where(), Asked: a.Asked(), Fix: a.Fix}}
	l.made = append(l.made, m)
	return m
}

// make performs an action and reports whether it succeeded.
func (l *timeline) make(ctx context.Context, m *made, a scenarios.Action) bool {
	// An action that has begun is not interrupted: it is performed, and undone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), actionLimit)
	defer cancel()
	l.note(m, "begin", effects{})
	before := instant{here: time.Now()}
	change, err := l.t.change(ctx, a, fmt.Sprintf("%s-%d", a.Name, l.number(m)))
	after := time.Now()
	l.mu.Lock()
	m.begun, m.undo = before, change.undo
	if change.effects.began.clock != nil {
		m.begun = change.effects.began
	}
	m.action.Took = after.Sub(before.here).Seconds()
	if change.effects.took > 0 {
		m.action.Took = change.effects.took.Seconds()
	}
	m.action.Effects, m.action.Remarks = change.effects.seen, change.effects.remarks
	l.mu.Unlock()
	if err != nil {
		l.fail(m, fmt.Errorf("could not be made: %w", err))
		return false
	}
	l.note(m, "made", change.effects)
	l.t.View.Note(fmt.Sprintf("%s: %s", a.Name, a.Asked()))
	return true
}

// undo undoes an action, once.
func (l *timeline) undo(m *made, inTime bool) {
	l.mu.Lock()
	undo := m.undo
	m.undo = nil
	l.mu.Unlock()
	if undo == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), actionLimit)
	defer cancel()
	l.note(m, "undo", effects{})
	over := instant{here: time.Now()}
	back, err := undo(ctx)
	if back.began.clock != nil {
		over = back.began
	}
	if inTime {
		l.mu.Lock()
		m.over = over
		l.mu.Unlock()
	}
	if err != nil {
		l.fail(m, fmt.Errorf("could not be taken back: %w", err))
		return
	}
	l.note(m, "undone", back)
}

// number returns the occurrence's position, from 1.
func (l *timeline) number(m *made) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Index(l.made, m) + 1
}

// note writes an event of an action into the trial's folder.
func (l *timeline) note(m *made, event string, e effects) {
	err := l.file.Append(results.ActionEvent{
		Time: time.Now(), Event: event, Name: m.action.Name, Kind: m.action.Kind, Where: m.action.Where, Asked: m.action.Asked,
		Effects: e.seen, Remarks: e.remarks,
	})
	if err != nil {
		l.problem(err.Error())
	}
}

func (l *timeline) fail(m *made, err error) {
	l.mu.Lock()
	m.action.Failure = err.Error()
	l.mu.Unlock()
	l.note(m, "failed", effects{remarks: []string{err.Error()}})
	l.problem(fmt.Sprintf("the action %s %v", m.action.Name, err))
}

func (l *timeline) problem(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problems = append(l.problems, text)
}

// rest cancels pending actions and undoes those that would disturb the final reading. The other
// changes hold until the last sample has been taken.
func (l *timeline) rest() {
	if l.group == nil {
		return
	}
	l.cancel()
	_ = l.group.Wait() // none returns an error
	l.undoAll(func(m *made) bool { return !actions.Kind(m.action.Kind).Fact().Stays })
}

// stop undoes all actions that still hold, and makes the trial invalid for those that could not be
// performed or undone.
func (l *timeline) stop() error {
	if l.group == nil {
		return nil
	}
	l.rest()
	l.undoAll(func(*made) bool { return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range l.problems {
		l.t.invalidate(results.CodeAction, "%s", text)
	}
	l.problems, l.group = nil, nil
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

func (l *timeline) undoAll(which func(*made) bool) {
	l.mu.Lock()
	list := slices.Clone(l.made)
	l.mu.Unlock()
	for _, m := range slices.Backward(list) {
		if which(m) {
			l.undo(m, false)
		}
	}
}

// actions returns those of the trial, on an axis with the given zero.
func (l *timeline) actions(zero time.Time) []results.Action {
	l.mu.Lock()
	defer l.mu.Unlock()
	seconds := func(i instant) *float64 {
		at := i.time()
		if at.IsZero() || zero.IsZero() {
			return nil
		}
		s := at.Sub(zero).Seconds()
		return &s
	}
	var list []results.Action
	for _, m := range l.made {
		a := m.action
		if a.Failure == "" {
			a.Begun = seconds(m.begun)
		}
		if a.Ended = seconds(m.over); a.Begun == nil {
			a.Ended = nil
		}
		list = append(list, a)
	}
	slices.SortStableFunc(list, func(a, b results.Action) int {
		if a.Begun == nil || b.Begun == nil {
			return 0
		}
		return cmp.Compare(*a.Begun, *b.Begun)
	})
	return list
}

// back waits while the DUT is being reset, and reports whether it has another agent than lost.
func (l *timeline) back(ctx context.Context, lost *agent.Client) bool {
	l.mu.Lock()
	resetting := l.resetting
	l.mu.Unlock()
	if resetting != nil {
		select {
		case <-resetting:
		case <-ctx.Done():
			return false
		}
	}
	return l.t.dut.Agent() != lost
}

// These are the reasons why an action is not performed: the lab cannot, or its time is after the
// end of the trial.
var (
	errNotHere = errors.New("this lab cannot do that")
	errTooLate = errors.New("did not come: the trial was over before its time")
)
