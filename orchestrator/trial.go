package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/orchestrator/forecast"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// trial is one fresh boot of one scenario under the workload.
type trial struct {
	Request
	slot     Slot
	scenario scenarios.Resolved
	folder   *results.TrialFolder
	result   results.Trial

	early    *early       // the DUT, where it boots already, or nil
	bootNext func() error // starts to boot the DUT of the next trial, once; nil: none follows

	dut   vm.Node
	loads map[string]vm.Node // clients and servers, by name

	settings tuning.Settings // requested of the DUT's kernel
	foreseen forecast.Case   // what the prediction goes by
	unasked  bool            // the kernel has others, so that no load was made

	clocks     map[string]*loadClock // of the load nodes
	series     *series
	timeline   *timeline
	notes      notes
	bystanders bystanders
	probes     *probing // nil until they begin
	// prepared are the generators and bystanders that are ready to begin, one for each entry; nil
	// once they have begun.
	prepared []*agent.Prepared
	zero     time.Time // when the load begins: second 0 of the axis
	// begun is the field zero as a time of day, without this host's monotonic clock; the zero time
	// when no load began.
	begun time.Time
	// skew is the longest time between the instant at which a load had to begin and its beginning.
	skew         time.Duration
	made         map[string]generators.Result // of the generators, by the entry's name
	framesBefore frames                       // counted at the baseline
	countedFlows []string                     // entries whose packets the DUT counts
	// dropsUnseen tells why drops are not counted by reason; empty when they are.
	dropsUnseen string
	// busy is the largest share of their time that workers of a closed loop were busy.
	busy   float64
	shared bool      // the DUT's kernel is the host's
	boots  int       // length of the console when the load began
	stage  time.Time // when the current stage began
	ended  string    // name of the stage that an interrupt ended; empty without one
}

// These are the stages of a trial whose length is, at least sometimes, known beforehand.
const (
	stageLoad     = "load"
	stageRecovery = "recovery"
)

// newTrial returns a trial that is about to begin; dut may boot already, or is nil.
func newTrial(r Request, slot Slot, dut *early) (*trial, error) {
	folder, err := r.trialFolder(slot, dut)
	if err != nil {
		return nil, err
	}
	w := r.Plan.workloads[slot.Scenario]
	t := &trial{
		Request: r, slot: slot, scenario: r.Plan.Scenarios[slot.Scenario],
		folder: folder, early: dut,
		loads: map[string]vm.Node{}, clocks: map[string]*loadClock{},
		result: results.Trial{
			Number: slot.Number, Folder: folder.Name(), Started: time.Now(),
			Entries: maps.Clone(w.Entries), Probes: maps.Clone(w.Probes),
		},
	}
	t.result.Load = t.sum(nil)
	if t.series, err = newSeries(folder, new(clock), w.Entries, t.sampleTaken); err != nil {
		return nil, err
	}
	t.timeline, err = newTimeline(t)
	return t, err
}

// workload returns the entries and the probes of the trial's scenario, without figures.
func (t *trial) workload() results.Workload { return t.Plan.workloads[t.slot.Scenario] }

// perform measures, and turns every failure into a reason why the trial is invalid. It returns an
// error only where the run may have to end.
func (t *trial) perform(ctx context.Context) error {
	err := t.measure(ctx)
	boot, dead := errors.AsType[*vm.BootError](err)
	switch {
	case ctx.Err() != nil:
		stage := cmp.Or(t.ended, t.stageName())
		t.invalidate(results.CodeInterrupted, "interrupted in stage %q", stage)
	case dead && t.death() != "":
		t.result.Died, err = t.death(), nil // a result of the configuration
	case dead:
		t.invalidate(results.CodeBroken, "%s", boot.Brief())
		t.remark(boot.Error())
	case err != nil && t.unasked:
		t.invalidate(results.CodeNotAsAsked, "the DUT is not as asked for: %v", err)
	case err != nil:
		t.invalidate(results.CodeBroken, "%v", err)
	}
	if t.result.Died == "" && !t.unasked {
		for _, problem := range t.notes.read().problems {
			t.invalidate(results.CodeUnread, "a figure could not be read: %s", problem)
		}
		t.result.Invalidate(results.Validate(&t.result, t.evidence())...)
	}
	t.begin("destroy")
	err = errors.Join(err, t.destroy(), t.series.close())
	t.end()
	return err
}

