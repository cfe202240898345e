package reports

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ctload/ctload/results"
)

// TestRender_Repeated renders a run with a trial that the host spoilt and another trial repeated:
// each format has its reason and its code, none counts it, and the run passes.
func TestRender_Repeated(t *testing.T) {
	trial := func(number int) results.Trial {
		all := results.Attempts{Unit: "requests", Offered: 10, Completed: new(int64(10))}
		return results.Trial{
			Number: number, Load: &results.Load{Attempts: all},
			Entries: map[string]results.Entry{"http": {Attempts: all}},
		}
	}
	spoilt, again := trial(1), trial(2)
	spoilt.Invalidate(results.Reason{Code: results.CodeLostCPU, Text: "the DUT waited 35 %"})
	spoilt.RepeatedAs = 2
	run := &results.Run{Experiment: "web", Scenarios: []results.Scenario{{
		Name: "one", Trials: []results.Trial{spoilt, again},
		Thresholds: []results.Outcome{{Expression: "load.failed == 0", Passed: true}},
	}}}
	for i := range run.Scenarios[0].Trials {
		results.Judge(&run.Scenarios[0].Trials[i])
	}
	for _, format := range Formats() {
		var b bytes.Buffer
		if err := Render(&b, format, run, Options{Width: 200, Verbose: true}); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		for _, words := range []string{"lost-cpu", "leave the host idle CPUs"} {
			if format != "openmetrics" && !strings.Contains(text, words) { // valid ones alone
				t.Errorf("%s lacks %q:\n%s", format, words, text)
			}
		}
		if strings.Contains(text, "1 INVALID") || strings.Contains(text, "could not be measured") ||
			strings.Contains(text, "not everything was measured") ||
			strings.Contains(text, `errors="1"`) {
			t.Errorf("%s counts the trial:\n%s", format, text)
		}
	}
	if list := results.Unmeasured(run); len(list) > 0 {
		t.Errorf("not measured: %q", list)
	}
}
