package orchestrator

import (
	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// Describe returns the description of an experiment, with an estimate of how long a run of it
// takes.
func Describe(experiment *scenarios.Experiment) (results.Description, error) {
	plan, err := NewPlan(experiment, 1)
	if err != nil {
		return results.Description{}, err
	}
	about := experiment.Documentation
	d := results.Description{
		Name: experiment.Name, Group: string(about.Group), Title: about.Group.Title(), Summary: experiment.Summary,
		Seconds: plan.estimate(labs.EmulatedPace).Seconds(), Story: about.Story, Watch: about.Watch, Sources: about.Sources,
	}
	for _, s := range plan.Scenarios {
		d.Scenarios = append(d.Scenarios, results.DescribedOption{Name: s.Name, Summary: s.Summary})
	}
	return d, nil
}
