package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

func historyCommand() *cobra.Command {
	var width widthFlags
	var tags map[string]string
	var dir, format string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "history [EXPERIMENT]",
		Short: "how the figures of an experiment moved over its runs, and where they changed",
		Long: `Reads all runs in a folder and follows each figure of an experiment, or of every one:
the medians of the runs, and the places where their level changed, with what else changed there. A
permutation test of ranks finds the changes, with at most 5 % chance finds among all that are shown.
That takes 8 runs. docs/reading.md says how.`,
		Args: needs(0, 1, "the name of an experiment, or none for all"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, unread, err := results.ListRuns(dir)
			if err != nil {
				return host(err)
			}
			for _, problem := range unread {
				fmt.Fprint(cmd.ErrOrStderr(), printable.Text(fmt.Sprintf("warning: %v\n", problem)))
			}
			list = slices.DeleteFunc(list, func(l results.Listed) bool {
				return l.Search || !hasTags(l.Run, tags)
			})
			var names []string
			for _, l := range list {
				names = append(names, l.Run.Experiment)
			}
			slices.Sort(names)
			names = slices.Compact(names)
			switch {
			case len(list) == 0:
				return errors.New("there is no run" + withTags(tags) + " in " + dir)
			case len(args) > 0 && !slices.Contains(names, args[0]):
				return fmt.Errorf("no run%s in %s is of %q%s", withTags(tags), dir, args[0],
					spelling.Hint(args[0], names))
			case len(args) > 0:
				names = args
			}
			var all []*compare.History
			var failed error
			for _, name := range names {
				h, err := compare.Follow(name, list)
				if err != nil {
					failed = errors.Join(failed, err)
					continue
				}
				all = append(all, h)
			}
			if all == nil {
				return failed
			}
			options := width.options()
			options.Verbose = verbose
			return reports.History(cmd.OutOrStdout(), format, all, options)
		},
	}
	flags := cmd.Flags()
	flags.Var(textFlag(&dir, "folder", results.RunsFolder).withDefault(results.RunsFolder), "runs",
		"folder of the runs")
	addTags(flags, &tags, "only runs with this tag, such as branch=main; can be repeated")
	addFormat(flags, &format, "table", reports.HistoryFormats()...)
	width.register(flags)
	flags.BoolVar(&verbose, "verbose", false,
		"print the figures that never changed as well, and the runs")
	return cmd
}

// hasTags reports whether a run has all tags of a filter.
func hasTags(run *results.Run, filter map[string]string) bool {
	for key, value := range filter {
		if have, ok := run.Tags[key]; !ok || have != value {
			return false
		}
	}
	return true
}

// withTags words a filter in a message.
func withTags(filter map[string]string) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(filter)) {
		words = append(words, key+"="+filter[key])
	}
	if words == nil {
		return ""
	}
	return " with the tag " + strings.Join(words, " and ")
}

// tagSyntax matches a tag: a key, and any text.
var tagSyntax = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._/-]*)=(.+)$`)

// addTags adds --tag KEY=VALUE, which can be repeated with other keys.
func addTags(flags *pflag.FlagSet, into *map[string]string, usage string) {
	flags.Var(&flagValue{kind: "KEY=VALUE", free: true, read: func(text string) error {
		m := tagSyntax.FindStringSubmatch(text)
		if m == nil || printable.Text(text) != text {
			return fmt.Errorf("%q is no tag: write KEY=VALUE, such as branch=main", text)
		}
		if have, twice := (*into)[m[1]]; twice {
			return fmt.Errorf("%s is given twice, as %q and %q", m[1], have, m[2])
		}
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)[m[1]] = m[2]
		return nil
	}}, "tag", usage)
}

// findRun returns the path of the run that a user names; see [results.FindRun].
func findRun(name string) (string, error) { return results.FindRun(results.RunsFolder, name) }
