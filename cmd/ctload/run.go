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
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/reports/progress"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/sandbox"
)

// experimentArgument names the argument in the usage of commands that take an experiment.
const experimentArgument = "an experiment: a file, - for standard input, or the name of a shipped one (ctload scenarios list)"

// runFlags are the flags of `ctload run`.
type runFlags struct {
	scenarios  []string
	kernels    []string
	thresholds []string
	trials     int
	seed       uint64
	out        string
	dryRun     bool
	choice     labs.Choice
	reportFlags
	baselineFlags
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run EXPERIMENT",
		Short: "boot, flood, sample and compare the scenarios of an experiment",
		Long: `Runs an experiment: a file, or the name of a shipped one (see ctload scenarios list). Each trial
boots a virtual machine of its own, in a lab that needs no root and leaves nothing behind. --driver and
--connect choose another lab.

The table goes to stdout, progress to stderr, and everything that was measured into the run folder.`,
		Args: needs(1, 1, experimentArgument),
		RunE: func(cmd *cobra.Command, args []string) error { return runExperiment(cmd, args[0], f) },
	}
	flags := cmd.Flags()
	flags.Var(namesFlag(&f.scenarios, "baseline,raw-notrack"), "scenario", "run only these scenarios, separated by commas")
	flags.Var(namesFlag(&f.kernels, "debian/bookworm,debian/trixie"), "kernel", "run every scenario with each of these kernels, as debian/bookworm,debian/trixie")
	flags.Var(countFlag(&f.trials, 1, scenarios.MaxTrials), "trials", "trials of each scenario (default: as the experiment says)")
	flags.Var(seedFlag(&f.seed), "seed", "seed of the order of the trials and of the tuples (default: the experiment's, or drawn)")
	flags.VarP(textFlag(&f.out, "folder", "runs/now"), "out", "o", "run folder (default: runs/EXPERIMENT-TIME)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the time line of a trial of each scenario, and boot nothing")
	registerChoice(flags, &f.choice)
	registerThresholds(flags, &f.thresholds)
	f.reportFlags.register(flags)
	f.baselineFlags.register(flags)
	return cmd
}

func runExperiment(cmd *cobra.Command, name string, f runFlags) error {
	checked, err := f.check(cmd, name)
	if err != nil {
		return err
	}
	plan := checked.plan
	if f.dryRun {
		return reports.TimeLine(cmd.OutOrStdout(), f.format, plan.TimeLine(), f.options())
	}
	job, err := labJob(plan, f.choice)
	if err != nil {
		return err
	}
	job.Out, job.ID, job.Baseline = f.out, filepath.Base(f.out), checked.baseline
	if sandbox.Inside() {
		return runHere(cmd, f, job, checked.files)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s, about %s\n", plan.Experiment.Name, count(len(plan.Order), "trial"), plan.Expect(f.choice, job.Cache))
	err = runSomewhere(cmd, f, job, checked.files)
	if _, measured := results.Open(f.out); measured == nil && cmd.Context().Err() == nil && terminal(cmd.ErrOrStderr()) {
		fmt.Fprint(cmd.ErrOrStderr(), whatNext(os.Args[0], name, f.out))
	}
	return err
}

// runSomewhere runs the job where its lab is made: in the sandbox, or here.
func runSomewhere(cmd *cobra.Command, f runFlags, job orchestrator.Job, files []reports.File) error {
	if err := job.Prepare(cmd.Context()); err != nil {
		if cmd.Context().Err() != nil {
			return &statusError{status: statusInterrupted, Err: errors.New("interrupted before anything was measured")}
		}
		return host(err)
	}
	if !f.choice.Sandboxed() {
		return runHere(cmd, f, job, files)
	}
	return confine(cmd, f.choice, job.Plan, "--seed", strconv.FormatUint(f.seed, 10), "--out", f.out)
}

// confine runs the same command again in the sandbox, with the decisions made here and the text of
// the experiment as it was read. Signals reach it through the sandbox, which then ends by itself.
func confine(cmd *cobra.Command, choice labs.Choice, plan *orchestrator.Plan, decided ...string) error {
	args := append(slices.Clone(os.Args[1:]), decided...)
	status, err := choice.Confine(context.WithoutCancel(cmd.Context()), args, plan.Experiment.Source())
	if err != nil {
		return host(err)
	}
	if status != statusOK {
		return &statusError{status: status}
	}
	return nil
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
	rows := [][2]string{{fmt.Sprintf("%s report %s --format html > %s.html", program, out, filepath.Base(out)), "the run as a page, with charts"}}
	if slices.Contains(scenarios.Names(), experiment) {
		rows = append(rows, [2]string{fmt.Sprintf("%s scenarios show %s > mine.yaml", program, experiment), "your own rules and load: change it, run it"})
	}
	rows = append(rows, [2]string{program + " scenarios find TEXT OF YOUR LOG", "which experiment fits your incident"})
	text := ""
	for i, row := range rows {
		head := "next: "
		if i > 0 {
			head = "      "
		}
		text += fmt.Sprintf("%s%s  # %s\n", head, row[0], row[1])
	}
	return text
}

// checkedRun is a run whose command line and experiment show no fault.
type checkedRun struct {
	plan     *orchestrator.Plan
	baseline *compare.Baseline // nil without one
	files    []reports.File
}

// check refuses what cannot be run, or not be written at the end, before anything is prepared.
func (f *runFlags) check(cmd *cobra.Command, name string) (c checkedRun, err error) {
	if c.files, err = reports.ParseFiles(f.files); err != nil {
		return c, err
	}
	if c.plan, err = planRun(cmd, name, f); err != nil {
		return c, err
	}
	if f.out == "" {
		f.out = filepath.Join("runs", c.plan.Experiment.Name+"-"+time.Now().Format("20060102-150405"))
	}
	if !sandbox.Inside() {
		if err := results.CheckNew(f.out); err != nil {
			return c, fmt.Errorf("--out: %w", err)
		}
	}
	if c.baseline, err = f.load(cmd); err != nil || c.baseline == nil {
		return c, err
	}
	return c, c.baseline.Check(c.plan.Expected())
}

// loadExperiment reads an experiment and prints its warnings. In the sandbox it uses the text that
// the command outside has read: files may have changed since, and the content of a pipe is gone.
func loadExperiment(cmd *cobra.Command, name string) (*scenarios.Experiment, error) {
	if sandbox.Inside() {
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return nil, fmt.Errorf("take the experiment over: %w", err)
		}
		experiment, _, err := scenarios.Parse(name, text)
		return experiment, err
	}
	name, text, err := scenarios.Read(name, cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	experiment, warnings, err := scenarios.Parse(name, text)
	for _, w := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", w)
	}
	return experiment, err
}

