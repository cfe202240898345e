package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/reports/progress"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/sandbox"
)

// Limits of --retries.
const (
	defaultRetries = "2"
	maxRetries     = 100
)

// experimentArgument names the argument in the usage of commands that take an experiment.
const experimentArgument = "an experiment: a file, - for standard input, or the name of a " +
	"shipped one (ctload scenarios list)"

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
	if err := f.open(&job); err != nil {
		return errors.Join(err, watch.close(nil))
	}
	defer job.Folder.Close()
	var run *results.Run
	defer func() { watch.end(cmd, run, job.Folder, failed) }()
	watch.show(job)
	err = f.make(cmd, job, watch)
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

// make makes the run, in the sandbox where its lab needs one, and passes its events to watch.
func (f *runFlags) make(cmd *cobra.Command, job orchestrator.Job, watch *watchers) error {
	pipe, wait, err := watch.pipe()
	if err != nil {
		return host(err)
	}
	if job.Choice.Sandboxed() {
		give := sandbox.Handover{Writable: []*os.File{job.Folder.Directory()}}
		if pipe != nil {
			give.Files = map[string]*os.File{eventsName: pipe}
		}
		err = confine(cmd, job, give, "--out", f.out)
	} else {
		err = measure(cmd, job, pipe)
	}
	if late := wait(); late != nil { // it ends no measurement
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", late)
	}
	return err
}

// open makes the folder of a new run, under the next free name where ctload has chosen it, or opens
// that of the run to resume.
func (f *runFlags) open(job *orchestrator.Job) (err error) {
	switch {
	case f.resume != "":
		job.Folder, job.Resume, err = results.Resume(f.resume)
	case f.out != "":
		job.Folder, err = results.Create(f.out)
	default:
		at := time.Now().Format("20060102-150405")
		job.Folder, err = results.CreateFree(
			filepath.Join(results.RunsFolder, job.Plan.Experiment.Name+"-"+at))
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

// loadExperiment reads an experiment and prints its warnings. In the sandbox it uses the text that
// the command outside has read: files may have changed since, and the content of a pipe is gone.
func loadExperiment(
	cmd *cobra.Command, name string, texts map[string][]string,
) (*scenarios.Experiment, error) {
	if sandbox.Inside() {
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return nil, fmt.Errorf("take the experiment over: %w", err)
		}
		experiment, _, err := scenarios.Unbundle(name, text)
		if err == nil && len(texts) > 0 {
			_, err = experiment.SetFiles(texts)
		}
		return experiment, err
	}
	name, text, err := scenarios.Read(name, cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	experiment, warnings, err := scenarios.Parse(name, text)
	if err == nil && len(texts) > 0 {
		warnings, err = experiment.SetFiles(texts)
	}
	for _, w := range warnings {
		fmt.Fprint(cmd.ErrOrStderr(), printable.Text(fmt.Sprintf("warning: %v\n", w)))
	}
	return experiment, err
}

// readExperiment reads the experiment of the argument, or that of the run to resume, and takes over
// what that run was begun with.
func (f *runFlags) readExperiment(
	cmd *cobra.Command, args []string,
) (*scenarios.Experiment, error) {
	if f.resume == "" {
		return loadExperiment(cmd, args[0], f.texts)
	}
	for _, other := range []string{
		"scenario", "kernel", "trials", "out", "tag", "threshold", "dry-run", "rules", "rules6",
		"nft", "sysctl-file", "shard",
	} {
		if err := exclusive(cmd, "resume", other); err != nil && !sandbox.Inside() {
			return nil, err
		}
	}
	path, err := f.out, error(nil) // as the command outside has found it
	if !sandbox.Inside() {
		path, err = findRun(f.resume)
	}
	if err != nil {
		return nil, fmt.Errorf("--resume: %w", err)
	}
	f.resume = path
	folder, err := results.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--resume: %w", err)
	}
	defer folder.Close()
	run, err := folder.Load()
	if err != nil {
		return nil, fmt.Errorf("--resume: %w", err)
	}
	e := run.Environment
	f.seed = run.Seed
	if run.Shard != nil {
		f.shard = shard{run.Shard.Number, run.Shard.Of}
	}
	if !cmd.Flags().Changed("driver") && len(f.choice.Connect) == 0 && e.Driver != "" {
		f.choice.Driver = e.Driver
	}
	known := e.Accelerator == libvirt.KVM || e.Accelerator == libvirt.TCG
	if f.choice.Accelerator == "" && known {
		f.choice.Accelerator = e.Accelerator
	}
	name := filepath.Join(folder.Path(), "experiment.yaml")
	if sandbox.Inside() {
		return loadExperiment(cmd, name, nil)
	}
	text, err := folder.Experiment()
	if err != nil {
		return nil, fmt.Errorf("--resume: %w", err)
	}
	experiment, _, err := scenarios.Parse(name, text)
	return experiment, err
}

// plan loads the experiment, applies the flags, and settles the seed.
func (f *runFlags) plan(cmd *cobra.Command, args []string) (job orchestrator.Job, err error) {
	experiment, err := f.readExperiment(cmd, args)
	if err == nil && len(f.kernels) > 0 {
		err = experiment.SetKernels(f.kernels)
	}
	if err == nil && len(f.scenarios) > 0 {
		err = experiment.Select(f.scenarios)
	}
	if err == nil {
		err = orchestrator.AddThresholds(experiment, f.thresholds)
	}
	if err != nil {
		return job, err
	}
	experiment.Trials = cmp.Or(f.trials, experiment.Trials)
	// A drawn seed is exact in JSON readers that use doubles.
	seed := cmp.Or(f.seed, experiment.Seed, rand.Uint64()>>12+1)
	if f.seed == 0 && experiment.Seed == 0 && f.shard.of > 0 {
		if seed, err = orchestrator.SharedSeed(experiment); err != nil {
			return job, err
		}
	}
	job = orchestrator.Job{Choice: f.choice, Version: thisBuild().Version, Tags: f.tags}
	if job.Plan, err = orchestrator.NewPlan(experiment, seed); err != nil {
		return job, err
	}
	job.Plan.Retries = f.retries
	return job, f.choice.Check(experiment, job.Plan.Scenarios)
}

// planTrials plans as plan does, and deals the trials where a shard is asked for.
func (f *runFlags) planTrials(cmd *cobra.Command, args []string) (orchestrator.Job, error) {
	job, err := f.plan(cmd, args)
	if err == nil && f.shard.of > 0 {
		if err = job.Plan.Deal(f.shard.number, f.shard.of); err != nil {
			err = fmt.Errorf("--shard: %w", err)
		}
	}
	return job, err
}

// equip gives a job the folder of kernels, and of facts about the host.
func equip(job *orchestrator.Job) (err error) {
	job.Cache, err = cacheFolder()
	job.Store = &guest.Store{Dir: job.Cache}
	return err
}

// cacheFolder returns the folder of kernels, and of libvirt's facts about the host's QEMU.
func cacheFolder() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", host(fmt.Errorf("find the folder for caches: %w", err))
	}
	return filepath.Join(cache, "ctload"), nil
}

