package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/reports/progress"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/sandbox"
)

// Limits of --retries.
const (
	defaultRetries = "2"
	maxRetries     = 100
)

type runFlags struct {
	scenarios []string
	kernels   []string
	trials    int
	retries   int
	seed      uint64
	out       string
	resume    string // folder of an unfinished run
	shard     shard
	dryRun    bool
	tags      map[string]string
	choice    labs.Choice
	texts     map[string][]string // paths of rules and sysctls, by key
	judgeFlags
	watch watchFlags
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run EXPERIMENT",
		Short: "boot, flood, sample and compare the scenarios of an experiment",
		Long: `Runs an experiment: a file, or the name of a shipped one (see ctload scenarios list).
Each trial boots a virtual machine of its own, in a lab that needs no root and leaves nothing
behind. --driver and --connect choose another lab.

The table goes to stdout, progress to stderr, and everything measured into the run folder.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.resume != "" {
				return takesNothing(cmd, args)
			}
			return needs(1, 1, experimentArgument)(cmd, args)
		},
		RunE: f.run,
	}
	flags := cmd.Flags()
	f.registerLab(flags)
	flags.Var(textFlag(&f.resume, "run", "runs/last"), "resume",
		"make the missing trials of this unfinished run, and no new run")
	flags.Var(countFlag(&f.trials, 1, scenarios.MaxTrials), "trials",
		"trials of each scenario (default: as the experiment says)")
	retries := countFlag(&f.retries, 0, maxRetries).withDefault(defaultRetries)
	flags.Var(retries, "retries", "further attempts at each trial that the host spoils")
	flags.VarP(textFlag(&f.out, "folder", "runs/now"), "out", "o",
		"run folder (default: runs/EXPERIMENT-TIME)")
	addTags(flags, &f.tags, "word of your own for this run, such as branch=main, by which "+
		"ctload history finds it; can be repeated")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the time lines of trials, and boot nothing")
	flags.Var(shardFlag(&f.shard), "shard",
		"make one of several parts of the run, as 2/5; ctload merge joins and judges them")
	f.judgeFlags.register(flags)
	f.watch.register(flags)
	return cmd
}

func (f *runFlags) run(cmd *cobra.Command, args []string) (failed error) {
	if sandbox.Inside() {
		return f.runInside(cmd, args)
	}
	job, baseline, err := f.check(cmd, args)
	if err == nil {
		err = f.watch.check(cmd)
	}
	if err != nil {
		return err
	}
	if f.dryRun {
		return reports.TimeLine(cmd.OutOrStdout(), f.format, job.Plan.TimeLine(), f.options())
	}
	if err := equip(&job); err != nil {
		return err
	}
	trials := count(len(job.Plan.Order), "trial")
	if s := job.Plan.Shard; s != nil {
		trials += fmt.Sprintf(" (shard %v)", s)
	}
	about := fmt.Sprintf("%s: %s, about %s", job.Plan.Experiment.Name, trials,
		job.Plan.Expect(f.choice, job.Cache))
	if repeats := job.Plan.Repeats(); repeats != "" {
		about += "; each is " + repeats
	}
	fmt.Fprintln(cmd.ErrOrStderr(), about)
	defer catchSignals(cmd)()
	keepPipes()
	if err := tryRules(cmd, job.Plan); err != nil {
		return err
	}
	if err := job.Prepare(cmd.Context()); err != nil {
		return interrupted(cmd, err, "interrupted before anything was measured")
	}
	watch, err := f.watch.open(cmd)
	if err != nil {
		return err
	}
	if err := f.open(&job, ""); err != nil {
		return errors.Join(err, watch.close(nil))
	}
	defer job.Folder.Close()
	var run *results.Run
	defer func() { watch.end(cmd, endOf(run, job.Folder), failed) }()
	watch.show(runPage(job.Folder))
	err = watch.make(cmd, job, f.out)
	measured, loadErr := job.Folder.Load()
	if loadErr != nil { // nothing was measured
		return cmp.Or(interrupted(cmd, err, "interrupted before anything was measured"), loadErr)
	}
	run = measured
	if baseline != nil && run.Part("") == nil {
		err = errors.Join(err, baseline.Judge(run), job.Folder.Save(run))
	}
	err = errors.Join(err, f.print(f.watch.output(cmd), run, job.Folder))
	fmt.Fprintf(cmd.ErrOrStderr(), "run folder: %s\n", f.out)
	if err != nil {
		return interrupted(cmd, err, "interrupted; what was measured is kept: "+
			"ctload run --resume "+f.out+" makes the rest")
	}
	if terminal(cmd.ErrOrStderr()) {
		fmt.Fprint(cmd.ErrOrStderr(), whatNext(os.Args[0], job.Plan.Experiment.Name, f.out))
	}
	if run.Shard != nil { // the merge judges
		return invalid(results.InvalidTrials(run))
	}
	return f.conclusion(run)
}

// make makes the trials of a job, in the sandbox where its lab needs one, and passes the events to
// the watchers. out is the run folder for the command in the sandbox.
func (w *watchers) make(cmd *cobra.Command, job orchestrator.Job, out string) error {
	pipe, wait, err := w.pipe()
	if err != nil {
		return host(err)
	}
	if job.Choice.Sandboxed() {
		give := sandbox.Handover{Writable: []*os.File{job.Folder.Directory()}}
		if pipe != nil {
			give.Files = map[string]*os.File{eventsName: pipe}
		}
		err = confine(cmd, job, give, "--out", out)
	} else {
		err = measure(cmd, job, pipe)
	}
	if late := wait(); late != nil { // it ends no measurement
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", late)
	}
	return err
}

// open makes the folder of a new run, under the next free name where ctload has chosen it, or opens
// that of the run to resume. The chosen name is that of the experiment with a suffix and the time.
func (f *runFlags) open(job *orchestrator.Job, suffix string) (err error) {
	switch {
	case f.resume != "":
		job.Folder, job.Resume, err = results.Resume(f.resume)
	case f.out != "":
		job.Folder, err = results.Create(f.out)
	default:
		at := time.Now().Format("20060102-150405")
		job.Folder, err = results.CreateFree(
			filepath.Join(results.RunsFolder, job.Plan.Experiment.Name+suffix+"-"+at))
	}
	if err != nil {
		return host(err)
	}
	f.out = job.Folder.Path()
	job.ID = filepath.Base(f.out)
	return nil
}

// runInside makes the run in the sandbox: the command outside has checked it, made its folder, and
// prints it.
func (f *runFlags) runInside(cmd *cobra.Command, args []string) error {
	defer catchSignals(cmd)()
	keepPipes()
	job, err := f.planTrials(cmd, args)
	if err == nil {
		err = equip(&job)
	}
	if err == nil {
		job.Folder, err = results.Attach(f.out)
	}
	if err == nil && f.resume != "" {
		job.Resume, err = job.Folder.Load()
	}
	if err != nil {
		return err
	}
	defer job.Folder.Close()
	job.ID = filepath.Base(f.out)
	return measure(cmd, job, insidePipe())
}

// measure makes the run in this process, and writes its events into a pipe; nil: nothing reads
// them.
func measure(cmd *cobra.Command, job orchestrator.Job, pipe *os.File) error {
	view := progress.New(os.Stderr)
	sinks, end := toldTo(pipe)
	job.View = append(events.Sinks{view}, sinks...)
	_, err := job.Run(cmd.Context())
	_ = view.Close() // a terminal that is gone ends no measurement
	_ = end()        // nor does a reader of events that is slow
	if err != nil && cmd.Context().Err() != nil {
		return &statusError{status: statusInterrupted}
	}
	return host(err)
}

// interrupted returns the error of a command that ends with err: text after an interrupt.
func interrupted(cmd *cobra.Command, err error, text string) error {
	if cmd.Context().Err() != nil {
		return &statusError{status: statusInterrupted, Err: errors.New(text)}
	}
	return host(err)
}

// confine runs the same command again in the sandbox, with the decisions of this process and the
// text of the experiment as it was read. Signals reach it through the sandbox, which then ends by
// itself.
func confine(
	cmd *cobra.Command, job orchestrator.Job, give sandbox.Handover, more ...string,
) error {
	seed := strconv.FormatUint(job.Plan.Seed, 10)
	args := slices.Concat(os.Args[1:], []string{"--seed", seed}, more)
	give.Input = job.Plan.Experiment.Bundle()
	// A cache that cannot be written serves as far as it is filled.
	if cache, err := os.Open(job.Cache); err == nil {
		defer cache.Close()
		give.Writable = append(give.Writable, cache)
	}
	status, err := job.Choice.Confine(context.WithoutCancel(cmd.Context()), args, give)
	if err == nil && status != statusOK {
		err = &statusError{status: status}
	}
	return host(err)
}

// tryRules tries the rules of a plan before anything boots, and prints what may be wrong.
func tryRules(cmd *cobra.Command, plan *orchestrator.Plan) error {
	warnings, err := plan.Preflight(cmd.Context())
	for _, w := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
	}
	return err
}

// count words a number of things, such as trials.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// whatNext words the possible next steps after a run. program is the name of ctload in the user's
// command line, experiment a file or the name of a shipped one.
func whatNext(program, experiment, out string) string {
	text := fmt.Sprintf("next: %s report %s --format html > %s.html  "+
		"# the run as a page, with charts\n", program, out, filepath.Base(out))
	if slices.Contains(scenarios.Names(), experiment) {
		text += fmt.Sprintf("      %s scenarios show %s > mine.yaml  # your own rules and load: "+
			"change it, run it\n", program, experiment)
	}
	return text + fmt.Sprintf("      %s scenarios find TEXT OF YOUR LOG  "+
		"# which experiment fits your incident\n", program)
}

// check refuses what cannot be run, or not be written at the end, before anything is prepared. It
// returns a job that is not equipped, and the baseline, if there is one.
func (f *runFlags) check(
	cmd *cobra.Command, args []string,
) (job orchestrator.Job, baseline *compare.Baseline, err error) {
	if f.files, err = reports.ParseFiles(f.reports); err == nil {
		job, err = f.planTrials(cmd, args)
	}
	if err == nil && job.Plan.Shard != nil && f.baseline != "" {
		err = errors.New("--baseline: ctload merge compares the merged run, and no shard of it")
	}
	if err == nil && f.out != "" {
		if err = results.CheckNew(f.out); err != nil {
			err = fmt.Errorf("--out: %w", err)
		}
	}
	if err == nil {
		baseline, err = f.load(cmd)
	}
	if err == nil && baseline != nil {
		err = baseline.Check(job.Plan.Expected())
		if err == nil && baseline.TooFew(job.Plan.Experiment.Trials) {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning: --baseline fails nothing with so few "+
				"trials, since chance makes any difference too often; use --trials 3 on both sides")
		}
	}
	return job, baseline, err
}