// measure performs a trial from the boot to the last reading.
func (t *trial) measure(ctx context.Context) error {
	t.begin("boot")
	if err := t.boot(ctx); err != nil {
		return err
	}

	t.begin("configure")
	loaded := time.Now()
	if err := t.configure(ctx); err != nil {
		return err
	}

	var err error
	if t.result.Refused, err = refusals(ctx, t.dut.Agent(), t.scenario.DUT); err != nil {
		return err
	}

	t.begin("read back")
	before, err := t.dut.Agent().ReadBack(ctx, t.settings)
	if err != nil {
		return err
	}
	t.result.Modules = moduleNames(before)
	differences := tuning.Differences(t.settings, before)
	for _, difference := range differences {
		t.invalidate(results.CodeNotAsAsked, "the DUT is not as asked for: %s", difference)
	}
	t.result.Remarks = tuning.Remarks(t.settings, before)
	if t.unasked = len(differences) > 0; t.unasked { // a load would measure something else
		return t.folder.SaveJSON(results.FileReadback, readback{Before: before, After: before})
	}
	entries := t.assignments()

	t.begin("baseline")
	first := t.crossCheck(ctx, false)
	if err := t.series.current().compare(ctx, t.dut.Agent()); err != nil {
		return err
	}
	if err := t.readLoads(ctx); err != nil {
		return err
	}
	if t.dropsUnseen, err = t.dut.Agent().WatchDrops(ctx); err != nil {
		return err
	}
	if err := t.meet(ctx); err != nil {
		return err
	}
	if err := t.countFlows(ctx, entries); err != nil {
		return err
	}
	if t.framesBefore, err = t.countFrames(ctx); err != nil {
		return err
	}
	t.foreseen = t.forecastCase(entries, before, loaded)
	t.result.Prediction = forecast.Predict(t.foreseen)
	sampling, err := t.startSampling(ctx)
	if err != nil {
		return err
	}
	t.boots = len(t.dut.Console())
	defer t.discard()
	if err = t.prepare(ctx, entries); err == nil {
		err = t.startProbes(ctx, entries)
	}
	if err == nil {
		t.begin(stageLoad)
		lost := t.watchHost(ctx)
		err = t.makeLoad(ctx, entries)
		t.result.LostCPU = lost(ctx)
	}
	if err == nil {
		t.begin(stageRecovery)
		if !t.Plan.recoveryIsAsked(t.slot.Scenario) {
			err = t.lookAhead()
		}
		living, release := t.whileNodesLive(ctx)
		err = errors.Join(err, t.watchRecovery(living))
		release()
	}
	err = errors.Join(err, t.stopProbes(), sampling.stop())
	if err == nil {
		err = t.lookAhead()
	}

	if ctx.Err() != nil { // what was measured is collected all the same
		t.ended = t.stageName()
	}
	t.begin("collect")
	return errors.Join(err, t.collect(before, first))
}

// meet has the nodes learn their neighbours' hardware addresses before the load: packets that wait
// for one are lost in a short queue. Load nodes never forget them, since a DUT that a load keeps
// busy could not answer again. The DUT's kernel keeps them as it always does.
func (t *trial) meet(ctx context.Context) error {
	met := wiring.Neighbours(t.Plan.Experiment.Topology)
	var meeting errgroup.Group
	for name, addresses := range met {
		meeting.Go(func() error {
			silent, err := t.node(name).Agent().Meet(ctx, name != t.dut.Name(), addresses...)
			if len(silent) > 0 {
				t.remark(fmt.Sprintf("%s: no hardware address for %s", name,
					strings.Join(silent, ", ")))
			}
			return err
		})
	}
	return meeting.Wait()
}

// boot starts the DUT and the load nodes.
func (t *trial) boot(ctx context.Context) error {
	var err error
	if t.early != nil {
		t.dut, err = t.early.take(ctx)
	} else {
		t.dut, err = t.Lab.Boot(ctx, t.machine(t.slot, t.folder))
	}
	if err != nil {
		return err
	}
	if err := t.dut.Agent().Reseed(ctx); err != nil {
		return err
	}
	if err := t.join(ctx, wiring.LoadNodes(t.Plan.Experiment.Topology)); err != nil {
		return err
	}
	hello, err := t.dut.Agent().Hello(ctx)
	if err != nil {
		return err
	}
	t.result.Kernel, t.result.MemoryBytes = hello.Release, hello.MemoryBytes
	if t.shared = hello.Shared; t.shared {
		t.result.Conntrack.LogMissing = "the kernel's log is the host's, with lines of all programs"
	}
	return nil
}

