package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
)

func reportCommand() *cobra.Command {
	var f reportFlags
	var b baselineFlags
	var out string
	var thresholds []string
	cmd := &cobra.Command{
		Use:   "report RUN",
		Short: "print a run again, in any format",
		Long: `Renders a run folder, or its run.json. With --threshold or --baseline the run is judged once more, and the
exit status is what ctload run would have ended with.`,
		Args: needs(1, 1, "the folder of a run, as runs/table-full-20261120-130612"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out != "" {
				f.files = append(f.files, f.format+"="+out)
			}
			files, err := f.check()
			if err != nil {
				return err
			}
			run, folder, err := loadRun(args[0])
			if err != nil {
				return err
			}
			if err := results.AddThresholds(run, thresholds); err != nil {
				return fmt.Errorf("--threshold: %w", err)
			}
			baseline, err := b.load(cmd)
			if err != nil {
				return err
			}
			if baseline != nil {
				if err := baseline.Judge(run); err != nil {
					return err
				}
			}
			if out != "" {
				err = reports.WriteFiles(files, run, reports.Options{Wide: f.wide, Series: folder})
			} else {
				err = f.print(cmd, run, folder, files)
			}
			if err != nil || baseline == nil && thresholds == nil {
				return host(err)
			}
			return conclusion(run)
		},
	}
	f.register(cmd.Flags())
	b.register(cmd.Flags())
	registerThresholds(cmd.Flags(), &thresholds)
	cmd.Flags().VarP(textFlag(&out, "file", "report.html"), "output", "o", "write to this file instead of stdout")
	return cmd
}
