package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/scenarios"
)

func scenariosCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scenarios",
		Short: "the experiments that come with ctload, and the language that they are written in",
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "list the shipped experiments", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				for _, name := range scenarios.Names() {
					experiment, _, err := scenarios.Load(name)
					if err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%-24s %s\n", name, experiment.Summary)
				}
				return nil
			},
		},
		&cobra.Command{
			Use: "show NAME", Short: "print a shipped experiment, to read or to copy", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				text, err := scenarios.Shipped(args[0])
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(text)
				return err
			},
		},
		&cobra.Command{
			Use: "validate FILE...", Short: "check experiment files", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				for _, name := range args {
					experiment, warnings, err := scenarios.Load(name)
					for _, w := range warnings {
						fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", w)
					}
					if err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d scenarios\n", name, experiment.Name, len(experiment.Resolve()))
				}
				return nil
			},
		},
		&cobra.Command{
			Use: "schema", Short: "print the JSON schema of experiment files, for editors", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				schema, err := scenarios.Schema()
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(schema)
				return err
			},
		})
	return cmd
}
