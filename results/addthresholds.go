package results

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// allScenarios is the scenario name of a threshold for all scenarios.
const allScenarios = "all"

// ParseThreshold splits a threshold from a command line: EXPRESSION for all scenarios,
// SCENARIO=EXPRESSION for one of names. It does not compile the expression.
func ParseThreshold(text string, names []string) (scenario, expression string, err error) {
	scenario, expression = allScenarios, text
	for _, name := range append([]string{allScenarios}, names...) {
		// The name of one scenario may begin that of another.
		rest, ok := strings.CutPrefix(text, name+"=")
		if ok && !strings.HasPrefix(rest, "=") && (scenario == allScenarios || len(name) > len(scenario)) {
			scenario, expression = name, rest
		}
	}
	if name := named.FindStringSubmatch(expression); name != nil {
		return "", "", fmt.Errorf("%q: a comparison is written ==, and there is no scenario %q here%s",
			text, name[1], spelling.Hint(name[1], append([]string{allScenarios}, names...)))
	}
	return scenario, expression, nil
}

// named matches an expression after a name and an equals sign, which no expression begins with.
var named = regexp.MustCompile(`^\s*([A-Za-z0-9_][A-Za-z0-9_.@/-]*)\s*=[^=]`)

// AddThresholds judges a measured run by further thresholds, given as on a command line, beside
// those that it was judged by. The name of a scenario may omit what a matrix added to it.
func AddThresholds(run *Run, texts []string) error {
	var names []string
	for _, s := range run.Scenarios {
		for _, name := range []string{baseName(s.Name), s.Name} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	for _, text := range texts {
		scenario, expression, err := ParseThreshold(text, names)
		if err != nil {
			return err
		}
		threshold, err := CompileThreshold(expression)
		if err != nil {
			return err
		}
		for i := range run.Scenarios {
			s := &run.Scenarios[i]
			if scenario == allScenarios || scenario == s.Name || scenario == baseName(s.Name) {
				s.Thresholds = append(s.Thresholds, CheckThresholds([]*Threshold{threshold}, s)...)
			}
		}
	}
	return nil
}

// baseName returns the name of a scenario without what a matrix or a choice of kernels added to it.
func baseName(name string) string {
	base, _, _ := strings.Cut(name, "@")
	return base
}
