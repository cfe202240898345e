package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

// reportFlags say how a run is rendered: one format to stdout, any number into files beside it.
type reportFlags struct {
	format string
	files  []string
	widthFlags
}

func (f *reportFlags) register(flags *pflag.FlagSet) {
	flags.Var(wordFlag(&f.format, defaultFirst("table", reports.Formats())...), "format", "what to print: "+strings.Join(reports.Formats(), ", "))
	flags.Var(textsFlag(&f.files, "report", "junit=report.xml"), "report", "write a report into a file as well, as junit=report.xml; can be repeated")
	f.widthFlags.register(flags)
	flags.BoolVar(&f.wide, "wide", false, "print all columns, however wide")
}

// print renders a run to stdout and into the files; folder holds its samples, or is nil.
func (f *reportFlags) print(cmd *cobra.Command, run *results.Run, folder *results.Folder, files []reports.File) error {
	options := f.options()
	if folder != nil {
		options.Series = folder
	}
	return errors.Join(
		reports.Render(cmd.OutOrStdout(), f.format, run, options),
		reports.WriteFiles(files, run, options))
}

// defaultFirst moves the default of a flag to the front of its words.
func defaultFirst(word string, words []string) []string {
	return append([]string{word}, slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == word })...)
}

// registerThresholds adds the flag of conditions on a run.
func registerThresholds(flags *pflag.FlagSet, texts *[]string) {
	flags.Var(textsFlag(texts, "threshold", "'load.failed == 0'"), "threshold", "expression that must hold in every scenario, as 'load.failed == 0', or in one, as raw-notrack='conntrack.peak <= 10'; can be repeated")
}

// baselineFlags name the run that another is compared with.
type baselineFlags struct {
	baseline      string
	maxRegression float64
}

func (f *baselineFlags) register(flags *pflag.FlagSet) {
	flags.Var(textFlag(&f.baseline, "run", "runs/last"), "baseline", "compare with this run, and fail when something became worse")
	flags.Var(excessFlag(&f.maxRegression, "10%"), "max-regression", "share by which a figure may be worse than in the baseline")
}

// load reads the baseline; nil without one.
func (f *baselineFlags) load(cmd *cobra.Command) (*compare.Baseline, error) {
	if f.baseline == "" {
		if cmd.Flags().Changed("max-regression") {
			return nil, errors.New("--max-regression needs --baseline RUN")
		}
		return nil, nil
	}
	run, _, err := loadRun(f.baseline)
	if err != nil {
		return nil, fmt.Errorf("--baseline: %w", err)
	}
	return &compare.Baseline{Name: filepath.Clean(f.baseline), Run: run, Allowed: f.maxRegression}, nil
}

// conclusion returns the error that a whole run ends the program with. INVALID weighs more than a
// failed threshold, since an invalid measurement shows nothing.
func conclusion(run *results.Run) error {
	if list := results.Unmeasured(run); len(list) > 0 {
		return &statusError{status: statusInvalid, Err: errors.New("INVALID: " + strings.Join(list, "\nINVALID: "))}
	}
	var failures []string
	for _, f := range results.Failures(run) {
		failures = append(failures, f.String())
	}
	if len(failures) > 0 {
		return &statusError{status: statusFailed, Err: errors.New(strings.Join(failures, "\n"))}
	}
	return nil
}

// widthFlags say how wide the output may be.
type widthFlags struct {
	columns int
	wide    bool
}

// The accepted widths.
const (
	leastColumns = 20
	mostColumns  = 10000
)

func (f *widthFlags) register(flags *pflag.FlagSet) {
	flags.Var(countFlag(&f.columns, leastColumns, mostColumns), "columns", "width of what is printed (default: the terminal's, else COLUMNS, else 80)")
}

// options returns the width of stdout's terminal, if it is one.
func (f *widthFlags) options() reports.Options {
	options := reports.Options{Wide: f.wide, Width: f.columns}
	fd := int(os.Stdout.Fd())
	if !term.IsTerminal(fd) {
		if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n >= leastColumns && n <= mostColumns && options.Width == 0 {
			options.Width = n
		}
		return options
	}
	options.Color = os.Getenv("NO_COLOR") == ""
	if width, _, err := term.GetSize(fd); err == nil && options.Width == 0 {
		options.Width = width
	}
	return options
}
