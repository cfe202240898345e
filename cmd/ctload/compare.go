package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
)

func compareCommand() *cobra.Command {
	var wide bool
	var format string
	cmd := &cobra.Command{
		Use:   "compare RUN RUN...",
		Short: "set the scenarios of several runs side by side, with significance",
		Long: `Compares the scenarios that all runs have, run by run against the first. Runs of unlike things are
refused, and what is unlike is named.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var names []string
			var runs []*results.Run
			for _, path := range args {
				run, _, err := loadRun(path)
				if err != nil {
					return err
				}
				names, runs = append(names, filepath.Base(filepath.Clean(path))), append(runs, run)
			}
			comparison, err := results.CompareRuns(names, runs)
			if err != nil {
				return err
			}
			return reports.RenderComparison(cmd.OutOrStdout(), format, comparison, reportOptions(wide))
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "one of "+strings.Join(reports.ComparisonFormats(), ", "))
	cmd.Flags().BoolVar(&wide, "wide", false, "print all columns, however wide")
	return cmd
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
