package orchestrator

import (
	"slices"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// AddThresholds adds thresholds from a command line to an experiment (see
// [results.ParseThreshold]). Call it after the choice of scenarios; [NewPlan] compiles the
// thresholds. The error is a *scenarios.InvalidError.
func AddThresholds(experiment *scenarios.Experiment, texts []string) error {
	var names []string
	for _, s := range experiment.Resolve() {
		for _, name := range []string{s.Base, s.Name} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	at := scenarios.Position{File: "--threshold"}
	for _, text := range texts {
		scenario, expression, err := results.ParseThreshold(text, names)
		if err != nil {
			return experiment.Invalid(at, err.Error())
		}
		experiment.Thresholds = append(experiment.Thresholds,
			scenarios.Threshold{Scenario: scenario, Expression: expression, Position: at})
	}
	return nil
}
