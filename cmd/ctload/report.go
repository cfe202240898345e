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
	var schema, fields bool
	var thresholds []string
	cmd := &cobra.Command{
		Use:   "report RUN",
		Short: "print a run again, in any format",
		Long: `Renders a run folder, or its run.json. With --threshold or --baseline the run is judged once more, and the
exit status is what ctload run would have ended with.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if schema || fields {
				return takesNothing(cmd, args)
			}
			return needs(1, 1, "the folder of a run, as runs/table-full-20261120-130612")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case schema:
				_, err := cmd.OutOrStdout().Write(results.Schema)
				return err
			case fields:
				list, err := results.Fields()
				if err != nil {
					return err
				}
				return reports.Fields(cmd.OutOrStdout(), f.format, list, f.options())
			}
			if out != "" {
				f.files = append(f.files, f.format+"="+out)
			}
			files, err := reports.ParseFiles(f.files)
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
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON schema of run.json instead of a run")
	cmd.Flags().BoolVar(&fields, "fields", false, "print the fields that thresholds may name instead of a run; --format markdown or json")
	cmd.Flags().VarP(textFlag(&out, "file", "report.html"), "output", "o", "write to this file instead of stdout")
	return cmd
}
