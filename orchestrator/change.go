package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// change is one performed action: what it did, and how to undo it.
type change struct {
	effects effects
	undo    func(context.Context) (effects, error) // nil where there is nothing to undo
}

// effects holds what the trial saw of a change.
type effects struct {
	seen    []results.Effect
	remarks []string
	began   instant // its clock is nil where only this host knows the time
	took    time.Duration
}

// change performs an action. On an error nothing of the action is left.
func (t *trial) change(ctx context.Context, a scenarios.Action, id string) (change, error) {
	release, err := t.timeline.take(a.Holds(t.Plan.Experiment.Topology), a.Name)
	if err != nil {
		return change{}, err
	}
	c, err := t.carryOut(ctx, a, id)
	if err != nil || c.undo == nil {
		release()
		return c, err
	}
	undo := c.undo
	c.undo = func(ctx context.Context) (effects, error) {
		defer release()
		return undo(ctx)
	}
	return c, nil
}

func (t *trial) carryOut(ctx context.Context, a scenarios.Action, id string) (change, error) {
	switch {
	case a.Kind == actions.Pause:
		return t.pause(ctx, a)
	case a.Kind == actions.Reset:
		return t.reset(ctx)
	case a.Kind.Fact().OnLinks():
		return t.worsen(ctx, a, id)
	case a.Kind == actions.Join:
		close(t.timeline.joined[a.Entry])
		return change{}, nil
	default:
		return t.fault(ctx, a.Node, id, a)
	}
}

// node returns the node of that name.
func (t *trial) node(name string) vm.Node {
	if name == t.dut.Name() {
		return t.dut
	}
	return t.loads[name]
}

// fault has the agent of a node make a change.
func (t *trial) fault(ctx context.Context, name, id string, a scenarios.Action) (change, error) {
	fault, err := wiring.Fault(t.Plan.Experiment.Topology, t.scenario.DUT, a, id)
	if err != nil {
		return change{}, err
	}
	return t.apply(ctx, name, fault, a.Kind.Undoable())
}

func (t *trial) apply(ctx context.Context, name string, fault faults.Fault, undoable bool) (change, error) {
	client := t.node(name).Agent()
	reading, err := client.Apply(ctx, fault)
	if err != nil {
		return change{}, err
	}
	c := change{effects: t.read(name, reading)}
	if undoable {
		c.undo = func(ctx context.Context) (effects, error) {
			select {
			case <-client.Lost():
				// The effects are those of a reset.
				return effects{remarks: []string{"gone with the agent that made it"}}, nil
			default:
			}
			reading, err := client.Revert(ctx, fault.ID)
			return t.read(name, reading), err
		}
	}
	return c, nil
}

// read converts what an agent reports of a change.
func (t *trial) read(name string, r faults.Reading) effects {
	e := effects{remarks: r.Remarks, took: r.Took}
	if name == t.dut.Name() && r.Began > 0 {
		e.began = instant{clock: t.series.current(), there: r.Began}
	}
	for _, f := range r.Figures {
		e.seen = append(e.seen, results.Effect{Name: f.Name, Before: f.Before, After: f.After})
	}
	return e
}

// pause stops a node. When the node goes on, the DUT's clock lags by the time that it stood still.
func (t *trial) pause(ctx context.Context, a scenarios.Action) (change, error) {
	node := t.node(a.Node)
	pausable, ok := node.(vm.Pausable)
	if !ok {
		return change{}, fmt.Errorf("pause %s: %w", a.Node, errNotHere)
	}
	if node == t.dut {
		// Compare the clocks now: the DUT's clock will jump.
		if err := t.series.current().compare(ctx, t.dut.Agent()); err != nil {
			return change{}, err
		}
	}
	if err := pausable.Pause(ctx); err != nil {
		return change{}, err
	}
	stood := time.Now()
	seen := func(ctx context.Context, before string) (effects, error) {
		paused, err := pausable.Paused(ctx)
		after := "running"
		if paused {
			after = "paused"
		}
		if err == nil && after == before {
			err = fmt.Errorf("%s reads back as %s", a.Node, after)
		}
		return effects{seen: []results.Effect{{Name: a.Node, Before: before, After: after}}}, err
	}
	resume := func(ctx context.Context) (effects, error) {
		if err := pausable.Resume(ctx); err != nil {
			return effects{}, err
		}
		if node == t.dut {
			if err := t.series.current().jumped(ctx, t.dut.Agent(), stood); err != nil {
				return effects{}, err
			}
		}
		return seen(ctx, "paused")
	}
	e, err := seen(ctx, "running")
	if err != nil {
		_, again := resume(ctx)
		return change{}, errors.Join(err, again)
	}
	return change{effects: e, undo: resume}, nil
}

