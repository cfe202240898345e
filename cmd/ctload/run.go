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

	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/reports/progress"
	"github.com/ctload/ctload/results"
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
	dryRun    bool
	choice    labs.Choice
	texts     map[string][]string // paths of rules and sysctls, by key
	judgeFlags
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
		Args: needs(1, 1, experimentArgument),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	f.registerLab(flags)
	flags.Var(countFlag(&f.trials, 1, scenarios.MaxTrials), "trials",
		"trials of each scenario (default: as the experiment says)")
	retries := countFlag(&f.retries, 0, maxRetries).withDefault(defaultRetries)
	flags.Var(retries, "retries", "further attempts at each trial that the host spoils")
	flags.VarP(textFlag(&f.out, "folder", "runs/now"), "out", "o",
		"run folder (default: runs/EXPERIMENT-TIME)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the time lines of trials, and boot nothing")
	f.judgeFlags.register(flags)
	return cmd
}

func (f *runFlags) run(cmd *cobra.Command, name string) error {
	job, err := f.check(cmd, name)
	if err != nil {
		return err
	}
	if f.dryRun {
		return reports.TimeLine(cmd.OutOrStdout(), f.format, job.Plan.TimeLine(), f.options())
	}
	if err := equip(&job); err != nil {
		return err
	}
	here := func() error { return f.runHere(cmd, job) }
	if sandbox.Inside() {
		return here()
	}
	about := fmt.Sprintf("%s: %s, about %s", job.Plan.Experiment.Name,
		count(len(job.Plan.Order), "trial"), job.Plan.Expect(f.choice, job.Cache))
	if repeats := job.Plan.Repeats(); repeats != "" {
		about += "; each is " + repeats
	}
	fmt.Fprintln(cmd.ErrOrStderr(), about)
	err = runInLab(cmd, job, here, "--out", f.out)
	_, unmeasured := results.Open(f.out)
	if unmeasured == nil && cmd.Context().Err() == nil && terminal(cmd.ErrOrStderr()) {
		fmt.Fprint(cmd.ErrOrStderr(), whatNext(os.Args[0], name, f.out))
	}
	return err
}

// interrupted returns the error of a command that ends with err: text after an interrupt.
func interrupted(cmd *cobra.Command, err error, text string) error {
	if cmd.Context().Err() != nil {
		return &statusError{status: statusInterrupted, Err: errors.New(text)}
	}
	return host(err)
}

// runInLab calls here where this process makes the lab. Else it runs the same command again in the
// sandbox, with the decisions of this process and the text of the experiment as it was read.
// Signals reach it through the sandbox, which then ends by itself.
func runInLab(cmd *cobra.Command, job orchestrator.Job, here func() error, more ...string) error {
	ctx := cmd.Context()
	if err := tryRules(cmd, job.Plan); err != nil {
		return err
	}
	if err := job.Prepare(ctx); err != nil {
		return interrupted(cmd, err, "interrupted before anything was measured")
	}
	if !job.Choice.Sandboxed() {
		return here()
	}
	seed := strconv.FormatUint(job.Plan.Seed, 10)
	args := slices.Concat(os.Args[1:], []string{"--seed", seed}, more)
	text := job.Plan.Experiment.Bundle()
	status, err := job.Choice.Confine(context.WithoutCancel(ctx), args, text)
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
// returns a job that is not equipped.
func (f *runFlags) check(cmd *cobra.Command, name string) (job orchestrator.Job, err error) {
	if f.files, err = reports.ParseFiles(f.reports); err == nil {
		job, err = f.plan(cmd, name)
	}
	if err != nil {
		return job, err
	}
	if f.out == "" {
		at := time.Now().Format("20060102-150405")
		f.out = filepath.Join("runs", job.Plan.Experiment.Name+"-"+at)
	}
	if !sandbox.Inside() {
		if err := results.CheckNew(f.out); err != nil {
			return job, fmt.Errorf("--out: %w", err)
		}
	}
	job.Out, job.ID = f.out, filepath.Base(f.out)
	if job.Baseline, err = f.load(cmd); err == nil && job.Baseline != nil {
		err = job.Baseline.Check(job.Plan.Expected())
		if err == nil && !sandbox.Inside() && job.Baseline.TooFew(job.Plan.Experiment.Trials) {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning: --baseline fails nothing with so few "+
				"trials, since chance makes any difference too often; use --trials 3 on both sides")
		}
	}
	return job, err
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
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", w)
	}
	return experiment, err
}

// plan loads the experiment, applies the flags, and settles the seed.
func (f *runFlags) plan(cmd *cobra.Command, name string) (job orchestrator.Job, err error) {
	experiment, err := loadExperiment(cmd, name, f.texts)
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
	job = orchestrator.Job{Choice: f.choice, Version: thisBuild().Version}
	if job.Plan, err = orchestrator.NewPlan(experiment, seed); err != nil {
		return job, err
	}
	job.Plan.Retries = f.retries
	return job, f.choice.Check(experiment, job.Plan.Scenarios)
}

func (f *runFlags) runHere(cmd *cobra.Command, job orchestrator.Job) error {
	view := progress.New(os.Stderr)
	job.View = view
	run, err := job.Run(cmd.Context())
	err = errors.Join(err, view.Close())
	if run != nil {
		// Where even the folder cannot be opened, the run is printed without charts.
		folder, folderErr := results.Open(f.out)
		err = errors.Join(err, folderErr, f.print(cmd.OutOrStdout(), run, folder))
		fmt.Fprintf(cmd.ErrOrStderr(), "run folder: %s\n", f.out)
	}
	if err != nil {
		return interrupted(cmd, err, "interrupted; what was measured is kept")
	}
	return conclusion(run)
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
		"every scenario with each of these kernels, as debian/bookworm,debian/trixie")
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
