package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/orchestrator/goals"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/search"
	"github.com/ctload/ctload/vm/sandbox"
)

type searchFlags struct {
	runFlags
	goals   map[goals.Extreme]string // as given
	atLeast string
	orchestrator.Search
}

// The fewest and the most trials of a search: three on each side confirm a limit.
const (
	leastTrials = 7
	mostTrials  = 100
)

func searchCommand() *cobra.Command {
	f := searchFlags{goals: map[goals.Extreme]string{}}
	cmd := &cobra.Command{
		Use:   "search EXPERIMENT --highest rate | --smallest max | --longest timeout:STATE",
		Short: "the highest rate that a configuration carries, or the smallest table for a load",
		Long: `Looks for the limit of each scenario of an experiment, and prints it with an interval
and what is lost first beyond it.

  ctload search mine.yaml --highest rate                    of the only entry with a rate
  ctload search mine.yaml --highest rate:users --loss 0.1%  of the entry users
  ctload search mine.yaml --smallest max                    the smallest table for this load
  ctload search mine.yaml --longest timeout:time_wait       the longest timeout that fits
  ctload search mine.yaml --highest rate --at-least 2000/s  exit status 1 where it is less
  ctload search mine.yaml --highest rate --over max=4k,16k  at each size of the table: a curve

Each trial is that of ctload run, with one value changed. The first is below the predicted limit:
what lives in the table there tells where it is full, and trials just below and above confirm it.
Where something else is lost first, the search halves what is left, and names it.`,
		Args: needs(1, 1, experimentArgument),
		RunE: f.run,
	}
	flags := cmd.Flags()
	for _, e := range []struct {
		goals.Extreme
		usage, example string
	}{
		{goals.Highest, "what to raise: rate, or rate:ENTRY of the workload", "rate"},
		{goals.Smallest, "what to lower: max, buckets or memory", "max"},
		{goals.Longest, "what to lengthen: timeout:STATE, such as timeout:time_wait",
			"timeout:time_wait"},
	} {
		value := textFlag(new(string), "goal", e.example)
		value.read = func(text string) error {
			_, err := goals.Parse(e.Extreme, text)
			f.goals[e.Extreme] = text
			return err
		}
		flags.Var(value, string(e.Extreme), e.usage)
	}
	flags.Var(unit("share", (*scenarios.Share)(&f.Loss)).withDefault("0%"), "loss",
		"share of the attempts that may fail, or be refused or evicted by the kernel")
	flags.Var(textFlag(new(string), "condition", "'probe.lost == 0'").repeatable(&f.Keep), "keep",
		"condition that a trial must keep as well, such as 'probe.lost == 0'; can be repeated")
	flags.Var(unit("share", (*scenarios.Share)(&f.Resolution)).withDefault("2%"), "resolution",
		"width of the interval at which a search ends")
	flags.Var(unit("share", (*scenarios.Share)(&f.Confidence)).withDefault("95%"), "confidence",
		"share of searches whose interval holds the limit")
	flags.Var(countFlag(&f.MaxTrials, leastTrials, mostTrials).withDefault("12"), "max-trials",
		"valid trials of each scenario, at most")
	flags.Var(countFlag(&f.Search.Retries, 0, maxRetries).withDefault(defaultRetries), "retries",
		"further attempts at a value whose trial is INVALID")
	flags.Var(textFlag(&f.atLeast, "rate or duration", "2000/s"), "at-least",
		"fail, with exit status 1, unless the whole interval reaches this value")
	flags.Var(textFlag(&f.baseline, "run", "runs/last"), "baseline",
		"fail, with exit status 1, where a limit is worse than in this search: the intervals have "+
			"nothing in common")
	over := textFlag(new(string), "axis", "max=4096,16384")
	over.read = func(text string) (err error) {
		f.Over, err = goals.ParseAxis(text)
		return err
	}
	flags.Var(over, "over", "look for the limit at each of these values: max, buckets, memory, "+
		"cores or timeout:STATE, such as max=4096,16384")
	flags.Var(shardFlag(&f.shard), "shard",
		"look for the limits of one of several parts of the scenarios, such as 2/5; ctload merge "+
			"joins and judges them")
	f.registerLab(flags)
	flags.VarP(textFlag(&f.out, "folder", "runs/now"), "out", "o",
		"run folder (default: runs/EXPERIMENT-search-TIME)")
	addFormat(flags, &f.format, "table", reports.SearchFormats()...)
	f.widthFlags.register(flags)
	return cmd
}

