package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

func reportCommand() *cobra.Command {
	var f judgeFlags
	var out string
	var schema, fields bool
	var rules alertFlags
	cmd := &cobra.Command{
		Use:   "report RUN",
		Short: "print a run again, in any format",
		Long: `Renders a run: its folder, its run.json, its name in the folder runs, latest for the
run that began last, or the name of an experiment for the last run of that; latest~1 is the run
before. With --threshold or --baseline it judges the run once more, and ends with the exit status
that ctload run would have ended with.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if schema || fields {
				return takesNothing(cmd, args)
			}
			return needs(1, 1, "a run: its folder or name, or latest")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case schema:
				return runSchema(cmd.OutOrStdout())
			case fields:
				list, err := results.Fields()
				if err != nil {
					return err
				}
				return reports.Fields(cmd.OutOrStdout(), f.format, list, f.options())
			}
			if out != "" {
				f.reports = append(f.reports, f.format+"="+out)
			}
			var err error
			if f.files, err = reports.ParseFiles(f.reports); err != nil {
				return err
			}
			run, folder, err := loadRun(args[0])
			if err != nil {
				return err
			}
			if err := f.checkDetails(run); err != nil {
				return err
			}
			if rules.rules != "" {
				return rules.print(cmd, run, folder, f.format, f.options())
			}
			if err := results.AddThresholds(run, f.thresholds); err != nil {
				return fmt.Errorf("--threshold: %w", err)
			}
			baseline, err := f.load(cmd)
			if err == nil && baseline != nil {
				err = baseline.Judge(run)
			}
			if err != nil {
				return err
			}
			if out != "" {
				options := reports.Options{
					Wide: f.wide, Series: folder, Verbose: f.verbose, Details: f.details,
				}
				err = reports.WriteFiles(f.files, run, options)
			} else {
				err = f.print(cmd.OutOrStdout(), run, folder)
			}
			switch {
			case err != nil:
				return host(err)
			case baseline == nil && f.thresholds == nil:
				return run.Part(args[0])
			}
			return f.conclusion(run)
		},
	}
	flags := cmd.Flags()
	f.register(flags)
	rules.register(flags)
	flags.Var(namesFlag(&f.details, "baseline,raised-max"), "scenario",
		"print what the trials of these scenarios saw as well, separated by commas")
	flags.BoolVar(&schema, "schema", false, "print the JSON schema of run.json instead of a run")
	flags.BoolVar(&fields, "fields", false,
		"print the fields that thresholds may name instead of a run; --format markdown or json")
	flags.VarP(textFlag(&out, "file", "report.html"), "output", "o",
		"write to this file instead of stdout")
	return cmd
}

// runSchema prints the schema of run.json. It contains the schema of an experiment, for the
// settings of entries and actions.
func runSchema(w io.Writer) error {
	var run map[string]any
	var experiment struct {
		ID string `json:"$id"`
	}
	text, err := scenarios.Schema()
	if err == nil {
		err = errors.Join(json.Unmarshal(text, &experiment), json.Unmarshal(results.Schema, &run))
	}
	definitions, ok := run["$defs"].(map[string]any)
	if err != nil || !ok {
		return fmt.Errorf("making the schema of run.json: %w", err)
	}
	definitions["Settings"] = map[string]any{
		"description": "an entry of a workload or an action, as an experiment writes it",
		"anyOf": []any{
			map[string]any{"$ref": experiment.ID + "#/$defs/Entry"},
			map[string]any{"$ref": experiment.ID + "#/$defs/Action"},
		},
	}
	definitions["experiment"] = json.RawMessage(text)
	return results.WriteJSON(w, run)
}

// checkDetails refuses scenarios that the run does not have.
func (f *judgeFlags) checkDetails(run *results.Run) error {
	var names []string
	for _, s := range run.Scenarios {
		names = append(names, s.Name)
	}
	for _, name := range f.details {
		if !slices.Contains(names, name) {
			return fmt.Errorf("--scenario: the run has no scenario %q%s", name,
				spelling.Hint(name, names))
		}
	}
	return nil
}
