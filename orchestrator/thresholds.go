package orchestrator

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/scenarios"
)

// AddThresholds adds thresholds to an experiment as a command line gives them: EXPRESSION for all
// scenarios, SCENARIO=EXPRESSION for one. It is called after a choice of scenarios was made; [NewPlan]
// compiles what it added. The error is a *scenarios.InvalidError.
func AddThresholds(experiment *scenarios.Experiment, texts []string) error {
	names := []string{allScenarios}
	for _, s := range experiment.Resolve() {
		for _, name := range []string{s.Base, s.Name} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	at := scenarios.Position{File: "--threshold"}
	for _, text := range texts {
		t := scenarios.Threshold{Scenario: allScenarios, Expression: text, Position: at}
		for _, name := range names {
			// The name of one scenario may begin that of another.
			rest, ok := strings.CutPrefix(text, name+"=")
			if ok && !strings.HasPrefix(rest, "=") && (t.Scenario == allScenarios || len(name) > len(t.Scenario)) {
				t.Scenario, t.Expression = name, rest
			}
		}
		if name := named.FindStringSubmatch(t.Expression); name != nil {
			return experiment.Invalid(at, fmt.Sprintf("%q: there is no scenario %q here, but %s; and to compare, it is ==",
				text, name[1], strings.Join(names, ", ")))
		}
		experiment.Thresholds = append(experiment.Thresholds, t)
	}
	return nil
}

// allScenarios is what a threshold says that is about all of them.
const allScenarios = "all"

// named is an expression after a name and an equals sign, which no expression begins with.
var named = regexp.MustCompile(`^\s*([A-Za-z0-9_][A-Za-z0-9_.@/-]*)\s*=[^=]`)