func (f *searchFlags) run(cmd *cobra.Command, args []string) error {
	if sandbox.Inside() {
		return f.inside(cmd, args)
	}
	job, limits, err := f.check(cmd, args)
	if err != nil {
		return err
	}
	this := search.Found{Goal: f.Goal.String(), Loss: f.Loss, Keep: f.Keep}
	before, err := earlierSearch(f.baseline, this)
	if err != nil {
		return err
	}
	if err := equip(&job); err != nil {
		return err
	}
	about := job.Plan.Expect(f.choice, job.Cache)
	if n := len(job.Plan.Scenarios); n > 1 {
		about += fmt.Sprintf(" for all %d scenarios", n)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s, %s, of at most %d trials each; "+
		"a trial takes about %s\n", job.Plan.Experiment.Name, f.Goal, count(limits, "limit"),
		f.MaxTrials, about)
	defer catchSignals(cmd)()
	keepPipes()
	if err := tryRules(cmd, job.Plan); err != nil {
		return err
	}
	if err := job.Prepare(cmd.Context()); err != nil {
		return interrupted(cmd, err, "interrupted before anything was measured")
	}
	if f.out == "" {
		name := job.Plan.Experiment.Name + "-search-" + time.Now().Format("20060102-150405")
		job.Folder, err = results.CreateFree(filepath.Join(results.RunsFolder, name))
	} else {
		job.Folder, err = results.Create(f.out)
	}
	if err != nil {
		return host(err)
	}
	defer job.Folder.Close()
	f.out = job.Folder.Path()
	job.ID = filepath.Base(f.out)
	if job.Choice.Sandboxed() {
		err = confine(cmd, job, sandbox.Handover{Writable: []*os.File{job.Folder.Directory()}},
			"--out", f.out)
	} else {
		err = measure(cmd, job, nil)
	}
	var report search.Report
	if loadErr := job.Folder.LoadSearch(&report); loadErr != nil {
		return cmp.Or(interrupted(cmd, err, "interrupted before anything was measured"), loadErr)
	}
	err = errors.Join(err, reports.Search(cmd.OutOrStdout(), f.format, &report, f.options()))
	fmt.Fprintf(cmd.ErrOrStderr(), "run folder: %s\n", f.out)
	if err != nil {
		return interrupted(cmd, err, "interrupted; what was measured is kept in "+f.out)
	}
	if f.Of > 0 { // the merge judges
		return stuck(report.Search)
	}
	return judgeSearch(report.Search, before)
}