// reset resets the DUT and sets it up again as its own boot would: configuration, servers,
// sampling.
func (t *trial) reset(ctx context.Context) (change, error) {
	machine, ok := t.dut.(vm.Resettable)
	if !ok {
		return change{}, fmt.Errorf("reset %s: %w", t.dut.Name(), errNotHere)
	}
	before, err := t.dut.Agent().Hello(ctx)
	if err != nil {
		return change{}, err
	}
	l, done := t.timeline, make(chan struct{})
	l.mu.Lock()
	l.resetting = done
	l.mu.Unlock()
	defer close(done)
	if err := machine.Reset(ctx); err != nil {
		return change{}, err
	}
	after, err := t.dut.Agent().Hello(ctx)
	if err != nil {
		return change{}, err
	}
	clock := new(clock)
	err = errors.Join(t.dut.Agent().Configure(ctx, t.settings), t.startServers(ctx, t.dut.Name()), clock.compare(ctx, t.dut.Agent()))
	if err != nil {
		return change{}, err
	}
	if t.dropsUnseen, err = t.dut.Agent().WatchDrops(ctx); err != nil {
		return change{}, err
	}
	t.series.rebooted(clock)
	uptime := func(d time.Duration) string { return d.Round(time.Second).String() }
	return change{effects: effects{seen: []results.Effect{{Name: "uptime", Before: uptime(before.Uptime), After: uptime(after.Uptime)}}}}, nil
}

// worsen degrades links of a node.
func (t *trial) worsen(ctx context.Context, a scenarios.Action, id string) (change, error) {
	node, name, named := strings.Cut(a.Link, "/")
	links := []string{name}
	if a.Kind == actions.Partition {
		node, named = a.Node, false
	}
	if !named {
		links = t.Plan.Experiment.Topology.LinksOf(node)
	}
	conditions := a.Conditions()
	lab, ok := t.Lab.(vm.LinkFaulty)
	if !ok {
		if a.Kind != actions.Network || !conditions.Shapes() {
			return change{}, fmt.Errorf("%s of %s: %w", a.Kind, node, errNotHere)
		}
		return t.apply(ctx, node, faults.Fault{ID: id, Kind: actions.Network, Conditions: conditions}, true)
	}
	var c change
	undo := func(ctx context.Context) (e effects, err error) {
		for _, each := range links {
			back, clearErr := lab.ClearLink(ctx, node, each)
			err = errors.Join(err, clearErr)
			e.seen = append(e.seen, results.Effect{Name: node + "/" + each, Before: conditions.String(), After: back.String()})
		}
		return e, err
	}
	for _, each := range links {
		var got link.Conditions
		var err error
		if a.Kind == actions.Network && !conditions.Shapes() {
			got, err = lab.ClearLink(ctx, node, each) // 0 %, one of the values of a matrix
		} else {
			got, err = lab.SetLink(ctx, node, each, conditions)
		}
		if err != nil {
			_, again := undo(ctx)
			return change{}, errors.Join(err, again)
		}
		c.effects.seen = append(c.effects.seen, results.Effect{Name: node + "/" + each, Before: link.Conditions{}.String(), After: got.String()})
	}
	c.undo = undo
	return c, nil
}