// planRun loads the experiment, applies the flags, and settles the seed.
func planRun(cmd *cobra.Command, name string, f *runFlags) (*orchestrator.Plan, error) {
	experiment, err := loadExperiment(cmd, name)
	if err != nil {
		return nil, err
	}
	if len(f.kernels) > 0 {
		if err := experiment.SetKernels(f.kernels); err != nil {
			return nil, err
		}
	}
	if len(f.scenarios) > 0 {
		if err := experiment.Select(f.scenarios); err != nil {
			return nil, err
		}
	}
	experiment.Trials = cmp.Or(f.trials, experiment.Trials)
	// A drawn seed is exact in JSON readers that use doubles.
	f.seed = cmp.Or(f.seed, experiment.Seed, rand.Uint64()>>12+1)
	if err := orchestrator.AddThresholds(experiment, f.thresholds); err != nil {
		return nil, err
	}
	plan, err := orchestrator.NewPlan(experiment, f.seed)
	if err != nil {
		return nil, err
	}
	return plan, f.choice.Check(plan.Experiment, plan.Scenarios)
}

func runHere(cmd *cobra.Command, f runFlags, job orchestrator.Job, files []reports.File) error {
	view := progress.New(os.Stderr)
	job.View = view
	run, runErr := job.Run(cmd.Context())
	closeErr := view.Close()
	var reportErr error
	if run != nil {
		// Where even the folder cannot be opened, the run is printed without charts.
		folder, err := results.Open(f.out)
		reportErr = errors.Join(err, f.print(cmd, run, folder, files))
		fmt.Fprintf(cmd.ErrOrStderr(), "run folder: %s\n", f.out)
	}
	if err := errors.Join(runErr, closeErr, reportErr); err != nil {
		if cmd.Context().Err() != nil {
			return &statusError{status: statusInterrupted, Err: errors.New("interrupted; what was measured is kept")}
		}
		return host(err)
	}
	return conclusion(run)
}

// labJob returns a job without a run folder.
func labJob(plan *orchestrator.Plan, choice labs.Choice) (orchestrator.Job, error) {
	cache, err := cacheFolder()
	return orchestrator.Job{
		Plan: plan, Choice: choice, Store: &guest.Store{Dir: cache}, Cache: cache, Version: thisBuild().Version,
	}, err
}

// cacheFolder returns the folder of kernels, and of libvirt's facts about the host's QEMU.
func cacheFolder() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", host(fmt.Errorf("find the folder for caches: %w", err))
	}
	return filepath.Join(cache, "ctload"), nil
}

// registerChoice adds the flags that choose the lab.
func registerChoice(flags *pflag.FlagSet, choice *labs.Choice) {
	flags.Var(wordFlag(&choice.Driver, labs.Drivers()...), "driver", "where the DUT runs: "+strings.Join(labs.Drivers(), ", "))
	flags.Var(uriFlag(&choice.Connect), "connect", "use the libvirt daemon at this URI (qemu:///system, qemu+ssh://HOST/system, ...) instead of a private one; repeated: the DUT on the first, load nodes on the others")
	flags.Var(textFlag(&choice.Pool, "pool", "default"), "pool", "storage pool of those daemons for kernels (default: the one called default, else any folder)")
	flags.Var(textsFlag(&choice.Networks, "network", "br0"), "network", "bridge or libvirt network that all hosts have, for the links between them; once for each link (default: a VXLAN)")
	flags.Var(countFlag(&choice.Parallel, 1, 1000), "parallel", "trials at once, each on CPUs of its own of one host (default: one, on all hosts)")
	flags.Var(textFlag(&choice.Box, "box", "debian/bookworm64"), "box", "vagrant: a box of the catalogue by its name, the path of a .box file, or build: one of this host's packages (default: the one built before, or debian/bookworm64)")
	flags.BoolVar(&choice.AllowHostChanges, "allow-host-changes", false, "netns: let scenarios change settings of this host, which ctload puts back at the end")
	flags.Var(wordFlag(&choice.Accelerator, "", libvirt.KVM, libvirt.TCG), "accelerator", "kvm or tcg (default: kvm where a guest boots under it)")
}