// earlierSearch reads the search of --baseline, to compare this one with; a nil one
// without it.
func earlierSearch(baseline string, this search.Found) (*search.Found, error) {
	if baseline == "" {
		return nil, nil
	}
	folder, err := results.Open(baseline)
	if err != nil {
		return nil, fmt.Errorf("--baseline: %w", err)
	}
	defer folder.Close()
	var report search.Report
	err = folder.LoadSearch(&report)
	if err == nil && report.Search.Planned != nil {
		var run *results.Run
		if run, err = folder.Load(); err == nil {
			err = run.Part(baseline)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("--baseline: %w", err)
	}
	if why := this.Unlike(report.Search); why != "" {
		return nil, fmt.Errorf("--baseline %s: %s", baseline, why)
	}
	return &report.Search, nil
}

// inside makes the search in the sandbox, for the command outside.
func (f *searchFlags) inside(cmd *cobra.Command, args []string) error {
	defer catchSignals(cmd)()
	keepPipes()
	job, _, err := f.check(cmd, args)
	if err == nil {
		err = equip(&job)
	}
	if err == nil {
		job.Folder, err = results.Attach(f.out)
	}
	if err != nil {
		return err
	}
	defer job.Folder.Close()
	job.ID = filepath.Base(f.out)
	return measure(cmd, job, nil)
}

// check refuses what cannot be searched before anything is prepared. limits is the number of limits
// that the search looks for.
func (f *searchFlags) check(
	cmd *cobra.Command, args []string,
) (job orchestrator.Job, limits int, err error) {
	if err = f.readGoal(cmd); err == nil {
		job, err = f.plan(cmd, args)
	}
	if err == nil && f.out != "" && !sandbox.Inside() {
		if err = results.CheckNew(f.out); err != nil {
			err = fmt.Errorf("--out: %w", err)
		}
	}
	if err != nil {
		return job, 0, err
	}
	f.Number, f.Of = f.shard.number, f.shard.of
	if f.Of > 0 && f.baseline != "" {
		return job, 0, errors.New("--baseline: ctload merge compares the merged search, and no " +
			"shard of it")
	}
	job.Search = &f.Search
	job.Plan.Retries = 0  // the search itself asks again
	if sandbox.Inside() { // the command outside has checked it
		return job, 0, nil
	}
	known, err := job.Plan.CheckSearch(f.Search)
	for _, note := range known.Notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", note)
	}
	return job, len(known.Scenarios), err
}

// readGoal reads the one goal of the command line, and the value that it has to reach.
func (f *searchFlags) readGoal(cmd *cobra.Command) error {
	extremes := []goals.Extreme{goals.Highest, goals.Smallest, goals.Longest}
	var names []string
	for _, e := range extremes {
		names = append(names, string(e))
	}
	if err := exclusive(cmd, names...); err != nil {
		return err
	}
	for _, e := range extremes {
		if text, given := f.goals[e]; given {
			f.Goal, _ = goals.Parse(e, text) // the flag has refused another one
		}
	}
	switch {
	case f.Goal.Extreme == "":
		return fmt.Errorf("%s needs a goal: --highest rate, --smallest max or --longest "+
			"timeout:time_wait", cmd.CommandPath())
	case f.Resolution <= 0 || f.Resolution > 0.5:
		return errors.New("--resolution: must be more than 0% and at most 50%")
	case f.Confidence < 0.5 || f.Confidence > 0.999:
		return errors.New("--confidence: must be 50% to 99.9%")
	case f.Loss >= 1:
		return errors.New("--loss: must be less than 100%")
	case f.atLeast == "":
		return nil
	}
	var err error
	switch f.Goal.Extreme {
	case goals.Highest:
		err = (*scenarios.Rate)(&f.AtLeast).UnmarshalText([]byte(f.atLeast))
	case goals.Longest:
		var d scenarios.Duration
		err = d.UnmarshalText([]byte(f.atLeast))
		f.AtLeast = d.Seconds()
	default:
		err = errors.New("it goes with --highest and --longest")
	}
	if err != nil {
		return fmt.Errorf("--at-least: %w", err)
	}
	return nil
}

// judgeSearch returns the error that a whole search ends the program with; before is the search of
// --baseline, or nil.
func judgeSearch(found search.Found, before *search.Found) error {
	if err := stuck(found); err != nil {
		return err
	}
	var low []string
	if before != nil {
		low = found.Worse(*before)
	}
	for _, s := range found.Scenarios {
		if found.TooLow(s) {
			low = append(low, fmt.Sprintf("%s, and --at-least is %s", s.Words(found.Confidence),
				s.Amount(found.AtLeast)))
		}
	}
	if len(low) > 0 {
		return &statusError{status: statusFailed, Err: errors.New(strings.Join(low, "\n"))}
	}
	return nil
}

// stuck returns the error of a search that ended without the answer for some scenario, since trials
// stayed INVALID; else nil.
func stuck(found search.Found) error {
	var list []string
	for _, s := range found.Scenarios {
		if !s.Stuck {
			continue
		}
		text := s.Name + ": trials stayed INVALID"
		for _, made := range slices.Backward(s.Made) {
			if made.Invalid {
				text += ": " + made.Why
				break
			}
		}
		list = append(list, text)
	}
	return invalid(list)
}
