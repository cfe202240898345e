package orchestrator

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
)

// Job is a plan with everything that running it takes.
type Job struct {
	Plan    *Plan
	Search  *Search // makes the plan's scenarios starting points; nil: a run
	Choice  labs.Choice
	Store   *guest.Store
	Cache   string          // folder for facts about the host; see embedded.Options
	Folder  *results.Folder // of the run; nil: one that ends with the lab
	Resume  *results.Run    // unfinished run in the folder, which Run goes on with; nil: a new one
	View    events.Sink
	ID      string // of the run
	Version string // of the program
	Tags    map[string]string
}

// order returns what the labs may know of the job.
func (j Job) order() labs.Order {
	label := ""
	if j.Folder != nil {
		label = j.Folder.Path()
	}
	return labs.Order{
		Choice: j.Choice, Experiment: j.Plan.Experiment, Scenarios: j.Plan.Scenarios,
		Store: j.Store, Cache: j.Cache, Label: label, Note: j.remark,
	}
}

// emit tells the view of an event that happens now.
func (j Job) emit(e events.Event) {
	e.Time = time.Now()
	j.View.Take(e)
}

// remark tells the view something that the user should know.
func (j Job) remark(text string) { j.emit(events.Event{Kind: events.Noted, Note: text}) }

// Prepare checks before anything starts that the host has what the run needs; see
// [labs.Order.Prepare].
func (j Job) Prepare(ctx context.Context) error { return j.order().Prepare(ctx) }

// Run runs the plan in the lab of its choice: it makes the lab, performs the trials, and ends the
// lab. For a lab in the sandbox, the caller is the process inside it.
func (j Job) Run(ctx context.Context) (run *results.Run, err error) {
	r, leave, err := j.open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	return Run(ctx, r)
}

// open makes all that trials need: the site of the lab (with the named tools of the host for its
// machines), what the run folder holds from the start, and the lab. leave ends the lab and releases
// the site.
func (j Job) open(ctx context.Context, tools []string) (r Request, leave func() error, err error) {
	site, err := j.order().Settle(ctx, tools)
	if err != nil {
		return r, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, site.Close())
		}
	}()
	r = Request{Job: j, Materials: site.Materials, EarlyBoot: site.EarlyBoot}
	if r.Folder == nil { // the caller keeps no run folder
		if r.Folder, err = results.Create(filepath.Join(site.Folder, "run")); err != nil {
			return r, nil, err
		}
	}
	if r.Resume == nil {
		asRun, err := j.Plan.Experiment.MarshalYAML()
		if err == nil {
			err = r.Folder.SaveExperiment(asRun)
		}
		if err != nil {
			return r, nil, err
		}
	}
	all, err := site.Open(ctx)
	if err != nil {
		return r, nil, err
	}
	r.Lab, r.Beside = all[0], all[1:]
	return r, site.Close, nil
}

// lookingTools are programs of the host that a guest gets for a user who inspects it, as far as the
// host has them.
var lookingTools = []string{
	"?bash", "?sh", "?ls", "?cat", "?cp", "?mv", "?rm", "?mkdir", "?head", "?tail", "?grep", "?sed",
	"?sort", "?wc", "?watch", "?sleep", "?true", "?env", "?stty", "?ps", "?kill", "?uname", "?date",
	"?dmesg", "?sysctl", "?lsmod", "?free", "?df", "?mount", "?ip", "?ss", "?tc", "?nstat", "?ping",
	"?tcpdump", "?ethtool", "?ipset",
}

// Stand makes the lab of the plan's first scenario as a trial does, up to where the load would
// begin: nodes booted, the DUT configured, responders listening. It passes the nodes, by name, to
// use, and ends all of it when use returns. The context of use ends with the DUT.
func (j Job) Stand(
	ctx context.Context, use func(ctx context.Context, nodes map[string]vm.Node) error,
) (err error) {
	r, leave, err := j.open(ctx, lookingTools)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	first := Slot{Scenario: 0, Number: 1}
	e := r.Plan.event(events.TrialBegin, first)
	e.Index, e.Total = 1, 1
	r.emit(e)
	t, err := newTrial(r, first, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.destroy(), t.series.close()) }()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"boot", t.boot}, {"configure", t.configure}, {"read back", t.tellDifferences}} {
		t.begin(step.name)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	nodes := maps.Clone(t.loads)
	nodes[t.dut.Name()] = t.dut
	living, release := t.whileNodesLive(ctx)
	defer release()
	return use(living, nodes)
}

// tellDifferences reports where the DUT's settings differ from the requested ones.
func (t *trial) tellDifferences(ctx context.Context) error {
	state, err := t.dut.Agent().ReadBack(ctx, t.settings)
	if err != nil {
		return err
	}
	for _, difference := range tuning.Differences(t.settings, state) {
		t.remark("the DUT is not as asked for: " + difference)
	}
	return nil
}
