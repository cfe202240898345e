package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/scenarios"
)

// judgeFlags say how a run is judged and rendered: one format to stdout, any number into files.
type judgeFlags struct {
	format        string
	reports       []string // FORMAT=FILE
	files         []reports.File
	thresholds    []string
	baseline      string // a run to compare with
	maxRegression float64
	verbose       bool
	details       []string // names of scenarios
	widthFlags
}

func (f *judgeFlags) register(flags *pflag.FlagSet) {
	addFormat(flags, &f.format, "table", reports.Formats()...)
	file := textFlag(new(string), "report", "junit=report.xml")
	flags.Var(file.repeatable(&f.reports), "report",
		"write a report into a file as well, such as junit=report.xml; can be repeated")
	threshold := textFlag(new(string), "threshold", "'load.failed == 0'")
	flags.Var(threshold.repeatable(&f.thresholds), "threshold",
		"expression that must hold in every scenario, such as 'load.failed == 0', or in one, "+
			"as raw-notrack='conntrack.peak <= 10'; can be repeated")
	flags.Var(textFlag(&f.baseline, "run", "runs/last"), "baseline",
		"compare with this run, and fail when something became worse")
	addMaxRegression(flags, &f.maxRegression)
	f.widthFlags.register(flags)
	flags.BoolVar(&f.wide, "wide", false, "print all columns, however wide")
	flags.BoolVar(&f.verbose, "verbose", false,
		"print what each trial saw as well, and notes on the figures")
}

func addMaxRegression(flags *pflag.FlagSet, allowed *float64) {
	share := unit("share", (*scenarios.Excess)(allowed)).withDefault("10%")
	flags.Var(share, "max-regression", "share by which a figure may be worse than the baseline's")
}

// print renders a run to stdout and into the files; folder holds its samples, or is nil.
func (f *judgeFlags) print(out io.Writer, run *results.Run, folder *results.Folder) error {
	options := f.options()
	options.Verbose, options.Details = f.verbose, f.details
	if folder != nil {
		options.Series = folder
	}
	return errors.Join(
		reports.Render(out, f.format, run, options), reports.WriteFiles(f.files, run, options))
}

// load reads the baseline; nil without one.
func (f *judgeFlags) load(cmd *cobra.Command) (*compare.Baseline, error) {
	if f.baseline == "" {
		if cmd.Flags().Changed("max-regression") {
			return nil, errors.New("--max-regression needs --baseline RUN")
		}
		return nil, nil
	}
	run, folder, err := loadRun(f.baseline)
	if err != nil {
		return nil, fmt.Errorf("--baseline: %w", err)
	}
	name := filepath.Clean(folder.Path())
	return &compare.Baseline{Name: name, Run: run, Allowed: f.maxRegression}, nil
}

// conclusion returns the error that a whole run ends the program with. INVALID weighs more than a
// failed threshold, since an invalid measurement shows nothing. A table on stdout has named what
// failed; a document there may not have.
func (f *judgeFlags) conclusion(run *results.Run) error {
	if err := invalid(results.Unmeasured(run)); err != nil {
		return err
	}
	if failures := results.Failures(run); len(failures) > 0 {
		text := strings.Join(failures, "\n")
		if f.format == "table" {
			text = judgedWords(run)
		}
		return &statusError{status: statusFailed, Err: errors.New(text)}
	}
	return nil
}

// invalid returns the error of a run with parts that were not measured validly, each in a line of
// the list; nil without any.
func invalid(list []string) error {
	if len(list) == 0 {
		return nil
	}
	err := errors.New("INVALID: " + strings.Join(list, "\nINVALID: "))
	return &statusError{status: statusInvalid, Err: err}
}

// judgedWords counts what failed.
func judgedWords(run *results.Run) string {
	regressions := len(run.Regressions)
	failed := len(results.Failures(run)) - regressions
	switch {
	case regressions == 0:
		return count(failed, "threshold") + " failed"
	case failed == 0:
		return count(regressions, "regression") + " against " + run.Baseline
	default:
		return fmt.Sprintf("%s failed, %s against %s", count(failed, "threshold"),
			count(regressions, "regression"), run.Baseline)
	}
}

type widthFlags struct {
	columns int
	wide    bool
}

const (
	leastColumns = 20
	mostColumns  = 10000
)

func (f *widthFlags) register(flags *pflag.FlagSet) {
	flags.Var(countFlag(&f.columns, leastColumns, mostColumns), "columns",
		"width of what is printed (default: the terminal's, else COLUMNS, else 80)")
}

// options returns the width of stdout's terminal, if it is one.
func (f *widthFlags) options() reports.Options {
	options := reports.Options{Wide: f.wide, Width: f.columns}
	fd := int(os.Stdout.Fd())
	if term.IsTerminal(fd) {
		options.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		width, _, _ := term.GetSize(fd)
		options.Width = cmp.Or(options.Width, width)
	} else if n, _ := strconv.Atoi(os.Getenv("COLUMNS")); n >= leastColumns && n <= mostColumns {
		options.Width = cmp.Or(options.Width, n)
	}
	return options
}
