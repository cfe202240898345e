package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/orchestrator/goals"
	"github.com/ctload/ctload/reports"
	livepage "github.com/ctload/ctload/reports/live"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
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
		Use: "search EXPERIMENT --highest rate | --smallest max | --longest timeout:STATE | " +
			"--method rfc9693",
		Short: "the highest rate that a configuration carries, or the smallest table for a load",
		Long: `Looks for the limit of each scenario of an experiment, and prints it with an interval
and what is lost first beyond it.

  ctload search mine.yaml --highest rate                    of the only entry with a rate
  ctload search mine.yaml --highest rate:users --loss 0.1%  of the entry users
  ctload search mine.yaml --smallest max                    the smallest table for this load
  ctload search mine.yaml --longest timeout:time_wait       the longest timeout that fits
  ctload search mine.yaml --highest rate --at-least 2000/s  exit status 1 where it is less
  ctload search mine.yaml --highest rate --over max=4k,16k  at each size of the table: a curve
  ctload search mine.yaml --method rfc9693                  three metrics of a gateway
  ctload search --resume runs/last                          the rest of one that was cut off

Each trial is that of ctload run, with one value changed. The first is below the predicted limit:
what lives in the table there tells where it is full, and trials just below and above confirm it.
Where something else is lost first, the search halves what is left, and names it.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.resume != "" {
				return takesNothing(cmd, args)
			}
			return needs(1, 1, experimentArgument)(cmd, args)
		},
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
	addWord(flags, &f.Method, "method", "of three metrics of a gateway, with a load of its own: "+
		"its maximum connection establishment rate, the capacity of its table, its tear-down rate",
		"", goals.RFC9693)
	flags.Var(unit("share", (*scenarios.Share)(&f.Loss)).withDefault("0%"), "loss",
		"share of the attempts that may be lost: those that failed, and those of a sender that "+
			"sends once whose packet the DUT dropped or whose entry it evicted")
	flags.Var(unit("share", (*scenarios.Share)(&f.Retried)), "after-retries",
		"share of the attempts that may succeed only after the DUT dropped a packet of theirs "+
			"(default: as --loss)")
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
	flags.Var(textFlag(&f.resume, "run", "runs/last"), "resume",
		"make the rest of this search, which was cut off, with its goal and conditions")
	flags.VarP(textFlag(&f.out, "folder", "runs/now"), "out", "o",
		"run folder (default: runs/EXPERIMENT-search-TIME)")
	f.watch.register(flags)
	addFormat(flags, &f.format, "table", reports.SearchFormats()...)
	f.widthFlags.register(flags)
	return cmd
}

func (f *searchFlags) run(cmd *cobra.Command, args []string) (failed error) {
	if sandbox.Inside() {
		return f.inside(cmd, args)
	}
	job, known, err := f.check(cmd, args)
	if err == nil {
		err = f.watch.check(cmd)
	}
	if err != nil {
		return err
	}
	this := search.Found{Goal: f.Name(), Loss: f.Loss, Retried: f.Retried, Keep: f.Keep}
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
		"a trial takes about %s\n", job.Plan.Experiment.Name, f.Name(),
		count(len(known.Scenarios), "limit"), f.MaxTrials, about)
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
	if err := f.open(&job, "-search"); err != nil {
		return errors.Join(err, watch.close(nil))
	}
	defer job.Folder.Close()
	var end events.End
	defer func() { watch.end(cmd, end, failed) }()
	watch.show(searchPage(job.Folder, known))
	err = watch.make(cmd, job, f.out)
	var report search.Report
	loadErr := job.Folder.LoadSearch(&report)
	run, runErr := job.Folder.Load()
	if loadErr = errors.Join(loadErr, runErr); loadErr != nil {
		return cmp.Or(interrupted(cmd, err, "interrupted before anything was measured"), loadErr)
	}
	end.Interrupted, end.Folder = run.Interrupted, f.out
	options := f.options()
	options.Series, options.Trials = job.Folder, run
	err = errors.Join(err, reports.Search(f.watch.output(cmd), f.format, &report, options))
	fmt.Fprintf(cmd.ErrOrStderr(), "run folder: %s\n", f.out)
	if err != nil {
		return interrupted(cmd, err, "interrupted; what was measured is kept: "+
			"ctload search --resume "+f.out+" makes the rest")
	}
	if f.Of > 0 { // the merge judges
		return stuck(report.Search)
	}
	return judgeSearch(report.Search, before)
}

// searchPage returns what renders the page of the search in a folder. known is what the search
// knows before its first trial has ended.
func searchPage(folder *results.Folder, known search.Found) livepage.Renderer {
	return func(live string) ([]byte, error) {
		run, err := folder.Load()
		if err != nil {
			return nil, err
		}
		report := search.Report{Search: known}
		if err := folder.LoadSearch(&report); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		var b bytes.Buffer
		err = reports.Search(&b, "html", &report,
			reports.Options{Series: folder, Trials: run, Live: live})
		return b.Bytes(), err
	}
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

// check refuses what cannot be searched before anything is prepared. known is what the search knows
// before its first trial.
func (f *searchFlags) check(
	cmd *cobra.Command, args []string,
) (job orchestrator.Job, known search.Found, err error) {
	if f.resume != "" {
		err = f.readResumed(cmd)
	} else {
		err = f.readGoal(cmd)
	}
	if err == nil {
		job, err = f.plan(cmd, args)
	}
	if err == nil && f.resume == "" && f.out != "" && !sandbox.Inside() {
		if err = results.CheckNew(f.out); err != nil {
			err = fmt.Errorf("--out: %w", err)
		}
	}
	if err != nil {
		return job, known, err
	}
	f.Number, f.Of = f.shard.number, f.shard.of
	if f.Of > 0 && f.baseline != "" {
		return job, known, errors.New("--baseline: ctload merge compares the merged search, " +
			"and no shard of it")
	}
	job.Search = &f.Search
	job.Plan.Retries = 0  // the search itself asks again
	if sandbox.Inside() { // the command outside has checked it
		return job, known, nil
	}
	known, err = job.Plan.CheckSearch(f.Search)
	for _, note := range known.Notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", note)
	}
	return job, known, err
}

// readResumed takes over what the search to resume was asked for.
func (f *searchFlags) readResumed(cmd *cobra.Command) error {
	for _, other := range []string{
		"highest", "smallest", "longest", "method", "loss", "after-retries", "keep", "resolution",
		"confidence", "max-trials", "retries", "at-least", "over",
	} {
		if err := exclusive(cmd, "resume", other); err != nil {
			return err
		}
	}
	path, err := f.out, error(nil) // as the command outside has found it
	if !sandbox.Inside() {
		path, err = findRun(f.resume)
	}
	var report search.Report
	if err == nil {
		var folder *results.Folder
		if folder, err = results.Open(path); err == nil {
			err = errors.Join(folder.LoadSearch(&report), folder.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("--resume: %w", err)
	}
	asked := report.Search
	f.Loss, f.Retried, f.Keep, f.AtLeast = asked.Loss, asked.Retried, asked.Keep, asked.AtLeast
	f.Resolution, f.Confidence = asked.Resolution, asked.Confidence
	f.MaxTrials, f.Search.Retries = asked.MaxTrials, asked.Retries
	if extreme, goal, isGoal := strings.Cut(asked.Goal, " "); isGoal {
		f.Goal, err = goals.Parse(goals.Extreme(extreme), goal)
	} else {
		f.Method = asked.Goal
	}
	if err == nil && asked.Axis != "" {
		f.Over, err = goals.ParseAxis(asked.Axis)
	}
	if err != nil {
		return fmt.Errorf("--resume %s: %w", path, err)
	}
	return nil
}

// readGoal reads the one goal of the command line, and the value that it has to reach.
func (f *searchFlags) readGoal(cmd *cobra.Command) error {
	extremes := []goals.Extreme{goals.Highest, goals.Smallest, goals.Longest}
	var names []string
	for _, e := range extremes {
		names = append(names, string(e))
	}
	if err := exclusive(cmd, append(names, "method")...); err != nil {
		return err
	}
	for _, e := range extremes {
		if text, given := f.goals[e]; given {
			f.Goal, _ = goals.Parse(e, text) // the flag has refused another one
		}
	}
	if !cmd.Flags().Changed("after-retries") {
		f.Retried = f.Loss
	}
	switch {
	case f.Goal.Extreme == "" && f.Method == "":
		return fmt.Errorf("%s needs a goal: --highest rate, --smallest max, --longest "+
			"timeout:time_wait or --method %s", cmd.CommandPath(), goals.RFC9693)
	case f.Method != "" && f.Over.Key() != "":
		return errors.New("--over: it goes with a goal, and not with --method")
	case f.Method != "" && f.shard.of > 0:
		return errors.New("--shard: it goes with a goal, and not with --method")
	case f.Method != "" && f.atLeast != "":
		return errors.New("--at-least: it goes with a goal, and not with --method")
	case f.Method != "" && len(f.Keep) > 0:
		return errors.New("--keep: the load of --method has no probes; it goes with a goal")
	case f.Resolution <= 0 || f.Resolution > 0.5:
		return errors.New("--resolution: must be more than 0% and at most 50%")
	case f.Confidence < 0.5 || f.Confidence > 0.999:
		return errors.New("--confidence: must be 50% to 99.9%")
	case f.Loss >= 1:
		return errors.New("--loss: must be less than 100%")
	case f.Retried > 1:
		return errors.New("--after-retries: must be at most 100%")
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
