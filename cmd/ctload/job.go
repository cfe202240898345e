package main

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/search"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/libvirt"
	"github.com/ctload/ctload/vm/sandbox"
)

// experimentArgument names the argument in the usage of commands that take an experiment.
const experimentArgument = "an experiment: a file, - for standard input, or the name of a " +
	"shipped one (ctload scenarios list)"

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
		if cmd.Flags().Lookup(other) == nil { // of ctload search
			continue
		}
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
	isSearch := folder.LoadSearch(new(search.Report)) == nil
	if isSearch && cmd.Flags().Lookup("highest") == nil {
		return nil, fmt.Errorf("--resume %s: it is a search; ctload search --resume makes its rest",
			path)
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
