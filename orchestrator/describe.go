package orchestrator

import (
	"time"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// Describe is what an experiment says of itself, with about how long a run of it takes.
func Describe(experiment *scenarios.Experiment) (results.Description, error) {
	plan, err := NewPlan(experiment, 1)
	if err != nil {
		return results.Description{}, err
	}
	about := experiment.Documentation
	d := results.Description{
		Name: experiment.Name, Group: string(about.Group), Title: about.Group.Title(), Summary: experiment.Summary,
		Seconds: estimate(plan).Seconds(), Story: about.Story, Watch: about.Watch, Sources: about.Sources,
	}
	for _, s := range plan.Scenarios {
		d.Scenarios = append(d.Scenarios, results.DescribedOption{Name: s.Name, Summary: s.Summary})
	}
	return d, nil
}

// estimate is about how long a plan takes where guests are emulated.
func estimate(plan *Plan) time.Duration {
	var total float64
	for _, slot := range plan.Order {
		s := plan.Scenarios[slot.Scenario]
		end, known := loadEnd(s)
		if !known {
			end = time.Duration(s.Phases.Total()).Seconds()
			for _, e := range s.Workload {
				end = max(end, s.Begins(e).Seconds()+float64(e.Number())/300+time.Duration(e.Duration).Seconds())
			}
		}
		total += 6 + end + plan.Experiment.Recovery.Seconds()
	}
	return time.Duration(total * float64(time.Second))
}
