package main

import (
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

func compareCommand() *cobra.Command {
	var width widthFlags
	var acrossLabs bool
	var format string
	var allowed float64
	cmd := &cobra.Command{
		Use:   "compare RUN RUN...",
		Short: "set the scenarios of several runs side by side, with significance",
		Long: `Compares the scenarios that all runs have, run by run against the first: medians with
their spread, each difference as a factor with its 95 % interval from three trials on (Hodges and
Lehmann), and whether it is significant (exact Mann-Whitney U test, Holm's correction over all
cells). A figure that report --baseline would fail has its mark, REGRESSION. It refuses runs that
measured different things, and names the difference. --across-labs compares the verdicts and counts
of one experiment with different drivers or on different hosts.`,
		Args: needs(2, 1000, "two runs or more: their folders or names, or latest and latest~1"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var runs []*results.Run
			var paths []string
			for _, name := range args {
				run, folder, err := loadRun(name)
				if err != nil {
					return err
				}
				runs, paths = append(runs, run), append(paths, folder.Path())
			}
			sideBySide := compare.Runs
			if acrossLabs {
				sideBySide = compare.AcrossLabs
			}
			comparison, err := sideBySide(shortNames(paths), runs)
			if err != nil {
				return err
			}
			comparison.Mark(runs, allowed)
			return reports.RenderComparison(cmd.OutOrStdout(), format, comparison, width.options())
		},
	}
	flags := cmd.Flags()
	addFormat(flags, &format, "table", reports.ComparisonFormats()...)
	flags.BoolVar(&acrossLabs, "across-labs", false,
		"the runs may differ in driver, accelerator, host, and the DUT's CPUs and memory")
	addMaxRegression(flags, &allowed)
	width.register(flags)
	flags.BoolVar(&width.wide, "wide", false, "print all columns, however wide")
	return cmd
}

// shortNames returns the last parts of the paths, or the paths where those are not unique.
func shortNames(paths []string) []string {
	var short []string
	for _, path := range paths {
		name := filepath.Base(filepath.Clean(path))
		if slices.Contains(short, name) {
			return paths
		}
		short = append(short, name)
	}
	return short
}

// loadRun opens and reads the run that a user names; see [findRun].
func loadRun(name string) (*results.Run, *results.Folder, error) {
	path, err := findRun(name)
	if err != nil {
		return nil, nil, err
	}
	folder, err := results.Open(path)
	if err != nil {
		return nil, nil, err
	}
	run, err := folder.Load()
	return run, folder, err
}
