// Package orchestrator runs an experiment: it plans the trials, has a lab boot the nodes, drives
// one trial after another and hands the measurements to the results.
//
// The story of a run is [Run] in run.go, that of one trial is (*trial).measure in trial.go.
package orchestrator

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/guest"
)

// Plan says what a run will do, decided before anything starts.
type Plan struct {
	Experiment *scenarios.Experiment
	Scenarios  []scenarios.Resolved // in the order of the file and of the report
	Seed       uint64               // for the order of the trials and of the tuples
	Order      []Slot
	Shard      *results.Shard // the part of the run that Order is; nil: the whole
	// Retries limits the further attempts of each trial that the host spoils.
	Retries    int
	workloads  []results.Workload     // of each scenario, without figures
	thresholds [][]*results.Threshold // of each scenario
	// conditions are the conditions of each scenario, for each action; nil where the action has a
	// time.
	conditions [][]*results.Condition
	steady     [][]*results.Condition // of each scenario
}

// Slot is one trial's place in a plan.
type Slot struct {
	Scenario int // index in Plan.Scenarios
	Number   int // from 1, among the trials of its scenario
	Repeats  int // number of the trial that the host has spoilt, and this one repeats; 0: none
	Attempt  int // how many attempts the host has spoilt before
}

// NewPlan orders the trials: in rounds with one trial of each scenario, each round in an order
// drawn from seed, so that a slow drift of the host affects all scenarios alike.
//
// It refuses what no lab can do, whatever the host; see [labs.Choice.Check] for the rest. The error
// holds a *scenarios.InvalidError for each fault.
func NewPlan(experiment *scenarios.Experiment, seed uint64) (*Plan, error) {
	resolved := experiment.Resolve()
	plan := &Plan{Experiment: experiment, Scenarios: resolved, Seed: seed}
	for _, s := range resolved {
		list := wiring.Assignments(experiment.Topology, s, seed)
		plan.workloads = append(plan.workloads, workload(list))
	}
	plan.thresholds = make([][]*results.Threshold, len(resolved))
	for _, t := range experiment.Thresholds {
		for i, s := range resolved {
			if !t.AppliesTo(s) {
				continue
			}
			compiled, err := results.CompileThreshold(t.Expression, plan.workloads[i])
			if err != nil {
				if slices.ContainsFunc(plan.workloads, func(w results.Workload) bool {
					_, err := results.CompileThreshold(t.Expression, w)
					return err == nil
				}) { // it is wrong in this scenario alone
					err = fmt.Errorf("scenario %s: %w", s.Name, err)
				}
				return nil, experiment.Invalid(t.Position, err.Error())
			}
			plan.thresholds[i] = append(plan.thresholds[i], compiled)
		}
	}
	if err := errors.Join(plan.compile(), plan.check()); err != nil {
		return nil, err
	}
	draw := rand.New(rand.NewPCG(seed, 0))
	for number := 1; number <= experiment.Trials; number++ {
		for _, scenario := range draw.Perm(len(resolved)) {
			plan.Order = append(plan.Order, Slot{Scenario: scenario, Number: number})
		}
	}
	return plan, nil
}

// compile compiles the conditions of the actions, the thresholds and the steady states.
func (p *Plan) compile() error {
	compiled := func(e scenarios.Expression, w results.Workload) (*results.Condition, error) {
		c, err := results.CompileCondition(e.Text, w)
		if err != nil {
			return nil, p.Experiment.Invalid(e.Position, err.Error())
		}
		return c, nil
	}
	for at, s := range p.Scenarios {
		w := p.workloads[at]
		conditions := make([]*results.Condition, len(s.Actions))
		steady := make([]*results.Condition, len(s.Steady))
		var err error
		for i, a := range s.Actions {
			if a.When.Text == "" {
				continue
			}
			if conditions[i], err = compiled(a.When, w); err != nil {
				return err
			}
		}
		for i, e := range s.Steady {
			if steady[i], err = compiled(e, w); err != nil {
				return err
			}
		}
		p.conditions, p.steady = append(p.conditions, conditions), append(p.steady, steady)
	}
	return nil
}

// check refuses what the experiment alone shows that no lab can do: kernels of unknown name, and
// loads that no generator can make, such as more flows than tuples.
func (p *Plan) check() error {
	var errs []error
	for _, s := range p.Scenarios {
		refuse := func(at scenarios.Position, about string, err error) {
			if err != nil {
				text := fmt.Sprintf("scenario %s%s: %v", s.Name, about, err)
				errs = append(errs, p.Experiment.Invalid(at, text))
			}
		}
		if !s.DUT.KernelIsFile() {
			refuse(s.Position, "", guest.CheckKernelName(s.DUT.Kernel))
		}
		for _, a := range wiring.Assignments(p.Experiment.Topology, s, p.Seed) {
			at := p.Experiment.EntryPosition(a.Entry.Name, s.Position)
			refuse(at, ", entry "+a.Entry.Name, a.Spec.Validate())
		}
	}
	return errors.Join(errs...)
}

// Name returns a trial's name, unique in the run: its folder and its title.
func (p *Plan) Name(slot Slot) string {
	return fmt.Sprintf("%s-%d", p.Scenarios[slot.Scenario].Name, slot.Number)
}

// event returns an event of a trial.
func (p *Plan) event(kind events.Kind, slot Slot) events.Event {
	return events.Event{
		Kind: kind, Scenario: p.Scenarios[slot.Scenario].Name, Trial: slot.Number,
	}
}

// AddThresholds adds thresholds from a command line to an experiment (see
// [results.ParseThreshold]). Call it after the choice of scenarios; [NewPlan] compiles the
// thresholds. The error is a *scenarios.InvalidError.
func AddThresholds(experiment *scenarios.Experiment, texts []string) error {
	var names []string
	for _, s := range experiment.Resolve() {
		for _, name := range []string{s.Base, s.Name} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	at := scenarios.Position{File: "--threshold"}
	for _, text := range texts {
		scenario, expression, err := results.ParseThreshold(text, names)
		if err != nil {
			return experiment.Invalid(at, err.Error())
		}
		experiment.Thresholds = append(experiment.Thresholds,
			scenarios.Threshold{Scenario: scenario, Expression: expression, Position: at})
	}
	return nil
}
