package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/search"
	"github.com/ctload/ctload/vm"
)

// Request holds what [Run] needs.
type Request struct {
	Job
	Materials labs.Materials
	Lab       vm.Lab
	Beside    []vm.Lab // further labs of the same kind: trials run in all of them concurrently
	EarlyBoot bool     // Lab.Boot heeds [vm.Machine.Linked]
}

// Run performs every trial of a plan and returns the measurements, also beside an error: when ctx
// ends (the run is then marked as interrupted), when the lab breaks, or when machines do not boot.
// It updates the run folder after each trial; until a clean end the run is marked as unfinished.
// Another experiment, host or ctload than that of the run to resume is a *compare.UnlikeError.
func Run(ctx context.Context, r Request) (*results.Run, error) {
	var looking *limitSearch
	if r.Search != nil {
		var err error
		if looking, err = r.Search.prepare(r.Plan); err != nil {
			return nil, err
		}
		looking.save, looking.note = r.Folder.SaveSearch, r.remark
		looking.moved = func(s search.Scenario) {
			r.emit(events.Event{Kind: events.LimitMoved, Limit: &s})
		}
		looking.begin()
	}
	run := newRun(r)
	if r.Resume != nil {
		planned := *run
		if looking != nil { // its scenarios come one by one
			planned.Scenarios = r.Resume.Scenarios
		}
		if err := compare.Continues(r.Resume, &planned); err != nil {
			return nil, err
		}
		run = r.Resume
		run.Interrupted = false
	}
	run.Unfinished, run.Planned = true, len(r.Plan.Scenarios)*r.Plan.Experiment.Trials
	if err := r.save(run); err != nil {
		return run, err
	}
	r.emit(r.begin(run))
	trials := newQueue(r, run, looking)
	var following errgroup.Group
	for _, lab := range slices.Concat([]vm.Lab{r.Lab}, r.Beside) {
		following.Go(func() error { return trials.follow(ctx, lab) })
	}
	if err := following.Wait(); err != nil {
		run.Interrupted = ctx.Err() != nil
		return run, errors.Join(err, r.save(run))
	}
	var err error
	if run.Shard == nil { // else the merge judges all shards together
		err = r.Plan.conclude(run)
	}
	run.Unfinished = err != nil
	return run, errors.Join(err, r.save(run))
}

// begin returns the event of a run that begins, or goes on.
func (r Request) begin(run *results.Run) events.Event {
	known := *run
	known.Scenarios = slices.Clone(run.Scenarios)
	e := events.Event{
		Kind: events.RunBegin, Run: &known, TimeLines: r.Plan.TimeLine(), Labs: 1 + len(r.Beside),
	}
	for i := range known.Scenarios {
		known.Scenarios[i].Trials = []results.Trial{}
	}
	for _, slot := range r.Plan.Order {
		e.Order = append(e.Order,
			events.Place{Scenario: r.Plan.Scenarios[slot.Scenario].Name, Trial: slot.Number})
	}
	return e
}

// conclude judges what only the whole run can show.
func (p *Plan) conclude(run *results.Run) error {
	results.Reconcile(run)
	var errs []error
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		outcomes, err := results.CheckThresholds(p.thresholds[i], s)
		s.Thresholds, errs = outcomes, append(errs, err)
	}
	return errors.Join(errs...)
}

func newRun(r Request) *results.Run {
	run := r.Plan.Expected()
	run.ID, run.Ctload, run.Started, run.Tags = r.ID, r.Version, time.Now(), r.Tags
	run.Environment = environment(r.Lab.About())
	return run
}

// Expected returns what is known of a plan's run before it starts: its scenarios without trials,
// and the host. The lab is not known yet.
func (p *Plan) Expected() *results.Run {
	run := &results.Run{
		Schema: results.SchemaVersion, Experiment: p.Experiment.Name, Summary: p.Experiment.Summary,
		Seed: p.Seed, Shard: p.Shard, Environment: environment(vm.About{}),
		Workload: asked(p.Experiment.Workload), Phases: phases(p.Experiment.Phases),
	}
	for i := range p.Scenarios {
		run.Scenarios = append(run.Scenarios, p.expected(i))
	}
	return run
}

// expected returns a scenario of the run without trials.
func (p *Plan) expected(i int) results.Scenario {
	s := p.Scenarios[i]
	scenario := results.Scenario{
		Name: s.Name, Summary: s.Summary,
		Configuration: configuration(s.DUT), Actions: asked(s.Actions),
	}
	if load := asked(s.Workload); !reflect.DeepEqual(load, asked(p.Scenarios[0].Workload)) {
		scenario.Workload = load
	}
	return scenario
}

// asked returns entries or actions as the report has them.
func asked[T scenarios.Entry | scenarios.Action](list []T) (all results.Asked) {
	for _, settings := range scenarios.Written(list) {
		all = append(all, settings)
	}
	return all
}

// record puts a trial into the run. The lab knows its accelerator only once a machine has booted.
func record(run *results.Run, slot Slot, trial results.Trial, about vm.About) {
	scenario := &run.Scenarios[slot.Scenario]
	for i := range scenario.Trials {
		if t := &scenario.Trials[i]; t.Number == slot.Repeats {
			t.RepeatedAs = slot.Number
		}
	}
	scenario.Trials = append(scenario.Trials, trial)
	byNumber := func(a, b results.Trial) int { return a.Number - b.Number }
	slices.SortStableFunc(scenario.Trials, byNumber)
	e := &run.Environment
	e.Accelerator, e.AcceleratorNote = about.Accelerator, about.AcceleratorNote
	e.Kernel = cmp.Or(e.Kernel, trial.Kernel)
	if trial.Modules != nil {
		e.Modules = inAll(e.Modules, trial.Modules)
	}
}

func (r Request) save(run *results.Run) error { return r.Folder.Save(run) }
