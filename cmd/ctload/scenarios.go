package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

func scenariosCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scenarios",
		Short: "the experiments that come with ctload, and the language that they are written in",
		Long: `The shipped experiments, and their language (docs/language.md).

  ctload scenarios list                       list them, in groups
  ctload scenarios find table full            find messages, settings, rules, commands
  ctload scenarios show table-full --brief    the story and the scenarios of one
  ctload scenarios show table-full > my.yaml  the text of one, to copy and change
  ctload scenarios validate my.yaml           check it, and run nothing
  ctload run my.yaml                          run it`,
	}
	return group(cmd,
		listCommand(), findCommand(), showCommand(), fromCaptureCommand(),
		&cobra.Command{
			Use: "validate FILE...", Short: "check experiment files with their thresholds",
			Args: needs(1, 1000, "experiment files"),
			RunE: func(cmd *cobra.Command, args []string) (err error) {
				for _, name := range args {
					err = errors.Join(err, validate(cmd, name))
				}
				return err
			},
		},
		&cobra.Command{
			Use: "schema", Short: "print the JSON schema of experiment files, for editors",
			Args: takesNothing,
			RunE: func(cmd *cobra.Command, _ []string) error {
				schema, err := scenarios.Schema()
				if err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", schema)
				}
				return err
			},
		})
}

// validate checks one file as a run would.
func validate(cmd *cobra.Command, name string) error {
	plan, err := loadPlan(cmd, name)
	if err == nil {
		err = tryRules(cmd, plan)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s\n", name, plan.Experiment.Name,
		count(len(plan.Scenarios), "scenario"))
	return err
}

func listCommand() *cobra.Command {
	var names bool
	var format string
	var width widthFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the shipped experiments, in groups", Args: takesNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := exclusive(cmd, "names", "format")
			switch {
			case err != nil:
			case names:
				_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(scenarios.Names(), "\n"))
			default:
				err = listScenarios(cmd, format, width.options())
			}
			return err
		},
	}
	width.register(cmd.Flags())
	cmd.Flags().BoolVar(&names, "names", false, "print the names alone, a line each")
	addFormat(cmd.Flags(), &format, "table", "table", "json")
	return cmd
}

func listScenarios(cmd *cobra.Command, format string, options reports.Options) error {
	var list []results.Description
	for _, name := range scenarios.Names() {
		d, err := describe(name)
		if err != nil {
			return err
		}
		list = append(list, d)
	}
	groups := scenarios.Group("").Words()
	slices.SortStableFunc(list, func(a, b results.Description) int {
		return slices.Index(groups, a.Group) - slices.Index(groups, b.Group)
	})
	return reports.Catalogue(cmd.OutOrStdout(), format, list, options)
}

func describe(name string) (results.Description, error) {
	experiment, _, err := scenarios.Load(name)
	if err != nil {
		return results.Description{}, err
	}
	return orchestrator.Describe(experiment)
}

func showCommand() *cobra.Command {
	var brief bool
	var width widthFlags
	cmd := &cobra.Command{
		Use: "show NAME", Short: "print a shipped experiment, to read or to copy",
		Args: needs(1, 1, "the name of an experiment; ctload scenarios list has them"),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := scenarios.Shipped(args[0])
			if err == nil && !brief {
				_, err = cmd.OutOrStdout().Write(text)
			}
			if err != nil || !brief {
				return err
			}
			d, err := describe(args[0])
			if err != nil {
				return err
			}
			return reports.Brief(cmd.OutOrStdout(), d, width.options())
		},
	}
	width.register(cmd.Flags())
	cmd.Flags().BoolVar(&brief, "brief", false, "print summary, story and scenarios, not the text")
	return cmd
}

func findCommand() *cobra.Command {
	return &cobra.Command{
		Use: "find TEXT...", Short: "find words in the shipped experiments",
		Long: `Finds words in the shipped experiments: in names, stories, settings, rules, the lines
of the kernel's log, and the lines of incident write-ups as they stand there. All words must occur
in an experiment, in any case; an old name of a setting or a module also finds the current one. The
best match comes first.

  ctload scenarios find nf_conntrack: table full, dropping packet
  ctload scenarios find ip_conntrack_max
  ctload scenarios find modprobe -r

Exit status: 1 when nothing is found.`,
		DisableFlagParsing: true, // commands of write-ups have flags of their own
		RunE: func(cmd *cobra.Command, args []string) error {
			if slices.Contains(args, "--help") || len(args) == 1 && args[0] == "-h" {
				return cmd.Help()
			}
			if err := needs(1, 1000, "words to look for")(cmd, args); err != nil {
				return err
			}
			text := strings.Join(args, " ")
			var hits []results.Hit
			for _, found := range scenarios.Search(text) {
				for _, l := range found.Lines {
					hits = append(hits, results.Hit{
						Experiment: found.Experiment, Group: string(found.Group),
						Line: l.Line, Where: l.Where, Text: l.Text,
					})
				}
			}
			if len(hits) == 0 {
				return &statusError{status: statusFailed, Err: nothingFound(text)}
			}
			return reports.Hits(cmd.OutOrStdout(), hits, new(widthFlags).options())
		},
	}
}

// nothingFound returns an error that suggests alternatives to a text that no experiment has.
func nothingFound(text string) error {
	words, experiments := scenarios.Suggestions(text)
	said := fmt.Sprintf("no shipped experiment has %q", text)
	for _, word := range slices.Sorted(maps.Keys(words)) {
		said += fmt.Sprintf("; none has %q", word)
		if near := words[word]; near != "" {
			said += fmt.Sprintf(", did you mean %q?", near)
		}
	}
	if len(experiments) > 0 {
		said += "; most of its words are in " + strings.Join(experiments, ", ")
	}
	return errors.New(said)
}
