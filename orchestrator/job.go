package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/sandbox"
)

// Job is a plan with everything that running it takes.
type Job struct {
	Plan     *Plan
	Choice   Choice
	Store    *guest.Store
	Cache    string // folder for what was found out about the host; see embedded.Options
	Out      string // path of the run folder, which is made
	View     View
	Baseline *compare.Baseline // see Request
	ID       string
	Version  string
}

// Prepare finds out before anything starts whether the host has what the run needs, and does what cannot be
// done in the sandbox: it fetches kernels that are not cached.
func (j Job) Prepare(ctx context.Context) error {
	d, err := j.Choice.driver()
	if err != nil {
		return err
	}
	return d.prepare(ctx, j)
}

// Run runs the plan in the lab of its choice, here: for a lab in the sandbox this process is the one in
// there. It makes the lab, performs the trials, and ends all of it.
func (j Job) Run(ctx context.Context) (run *results.Run, err error) {
	r, leave, err := j.open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	return Run(ctx, r)
}

// open makes all that trials need: a place, what machines boot (with further tools of the host), the run folder
// and the lab. leave ends the lab and gives the place back.
func (j Job) open(ctx context.Context, tools []string) (r Request, leave func() error, err error) {
	d, err := j.Choice.driver()
	if err != nil {
		return r, nil, err
	}
	at, vacate, err := j.place(d)
	if err != nil {
		return r, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, vacate())
		}
	}()
	r = Request{Plan: j.Plan, View: j.View, Baseline: j.Baseline, ID: j.ID, Version: j.Version, EarlyBoot: d.early}
	if r.Materials, err = j.materials(ctx, d, at, tools); err != nil {
		return r, nil, err
	}
	at.materials = r.Materials
	if j.Out == "" { // nobody wants to keep it
		j.Out = filepath.Join(at.folder, "run")
	}
	if r.Folder, err = results.Create(j.Out); err != nil {
		return r, nil, err
	}
	asRun, err := j.Plan.Experiment.MarshalYAML()
	if err != nil {
		return r, nil, err
	}
	if err := r.Folder.SaveExperiment(asRun); err != nil {
		return r, nil, err
	}
	if r.Lab, err = d.open(ctx, j, at); err != nil {
		return r, nil, err
	}
	lab := r.Lab
	if several, ok := lab.(interface{ Labs() []vm.Lab }); ok {
		r.Lab, r.Beside = several.Labs()[0], several.Labs()[1:]
	}
	return r, func() error { return errors.Join(lab.Close(), vacate()) }, nil
}

// materials are what the driver's machines boot, if they do. The kernels come from the cache: the sandbox has
// no network.
func (j Job) materials(ctx context.Context, d driver, at place, tools []string) (Materials, error) {
	if !d.kernels {
		return Materials{}, nil
	}
	kernels, err := fetchKernels(ctx, j.Plan, j.Store)
	if err != nil {
		return Materials{}, err
	}
	return buildMaterials(j.Plan, kernels, filepath.Join(at.folder, "guest"), tools...)
}

// place makes the room of a lab: in the sandbox what ends with it, else a folder; and a journal where something
// may outlive the run. leave gives it back once the lab is closed.
func (j Job) place(d driver) (at place, leave func() error, err error) {
	if d.sandboxed && !j.Choice.AllowHostChanges {
		return place{folder: sandbox.RuntimeDir}, func() error { return nil }, nil
	}
	state, err := journal.Folder()
	if err != nil {
		return place{}, nil, err
	}
	if at.journal, err = journal.Create(state, j.Out, sandbox.Caller()); err != nil {
		return place{}, nil, err
	}
	if d.sandboxed {
		at.folder = sandbox.RuntimeDir
		return at, at.journal.Close, nil
	}
	at.folder = filepath.Join(runtimeFolder(), "ctload-"+at.journal.ID())
	entry := journal.Entry{Kind: journal.Path, Name: at.folder}
	leave = func() error {
		err := os.RemoveAll(at.folder)
		if err == nil {
			err = at.journal.Gone(entry)
		}
		closing := at.journal.Close()
		if left, ok := errors.AsType[*journal.LeftError](closing); ok {
			// What could not be removed is an error already, and what is on a host that died is none of this run.
			j.View.Note(left.Error())
			closing = nil
		}
		return errors.Join(err, closing)
	}
	if err := at.journal.Record(entry); err != nil {
		return place{}, nil, errors.Join(err, at.journal.Close())
	}
	if err := os.Mkdir(at.folder, 0o700); err != nil {
		return place{}, nil, errors.Join(fmt.Errorf("make the run's runtime folder: %w", err), leave())
	}
	return at, leave, nil
}

// runtimeFolder is where the user's sockets and other passing things belong.
func runtimeFolder() string {
	if folder := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(folder) {
		if info, err := os.Stat(folder); err == nil && info.IsDir() {
			return folder
		}
	}
	return os.TempDir()
}
