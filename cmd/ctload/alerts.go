package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/internal/textfile"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/alerts"
	"github.com/ctload/ctload/results/metrics"
)

// largestRules, in bytes, is the size of a file of alert rules that ctload still reads.
const largestRules = 1 << 20

// alertFlags let alert rules run over the trials of a run.
type alertFlags struct {
	rules  string // file
	scrape time.Duration
}

func (f *alertFlags) register(flags *pflag.FlagSet) {
	flags.Var(textFlag(&f.rules, "file", "rules.yml"), "alerts",
		"print which alerts of these Prometheus rules fire in each trial, instead of the run; "+
			"--format table or json")
	flags.Var(durationFlag(&f.scrape).withDefault("1s"), "scrape",
		"with --alerts: how often Prometheus scrapes and evaluates")
}

// print prints which alerts fire in the valid trials of a run.
func (f *alertFlags) print(
	cmd *cobra.Command, run *results.Run, folder *results.Folder, format string, o reports.Options,
) error {
	if f.scrape < 100*time.Millisecond || f.scrape > time.Hour {
		return fmt.Errorf("--scrape: must be 100ms to 1h, not %v", f.scrape)
	}
	rules, err := textfile.Read(f.rules, largestRules)
	if err != nil {
		return fmt.Errorf("--alerts: %w", err)
	}
	names, err := alerts.Check(cmd.Context(), rules)
	switch {
	case is[*alerts.MissingError](err):
		return host(err)
	case err != nil:
		return fmt.Errorf("--alerts %s: %w", f.rules, err)
	case len(names) == 0:
		return fmt.Errorf("--alerts %s: the file has no alert", f.rules)
	}
	var list []reports.TrialAlerts
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		for t := range s.ValidTrials() {
			samples, _, err := folder.Series(t)
			if err != nil {
				return host(err)
			}
			if len(samples) == 0 {
				continue
			}
			of := metrics.Series{
				Run: run.ID, Scenario: s.Name, Trial: t.Number, Zero: t.Started, Samples: samples,
			}
			drop := t.Conntrack.FirstDrop
			fired, err := alerts.Play(cmd.Context(), rules, names, of, f.scrape, drop)
			if err != nil {
				return host(err)
			}
			list = append(list, reports.TrialAlerts{
				Scenario: s.Name, Trial: t.Number, FirstDrop: drop, Alerts: fired,
			})
		}
	}
	if len(list) == 0 {
		return errors.New("--alerts: the run has no valid trial with samples")
	}
	return reports.Alerts(cmd.OutOrStdout(), format, list, o)
}