// machine returns the DUT of a trial, whose console goes to the trial's folder.
func (r Request) machine(slot Slot, folder *results.TrialFolder) vm.Machine {
	dut := r.Plan.Scenarios[slot.Scenario].DUT
	kernel := r.Materials.Kernels[dut.Kernel]
	return vm.Machine{
		Name: wiring.DUT, Kernel: kernel.Image, Initramfs: kernel.Initramfs,
		VCPUs: dut.VCPUs, MemoryBytes: int64(dut.Memory),
		Ports:       wiring.DUTPorts(r.Plan.Experiment.Topology, dut),
		ConsoleFile: folder.File(results.FileConsole),
	}
}

// trialFolder returns the folder of a trial, which an early DUT has already.
func (r Request) trialFolder(slot Slot, dut *early) (*results.TrialFolder, error) {
	if dut != nil {
		return dut.folder, nil
	}
	return r.Folder.CreateTrial(r.Plan.Scenarios[slot.Scenario].Name, slot.Number)
}

// lookAhead starts to boot the DUT of the next trial, if one follows.
func (t *trial) lookAhead() error {
	if t.bootNext == nil {
		return nil
	}
	return t.bootNext()
}

// join starts the load nodes; concurrently on hosts where they are machines, which take seconds to
// boot.
func (t *trial) join(ctx context.Context, nodes []vm.LoadNode) error {
	joined := make([]vm.Node, len(nodes))
	joining, ctx := errgroup.WithContext(ctx)
	if _, machines := t.Lab.(spread); !machines {
		joining.SetLimit(1)
	}
	for i, node := range nodes {
		joining.Go(func() (err error) {
			if joined[i], err = t.Lab.Join(ctx, node); err != nil {
				return err
			}
			return joined[i].Agent().Reseed(ctx)
		})
	}
	err := joining.Wait()
	for i, node := range joined {
		if node != nil {
			t.loads[nodes[i].Name] = node
		}
	}
	return err
}

// configure applies the scenario to the DUT's kernel and starts the responders of the workload.
func (t *trial) configure(ctx context.Context) error {
	var err error
	if t.settings, err = wiring.Settings(t.Plan.Experiment.Topology, t.scenario.DUT); err != nil {
		return err
	}
	apply := t.dut.Agent().Configure
	if node, ok := t.dut.(vm.Configurer); ok {
		apply = node.Configure
	}
	if err := apply(ctx, t.settings); err != nil {
		_, t.unasked = errors.AsType[*agent.RefusedError](err)
		return err
	}
	return t.startResponders(ctx)
}

// destroy ends the nodes. Nothing of them is left for the next trial.
func (t *trial) destroy() error {
	var errs []error
	for _, node := range t.loads {
		errs = append(errs, node.Close())
	}
	if t.dut != nil {
		errs = append(errs, t.dut.Close())
	}
	return errors.Join(errs...)
}

func (t *trial) invalidate(code results.Code, format string, args ...any) {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	t.result.Invalidate(results.Reason{Code: code, Text: text})
}

func (t *trial) begin(stage string) {
	t.end()
	t.stage = time.Now()
	t.result.Stages = append(t.result.Stages, results.Stage{Name: stage})
	t.tell(events.Event{Kind: events.StageBegin,
		Stage: &events.Stage{Name: stage, AtMost: t.stageLimit(stage).Seconds()}})
}

// tell tells the view of an event of the trial.
func (t *trial) tell(e events.Event) {
	of := t.Plan.event(e.Kind, t.slot)
	e.Scenario, e.Trial = of.Scenario, of.Trial
	t.emit(e)
}

// stageLimit returns how long a stage takes at most; 0 where that is not known.
func (t *trial) stageLimit(stage string) time.Duration {
	switch end, known := loadEnd(t.scenario); {
	case stage == stageLoad && known:
		return time.Duration(end * float64(time.Second))
	case stage == stageRecovery:
		return time.Duration(t.Plan.recovery(t.slot.Scenario).AtMost)
	}
	return 0
}

func (t *trial) end() {
	if n := len(t.result.Stages); n > 0 {
		t.result.Stages[n-1].Seconds = time.Since(t.stage).Seconds()
	}
}

func (t *trial) stageName() string {
	return t.result.Stages[len(t.result.Stages)-1].Name
}
