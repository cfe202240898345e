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
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
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
	ended  chan struct{}            // closed when the load has ended
	joined map[string]chan struct{} // by the entry that waits for an action
	// othersEnded is closed when all entries have ended that wait for no action.
	othersEnded chan struct{}
	group       *errgroup.Group // of the actions; nil until they wait
	// rules is the reading before the end of the trial undid a change of them; nil without one.
	rules  *tuning.State
	cancel context.CancelFunc

	mu          sync.Mutex
	live        results.Live
	bystanders  map[string]report // of each assignment of a probe, its last one
	waiting     []*waiter
	occurrences []*occurrence
	problems    []string
	owners      map[string]string // by node or link, the name of the action that owns it
	resetting   chan struct{}     // closed when the DUT is back; nil while no reset is under way
}

// waiter is a condition that is not met yet.
type waiter struct {
	condition *results.Condition
	met       chan struct{} // closed when the condition is met
}

// occurrence is one occurrence of an action, past or pending.
type occurrence struct {
	action     results.Action // its times are filled in when the axis is known
	begun, end instant
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
		t: t, begun: make(chan struct{}), ended: make(chan struct{}),
		joined: map[string]chan struct{}{}, othersEnded: make(chan struct{}),
		bystanders: map[string]report{}, owners: map[string]string{},
		live: results.Live{Workload: t.workload()},
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

// reserve reserves for an action the nodes and links that it owns, until release. It returns an
// error when another action owns any of them: two conditions may be met at one time.
func (l *timeline) reserve(things []string, action string) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, thing := range things {
		if owner, owned := l.owners[thing]; owned {
			const format = "%s still has %s, which takes one action at a time"
			return nil, fmt.Errorf(format, owner, thing)
		}
	}
	for _, thing := range things {
		l.owners[thing] = action
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, thing := range things {
			delete(l.owners, thing)
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
	probes := map[string]results.MomentProbe{}
	for name := range l.live.Workload.Probes {
		probes[name] = results.MomentProbe{}
	}
	for _, r := range l.bystanders {
		probe := probes[r.entry]
		probe.Sent += r.Completed + r.Failed
		probe.Lost += r.Failed
		probe.Latency = max(probe.Latency, milliseconds(r.Answered))
		probes[r.entry] = probe
	}
	moment := l.live.Add(s, probes)
	l.waiting = slices.DeleteFunc(l.waiting, func(w *waiter) bool {
		if !w.condition.Holds(&moment) {
			return false
		}
		close(w.met)
		return true
	})
}

// probed records what a bystander has seen so far.
func (l *timeline) probed(a wiring.Assignment, p generators.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bystanders[a.Name] = report{a.Entry.Name, p}
}

// moment waits for an action's first moment. The error is that of ctx, which ends with the trial.
func (l *timeline) moment(ctx context.Context, a scenarios.Action, w *waiter) error {
	start, delay := l.begun, time.Duration(a.At)
	switch {
	case w != nil:
		start, delay = w.met, time.Duration(a.After)
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

// perform waits for an action's moments, performs it at each, and undoes it in time.
func (l *timeline) perform(ctx context.Context, a scenarios.Action, w *waiter) {
	o := l.add(a)
	if err := l.moment(ctx, a, w); err != nil {
		if w == nil {
			l.fail(o, errTooLate)
		}
		return
	}
	next := time.Now()
	for n := range max(1, int(a.Times)) {
		if n > 0 {
			o = l.add(a)
			if wait(ctx, time.Until(next)) != nil {
				l.fail(o, errTooLate)
				return
			}
		}
		next = next.Add(time.Duration(a.Every))
		if !l.begin(ctx, o, a) || a.For == 0 {
			return
		}
		if wait(ctx, time.Duration(a.For)) != nil {
			return // the trial ended; stop undoes it
		}
		l.undo(o, true)
	}
}

// add appends a pending occurrence of an action.
func (l *timeline) add(a scenarios.Action) *occurrence {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &occurrence{action: results.Action{
		Name: a.Name, Kind: string(a.Kind), Where: a.Where(), Asked: a.Asked(), Fix: a.Fix,
	}}
	l.occurrences = append(l.occurrences, o)
	return o
}

// begin performs an action and reports whether it succeeded.
func (l *timeline) begin(ctx context.Context, o *occurrence, a scenarios.Action) bool {
	// An action that has begun is not interrupted: it is performed, and undone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), actionLimit)
	defer cancel()
	l.note(o, "begin", effects{})
	begun := instant{here: time.Now()}
	change, err := l.t.change(ctx, a, fmt.Sprintf("%s-%d", a.Name, l.number(o)))
	took := cmp.Or(change.took, time.Since(begun.here))
	if change.began.clock != nil {
		begun = change.began
	}
	l.mu.Lock()
	o.begun, o.undo, o.action.Took = begun, change.undo, took.Seconds()
	o.action.Effects, o.action.Remarks = change.seen, change.remarks
	l.mu.Unlock()
	if err != nil {
		l.fail(o, fmt.Errorf("could not be performed: %w", err))
		return false
	}
	l.note(o, results.ActionMade, change.effects)
	return true
}

// undo undoes an action, once.
func (l *timeline) undo(o *occurrence, inTime bool) {
	l.mu.Lock()
	undo := o.undo
	o.undo = nil
	l.mu.Unlock()
	if undo == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), actionLimit)
	defer cancel()
	if !inTime {
		l.readRules(ctx, o)
	}
	l.note(o, "undo", effects{})
	end := instant{here: time.Now()}
	seen, err := undo(ctx)
	if seen.began.clock != nil {
		end = seen.began
	}
	if inTime {
		l.mu.Lock()
		o.end = end
		l.mu.Unlock()
	}
	if err != nil {
		l.fail(o, fmt.Errorf("could not be undone: %w", err))
		return
	}
	l.note(o, results.ActionUndone, seen)
}

// readRules reads what the DUT's rules have counted, before the end of the trial takes the first
// change of them back, and with it their counters. A failure leaves the reading of the trial's end.
func (l *timeline) readRules(ctx context.Context, o *occurrence) {
	kind := actions.Kind(o.action.Kind)
	changes := kind == actions.RulesLoad || kind == actions.RulesRemove
	if !changes || l.rules != nil || o.action.Where != l.t.dut.Name() {
		return
	}
	if state, err := l.t.dut.Agent().ReadBack(ctx, l.t.settings); err == nil {
		l.rules = &state
	}
}

// number returns the occurrence's position, from 1.
func (l *timeline) number(o *occurrence) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Index(l.occurrences, o) + 1
}

// note writes an event of an action into the trial's folder.
func (l *timeline) note(o *occurrence, event string, e effects) {
	a := o.action
	step := results.ActionEvent{
		Time: time.Now(), Event: event, Name: a.Name, Kind: a.Kind, Where: a.Where, Asked: a.Asked,
		Effects: e.seen, Remarks: e.remarks,
	}
	if err := l.file.Append(step); err != nil {
		l.problem(err.Error())
	}
	l.t.tell(events.Event{Kind: events.ActionMoved, Action: &step})
}

func (l *timeline) fail(o *occurrence, err error) {
	l.mu.Lock()
	o.action.Failure = err.Error()
	l.mu.Unlock()
	l.note(o, "failed", effects{remarks: []string{err.Error()}})
	l.problem(fmt.Sprintf("the action %s %v", o.action.Name, err))
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
	l.undoAll(func(o *occurrence) bool { return !actions.Kind(o.action.Kind).Fact().Stays })
}

// stop undoes all actions that still hold, and makes the trial invalid for those that could not be
// performed or undone.
func (l *timeline) stop() error {
	if l.group == nil {
		return nil
	}
	l.rest()
	l.undoAll(func(*occurrence) bool { return true })
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

func (l *timeline) undoAll(which func(*occurrence) bool) {
	l.mu.Lock()
	list := slices.Clone(l.occurrences)
	l.mu.Unlock()
	for _, o := range slices.Backward(list) {
		if which(o) {
			l.undo(o, false)
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
	for _, o := range l.occurrences {
		a := o.action
		if a.Failure == "" {
			a.Begun = seconds(o.begun)
		}
		if a.Begun != nil {
			a.Ended = seconds(o.end)
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

// returned waits while the DUT is being reset, and reports whether it has another agent than lost.
func (l *timeline) returned(ctx context.Context, lost *agent.Client) bool {
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

// These are the reasons why an action is not performed.
var (
	errUnsupported = errors.New("not supported by this lab")
	errTooLate     = errors.New("was not performed: the trial ended first")
)
