package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

func compareCommand() *cobra.Command {
	var width widthFlags
	var acrossLabs bool
	var format string
	cmd := &cobra.Command{
		Use:   "compare RUN RUN...",
		Short: "set the scenarios of several runs side by side, with significance",
		Long: `Compares the scenarios that all runs have, run by run against the first: medians with their spread, and
for each difference whether it is significant (Mann-Whitney U test, Holm's correction over all cells).
It refuses runs that measured different things, and names the difference. --across-labs compares runs of one experiment
with different drivers or on different hosts: verdicts and counts, side by side.`,
		Args: needs(2, 1000, "the folders of two runs or more"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var runs []*results.Run
			for _, path := range args {
				run, _, err := loadRun(path)
				if err != nil {
					return err
				}
				runs = append(runs, run)
			}
			sideBySide := compare.Runs
			if acrossLabs {
				sideBySide = compare.AcrossLabs
			}
			comparison, err := sideBySide(shortNames(args), runs)
			if err != nil {
				return err
			}
			return reports.RenderComparison(cmd.OutOrStdout(), format, comparison, width.options())
		},
	}
	cmd.Flags().Var(wordFlag(&format, defaultFirst("table", reports.ComparisonFormats())...), "format", "one of "+strings.Join(reports.ComparisonFormats(), ", "))
	cmd.Flags().BoolVar(&acrossLabs, "across-labs", false, "the runs may differ in driver, accelerator, host, and the CPUs and memory of the DUT")
	width.register(cmd.Flags())
	cmd.Flags().BoolVar(&width.wide, "wide", false, "print all columns, however wide")
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

// loadRun reads a run folder.
func loadRun(path string) (*results.Run, *results.Folder, error) {
	folder, err := results.Open(path)
	if err != nil {
		return nil, nil, err
	}
	run, err := folder.Load()
	return run, folder, err
}
