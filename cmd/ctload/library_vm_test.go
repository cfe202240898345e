package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// canaries are the shipped experiments that always run, besides those that other tests run; make
// test-long runs all of them.
var canaries = []string{"stale-dnat"}

// firstScreen checks that 24 lines of 80 columns hold the answer of a run.
func firstScreen(t *testing.T, run *results.Run) {
	t.Helper()
	var b bytes.Buffer
	if err := reports.Render(&b, "table", run, reports.Options{}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	screen := strings.Join(strings.Fields(strings.Join(lines[:min(24, len(lines))], " ")), " ")
	c := results.Conclude(run)
	wanted := []string{"Broke", c.Answer, c.Cost}
	for _, f := range c.Fixes {
		wanted = append(wanted, f.Scenario)
	}
	if len(c.Steps) > 0 {
		wanted = append(wanted, "Apply "+c.Scenario)
	}
	for _, words := range wanted {
		if !strings.Contains(screen, words) {
			t.Errorf("%q is not in the first 24 lines:\n%s", words, b.String())
		}
	}
}

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