// registerLab adds the flags that choose scenarios, kernels and the lab.
func (f *runFlags) registerLab(flags *pflag.FlagSet) {
	flags.Var(namesFlag(&f.scenarios, "baseline,raw-notrack"), "scenario",
		"only these scenarios, separated by commas")
	f.texts = map[string][]string{}
	for _, of := range []struct{ key, flag, usage, example string }{
		{"rules", "rules", "a file of iptables-save", "rules.v4"},
		{"rules6", "rules6", "a file of ip6tables-save", "rules.v6"},
		{"nft", "nft", "an nft script", "nftables.conf"},
		{"sysctl", "sysctl-file", "a file of sysctl.d", "99-conntrack.conf"},
	} {
		path := textFlag(new(string), "file", of.example)
		read := path.read
		path.read = func(text string) error {
			f.texts[of.key] = append(f.texts[of.key], text)
			return read(text)
		}
		flags.Var(path, of.flag, of.usage+" for the DUT, in place of the experiment's; repeated: "+
			"one after the other")
	}
	flags.Var(namesFlag(&f.kernels, "debian/bookworm,debian/trixie"), "kernel",
		"every scenario with each of these kernels, such as debian/bookworm,debian/trixie")
	flags.Var(seedFlag(&f.seed), "seed",
		"seed of the order of the trials and of the tuples (default: the experiment's, or drawn)")
	c := &f.choice
	addWord(flags, &c.Driver, "driver", "where the DUT runs", labs.Drivers()[0], labs.Drivers()...)
	addConnect(flags, &c.Connect, "use the libvirt daemon at this URI (qemu:///system, "+
		"qemu+ssh://HOST/system, ...) instead of a private one; repeated: the DUT on the first, "+
		"load nodes on the others")
	flags.Var(textFlag(&c.Pool, "pool", "default"), "pool", "storage pool of those daemons for "+
		"kernels (default: the one called default, else any folder)")
	network := textFlag(new(string), "network", "br0")
	flags.Var(network.repeatable(&c.Networks), "network", "bridge or libvirt network that all "+
		"hosts have, for the links between them; once for each link (default: a VXLAN)")
	flags.Var(countFlag(&c.Parallel, 1, 1000), "parallel",
		"trials at once, each on CPUs of its own of one host (default: one, on all hosts)")
	flags.Var(textFlag(&c.Box, "box", "debian/bookworm64"), "box",
		"vagrant: a box of the catalogue by its name, the path of a .box file, or build: one of "+
			"this host's packages (default: the one built before, or debian/bookworm64)")
	flags.BoolVar(&c.AllowHostChanges, "allow-host-changes", false,
		"netns: let scenarios change settings of this host, which ctload puts back at the end")
	addWord(flags, &c.Accelerator, "accelerator",
		"accelerator (default: kvm where a guest boots under it)", "", libvirt.KVM, libvirt.TCG)
}
