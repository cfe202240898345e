package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/scenarios"
)

func scenariosCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scenarios",
		Short: "the experiments that come with ctload, and the language that they are written in",
		Long: `The experiments that come with ctload, and the language that they are written in (docs/language.md).

  ctload scenarios list                       list them, in groups
  ctload scenarios find table full            find messages, settings, rules, commands
  ctload scenarios show table-full --brief    the story and the scenarios of one
  ctload scenarios show table-full > my.yaml  the text of one, to copy and change
  ctload scenarios validate my.yaml           check it, and run nothing
  ctload run my.yaml                          run it`,
	}
	return group(cmd,
		listCommand(), findCommand(), showCommand(),
		&cobra.Command{
			Use: "validate FILE...", Short: "check experiment files, thresholds included, without running them",
			Args: needs(1, 1000, "experiment files"),
			RunE: func(cmd *cobra.Command, args []string) error {
				var errs []error
				for _, name := range args {
					errs = append(errs, validate(cmd, name))
				}
				return errors.Join(errs...)
			},
		},
		&cobra.Command{
			Use: "schema", Short: "print the JSON schema of experiment files, for editors", Args: takesNothing,
			RunE: func(cmd *cobra.Command, _ []string) error {
				schema, err := scenarios.Schema()
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", schema)
				return err
			},
		})
}

// validate checks one file as a run would.
func validate(cmd *cobra.Command, name string) error {
	experiment, err := loadExperiment(cmd, name)
	if err != nil {
		return err
	}
	if _, err := orchestrator.NewPlan(experiment, 1); err != nil {
		return err
	}
	count, plural := len(experiment.Resolve()), "s"
	if count == 1 {
		plural = ""
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d scenario%s\n", name, experiment.Name, count, plural)
	return err
}
