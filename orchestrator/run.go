package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
)

// View is told what a run does while it happens. Its methods are called from several goroutines.
type View interface {
	Trial(index, total int, name string) // the index-th trial, from 1, begins
	Stage(name string)                   // what it does now
	Load(done, failed, want int64)       // what the generators have done so far; want 0: unknown
	Table(sample results.Sample)         // the DUT's table at this instant
	Ended(trial results.Trial)           // what came of it
	Note(text string)                    // something worth a line
}

// Request is what [Run] needs besides the plan.
type Request struct {
	Plan      *Plan
	Materials Materials
	Lab       vm.Lab
	Folder    *results.Folder
	View      View
	Baseline  *results.Baseline // that the run is held against at its end, or nil
	ID        string            // of the run
	Version   string            // of the program
}

// failedBootsInARow after which a run gives up: the next boot would fail as well.
const failedBootsInARow = 2

// Run performs every trial of a plan and returns what was measured, also beside an error: when ctx
// ends (the run is then marked as interrupted), when the lab breaks, or when machines do not boot.
// The run folder is brought up to date after each trial. A baseline that turns out to be of another kind
// is an error as well, a *results.UnlikeError.
func Run(ctx context.Context, r Request) (*results.Run, error) {
	run := newRun(r)
	if err := r.save(run); err != nil {
		return run, err
	}
	failedBoots := 0
	for i, slot := range r.Plan.Order {
		r.View.Trial(i+1, len(r.Plan.Order), r.Plan.Name(slot))
		t, err := newTrial(r, slot)
		if err != nil {
			return run, err
		}
		err = t.perform(ctx)
		results.Judge(&t.result, run.Scenarios[slot.Scenario].Configuration)
		record(run, slot, t.result, r.Lab.About())
		if saveErr := r.save(run); saveErr != nil {
			return run, errors.Join(err, saveErr)
		}
		r.View.Ended(t.result)

		if ctx.Err() != nil {
			run.Interrupted = true
			return run, errors.Join(context.Cause(ctx), r.save(run))
		}
		if _, lost := errors.AsType[*vm.LostError](err); lost {
			return run, err
		}
		if boot, failed := errors.AsType[*vm.BootError](err); failed {
			if failedBoots++; failedBoots == failedBootsInARow {
				return run, fmt.Errorf("%d machines in a row did not boot, giving up: %s", failedBoots, boot.Brief())
			}
			continue
		}
		failedBoots = 0
	}
	err := conclude(run, r)
	return run, errors.Join(err, r.save(run))
}

// conclude judges what only the whole run can show.
func conclude(run *results.Run, r Request) error {
	results.Reconcile(run)
	for i := range run.Scenarios {
		run.Scenarios[i].Thresholds = results.CheckThresholds(r.Plan.thresholds[i], &run.Scenarios[i])
	}
	if r.Baseline == nil {
		return nil
	}
	return r.Baseline.Judge(run)
}

func newRun(r Request) *results.Run {
	run := r.Plan.Expected()
	run.ID, run.Ctload, run.Started = r.ID, r.Version, time.Now()
	run.Environment = environment(r.Lab.About())
	return run
}

// Expected is what is known of a plan's run before it starts: its scenarios without trials, and the host.
// What the lab will be is not known yet.
func (p *Plan) Expected() *results.Run {
	run := &results.Run{
		Schema: results.SchemaVersion, Experiment: p.Experiment.Name, Summary: p.Experiment.Summary,
		Seed: p.Seed, Environment: environment(vm.About{}),
	}
	if workload, err := json.Marshal(p.Experiment.Workload); err == nil {
		run.Workload = string(workload)
	}
	run.Phases = phases(p.Experiment.Phases)
	for _, s := range p.Scenarios {
		run.Scenarios = append(run.Scenarios, results.Scenario{
			Name: s.Name, Summary: s.Summary, Configuration: configuration(s.DUT),
		})
	}
	return run
}

// record puts a trial into the run. The lab knows its accelerator only once a machine has booted.
func record(run *results.Run, slot Slot, trial results.Trial, about vm.About) {
	scenario := &run.Scenarios[slot.Scenario]
	scenario.Trials = append(scenario.Trials, trial)
	run.Environment.Accelerator, run.Environment.AcceleratorNote = about.Accelerator, about.AcceleratorNote
	if run.Environment.Kernel == "" {
		run.Environment.Kernel = trial.Kernel
	}
	if trial.Modules != nil {
		run.Environment.Modules = inAll(run.Environment.Modules, trial.Modules)
	}
	run.Seconds = time.Since(run.Started).Seconds()
}

func (r Request) save(run *results.Run) error { return r.Folder.Save(run) }
