package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// canaries are the shipped experiments that always run, besides those that other tests run; make
// test-long runs all of them.
var canaries = []string{"stale-dnat"}

// TestLibrary runs shipped experiments: their thresholds hold the claims of their documentation,
// for the scenarios with the fault as for those with the cure.
func TestLibrary(t *testing.T) {
	needsLab(t)
	names := canaries
	if hosttest.Long() {
		names = scenarios.Names()
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			want := statusOK
			if name == "generator-limit" {
				want = statusInvalid // the experiment shows just that
			}
			o, _ := measuredRun(t, 15*time.Minute, name)
			if o.status != want {
				t.Errorf("exit status %d, want %d\n%s", o.status, want, o.stderr)
			}
			var run results.Run
			if err := json.Unmarshal([]byte(o.stdout), &run); err != nil {
				t.Fatalf("%v in %s", err, o.stdout)
			}
			asserted := 0
			for _, s := range run.Scenarios {
				for _, trial := range s.Trials {
					t.Logf("%s: %s", s.Name, trial.Sentence)
					deliberate := name == "generator-limit" && s.Name == "200-ports"
					if (trial.Verdict == results.Invalid) != deliberate {
						t.Errorf("%s: verdict %s", s.Name, trial.Verdict)
					}
				}
				asserted += len(s.Thresholds)
				for _, outcome := range s.Thresholds {
					if !outcome.Passed {
						t.Errorf("%s: %s does not hold: %s",
							s.Name, outcome.Expression, outcome.Actual)
					}
				}
			}
			if asserted == 0 {
				t.Error("the experiment asserts nothing")
			}
			firstScreen(t, &run)
		})
	}
}
