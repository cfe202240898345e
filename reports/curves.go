package reports

import (
	"cmp"
	"encoding/json"

	"github.com/ctload/ctload/results"
)

// UnderWay is a trial that is being measured, with what is known of it so far.
type UnderWay struct {
	Scenario string
	Trial    results.Trial
	Samples  []results.Sample
	Probes   []results.ProbeSample
	// LoadOver tells that the recovery is watched: Trial.Seconds is then the length of the load.
	LoadOver bool
}

// Curves returns the curves of trials under way for the page's charts, as a JSON list of objects
// with the scenario's name and the trial.
func Curves(trials []UnderWay) ([]byte, error) {
	type curve struct {
		Scenario string    `json:"scenario"`
		Trial    plotTrial `json:"trial"`
	}
	list := []curve{}
	for _, u := range trials {
		t := u.Trial
		if n := len(u.Samples); n > 0 && !u.LoadOver {
			t.Seconds = max(0, u.Samples[n-1].Seconds)
		}
		results.Summarise(&t, u.Samples, u.Probes)
		p := plotOf(&t, u.Samples, u.Probes, fewPoints)
		p.Verdict = cmp.Or(p.Verdict, "under way")
		if !u.LoadOver {
			p.Marks = append(p.Marks[:1], p.Marks[2:]...) // without the beginning of the recovery
		}
		list = append(list, curve{u.Scenario, p})
	}
	return json.Marshal(list)
}
