package orchestrator

import (
	"slices"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// AddThresholds adds thresholds to an experiment as a command line gives them (see
// [results.ParseThreshold]). It is called after a choice of scenarios was made; [NewPlan] compiles what it
// added. The error is a *scenarios.InvalidError.
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
