package results

import (
	"fmt"
	"strings"
)

// Failure is a reason why a run fails: a threshold that did not hold, or a regression.
type Failure struct {
	Scenario   string
	Threshold  *Outcome // nil for a regression
	Regression *Regression
}

func (f Failure) String() string {
	if f.Regression != nil {
		return "REGRESSION " + f.Regression.String()
	}
	return fmt.Sprintf("FAILED %s: %s (%s)", f.Scenario, f.Threshold.Expression, f.Threshold.Actual)
}

// Failures returns the thresholds of a run that did not hold, then its regressions.
func Failures(run *Run) []Failure {
	var list []Failure
	for _, s := range run.Scenarios {
		for i := range s.Thresholds {
			if o := &s.Thresholds[i]; !o.Passed {
				list = append(list, Failure{Scenario: s.Name, Threshold: o})
			}
		}
	}
	for i := range run.Regressions {
		list = append(list, Failure{Scenario: run.Regressions[i].Scenario, Regression: &run.Regressions[i]})
	}
	return list
}

// Unmeasured returns a line for each part of a run without a valid measurement: its INVALID trials
// with the first reason, and scenarios without any trial.
func Unmeasured(run *Run) []string {
	var list []string
	for _, s := range run.Scenarios {
		if len(s.Trials) == 0 {
			list = append(list, "no trial of "+s.Name)
		}
		for _, t := range s.Trials {
			if t.Verdict != Invalid {
				continue
			}
			text := fmt.Sprintf("trial %d of %s", t.Number, s.Name)
			if len(t.Invalid) > 0 {
				reason, _, _ := strings.Cut(t.Invalid[0], "\n") // a console may follow
				text += ": " + reason
			}
			list = append(list, text)
		}
	}
	return list
}
