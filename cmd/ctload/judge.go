package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
)

// reportFlags say how a run is rendered: one format to stdout, any number into files beside it.
type reportFlags struct {
	format string
	files  []string
	wide   bool
}

func (f *reportFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.format, "format", "table", "what to print: "+strings.Join(reports.Formats(), ", "))
	flags.StringArrayVar(&f.files, "report", nil, "write a report into a file as well, as junit=report.xml; can be repeated")
	flags.BoolVar(&f.wide, "wide", false, "print all columns, however wide")
}

// check refuses what could not be written at the end.
func (f *reportFlags) check() ([]reports.File, error) {
	if err := reports.Check(f.format); err != nil {
		return nil, err
	}
	return reports.ParseFiles(f.files)
}

// print renders a run to stdout and into the files; folder is where its samples are, or nil.
func (f *reportFlags) print(cmd *cobra.Command, run *results.Run, folder *results.Folder, files []reports.File) error {
	options := reportOptions(f.wide)
	if folder != nil {
		options.Series = folder
	}
	return errors.Join(
		reports.Render(cmd.OutOrStdout(), f.format, run, options),
		reports.WriteFiles(files, run, options))
}

// registerThresholds adds the flag of conditions on a run.
func registerThresholds(flags *pflag.FlagSet, texts *[]string) {
	flags.StringArrayVar(texts, "threshold", nil, "what must hold in every scenario, as 'load.failed == 0', or in one, as raw-notrack='conntrack.peak <= 10'; can be repeated")
}

// baselineFlags name the run that another is held against.
type baselineFlags struct {
	baseline      string
	maxRegression string
}

func (f *baselineFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.baseline, "baseline", "", "compare with this run, and fail when something became worse")
	flags.StringVar(&f.maxRegression, "max-regression", "10%", "by how much a figure may be worse than in the baseline")
}

// load reads the baseline; nil without one.
func (f *baselineFlags) load(cmd *cobra.Command) (*results.Baseline, error) {
	allowed, err := results.ParsePercent(f.maxRegression)
	if err != nil {
		return nil, fmt.Errorf("--max-regression: %w", err)
	}
	if f.baseline == "" {
		if cmd.Flags().Changed("max-regression") {
			return nil, errors.New("--max-regression goes with --baseline RUN")
		}
		return nil, nil
	}
	run, _, err := loadRun(f.baseline)
	if err != nil {
		return nil, fmt.Errorf("--baseline: %w", err)
	}
	return &results.Baseline{Name: filepath.Clean(f.baseline), Run: run, Allowed: allowed}, nil
}

// conclusion is how a whole run ends the program. INVALID weighs more than a failed threshold, since
// nothing can be said then.
func conclusion(run *results.Run) error {
	if list := results.Unmeasured(run); len(list) > 0 {
		return &statusError{status: statusInvalid, Err: errors.New("INVALID: " + strings.Join(list, "\nINVALID: "))}
	}
	if failures := reports.Failures(run); len(failures) > 0 {
		return &statusError{status: statusFailed, Err: errors.New(strings.Join(failures, "\n"))}
	}
	return nil
}
