package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// change is one performed action: its effects, and how to undo it.
type change struct {
	effects
	undo func(context.Context) (effects, error) // nil where there is nothing to undo
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
	release, err := t.timeline.reserve(a.Holds(t.Plan.Experiment.Topology), a.Name)
	if err != nil {
		return change{}, err
	}
	c, err := t.changeReserved(ctx, a, id)
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

func (t *trial) changeReserved(ctx context.Context, a scenarios.Action, id string) (change, error) {
	switch {
	case a.Kind == actions.Pause:
		return t.pause(ctx, a)
	case a.Kind == actions.Reset:
		return t.reset(ctx)
	case a.Kind.Fact().OnLinks():
		return t.degradeLinks(ctx, a, id)
	case a.Kind == actions.Join:
		close(t.timeline.joined[a.Entry])
		return change{}, nil
	}
	topology := t.Plan.Experiment.Topology
	fault, err := wiring.Fault(topology, t.scenario.DUT, a, id)
	if err != nil {
		return change{}, err
	}
	return t.apply(ctx, a.Node, fault)
}

// node returns the node of that name.
func (t *trial) node(name string) vm.Node {
	if name == t.dut.Name() {
		return t.dut
	}
	return t.loads[name]
}

// apply has the agent of a node make a fault.
func (t *trial) apply(ctx context.Context, name string, fault faults.Fault) (change, error) {
	client := t.node(name).Agent()
	reading, err := client.Apply(ctx, fault)
	if err != nil {
		return change{}, err
	}
	c := change{effects: t.effectsOf(name, reading)}
	if fault.Kind.Undoable() {
		c.undo = func(ctx context.Context) (effects, error) {
			select {
			case <-client.Lost():
				return effects{remarks: []string{"ended with the agent that made it"}}, nil
			default:
			}
			reading, err := client.Revert(ctx, fault.ID)
			return t.effectsOf(name, reading), err
		}
	}
	return c, nil
}

// effectsOf converts an agent's reading of a change.
func (t *trial) effectsOf(name string, r faults.Reading) effects {
	e := effects{seen: r.Figures, remarks: r.Remarks, took: r.Took}
	if name == t.dut.Name() && r.Began > 0 {
		e.began = instant{clock: t.series.current(), there: r.Began}
	}
	return e
}

// pause stops a node. When the node goes on, the DUT's clock lags by the time that it stood still.
func (t *trial) pause(ctx context.Context, a scenarios.Action) (change, error) {
	node := t.node(a.Node)
	pausable, ok := node.(vm.Pausable)
	if !ok {
		return change{}, fmt.Errorf("pause %s: %w", a.Node, errUnsupported)
	}
	if node == t.dut {
		// Compare the clocks now: the DUT's clock will jump.
		if err := t.series.current().compare(ctx, t.dut.Agent()); err != nil {
			return change{}, err
		}
	}
	node.Agent().Hush()
	if err := pausable.Pause(ctx); err != nil {
		node.Agent().Unhush()
		return change{}, err
	}
	stood := time.Now()
	readBack := func(ctx context.Context, want bool) (effects, error) {
		words := map[bool]string{true: "paused", false: "running"}
		paused, err := pausable.Paused(ctx)
		if err == nil && paused != want {
			err = fmt.Errorf("%s is %s, not %s as asked", a.Node, words[paused], words[want])
		}
		seen := results.Effect{Name: a.Node, Before: words[!want], After: words[paused]}
		return effects{seen: []results.Effect{seen}}, err
	}
	resume := func(ctx context.Context) (effects, error) {
		err := pausable.Resume(ctx)
		node.Agent().Unhush()
		if err == nil && node == t.dut {
			err = t.series.current().jumped(ctx, t.dut.Agent(), stood)
		}
		if err != nil {
			return effects{}, err
		}
		return readBack(ctx, false)
	}
	e, err := readBack(ctx, true)
	if err != nil {
		_, undoErr := resume(ctx)
		return change{}, errors.Join(err, undoErr)
	}
	return change{effects: e, undo: resume}, nil
}

// reset resets the DUT and sets it up again as its own boot would: configuration, servers,
// sampling.
func (t *trial) reset(ctx context.Context) (change, error) {
	machine, ok := t.dut.(vm.Resettable)
	if !ok {
		return change{}, fmt.Errorf("reset %s: %w", t.dut.Name(), errUnsupported)
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
	dut, clock := t.dut.Agent(), new(clock)
	after, err := dut.Hello(ctx)
	if err != nil {
		return change{}, err
	}
	err = errors.Join(dut.Configure(ctx, t.settings), t.startServers(ctx, t.dut.Name()),
		clock.compare(ctx, dut))
	if err != nil {
		return change{}, err
	}
	if t.dropsUnseen, err = dut.WatchDrops(ctx); err != nil {
		return change{}, err
	}
	t.series.rebooted(clock)
	uptime := func(h agent.Hello) string { return h.Uptime.Round(time.Second).String() }
	seen := results.Effect{Name: "uptime", Before: uptime(before), After: uptime(after)}
	return change{effects: effects{seen: []results.Effect{seen}}}, nil
}

// degradeLinks degrades links of a node.
func (t *trial) degradeLinks(ctx context.Context, a scenarios.Action, id string) (change, error) {
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
			return change{}, fmt.Errorf("%s of %s: %w", a.Kind, node, errUnsupported)
		}
		fault := faults.Fault{ID: id, Kind: actions.Network, Conditions: conditions}
		return t.apply(ctx, node, fault)
	}
	var c change
	effect := func(name string, before, after link.Conditions) results.Effect {
		name = node + "/" + name
		return results.Effect{Name: name, Before: before.String(), After: after.String()}
	}
	c.undo = func(ctx context.Context) (e effects, err error) {
		for _, name := range links {
			after, clearErr := lab.ClearLink(ctx, node, name)
			err = errors.Join(err, clearErr)
			e.seen = append(e.seen, effect(name, conditions, after))
		}
		return e, err
	}
	for _, name := range links {
		var after link.Conditions
		var err error
		if a.Kind == actions.Network && !conditions.Shapes() {
			after, err = lab.ClearLink(ctx, node, name) // 0 %, one of the values of a matrix
		} else {
			after, err = lab.SetLink(ctx, node, name, conditions)
		}
		if err != nil {
			_, undoErr := c.undo(ctx)
			return change{}, errors.Join(err, undoErr)
		}
		c.seen = append(c.seen, effect(name, link.Conditions{}, after))
	}
	return c, nil
}
