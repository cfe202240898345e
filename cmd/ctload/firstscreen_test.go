package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

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

// TestFirstScreen_Library: whichever scenario of a shipped experiment holds where the first one
// breaks, the first screen has the answer. No machine boots: the trials are made up, and the
// configurations, summaries, loads and actions are those of the experiment.
func TestFirstScreen_Library(t *testing.T) {
	for _, name := range scenarios.Names() {
		experiment, _, err := scenarios.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := orchestrator.NewPlan(experiment, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range plan.Scenarios[1:] {
			run := plan.Expected()
			for j := range run.Scenarios {
				s := &run.Scenarios[j]
				s.Trials = []results.Trial{madeUp(run, s, j == i+1)}
				s.Thresholds = []results.Outcome{{Expression: "asserted", Passed: true}}
			}
			cure := &run.Scenarios[i+1]
			t.Run(name+"/"+cure.Name, func(t *testing.T) {
				firstScreen(t, run)
				c := results.Conclude(run)
				switch otherLoad := strings.Contains(c.Answer, "with another load: "+cure.Name); {
				case cure.Workload != nil && otherLoad:
				case c.Scenario == cure.Name:
				case len(c.Fixes) > 0 && !fixes(cure):
				default:
					t.Errorf("the answer is %q", c.Answer)
				}
			})
		}
	}
}

// fixes reports whether a scenario has a fix among its actions.
func fixes(s *results.Scenario) bool {
	for _, a := range s.Trials[0].Actions {
		if a.Fix {
			return true
		}
	}
	return false
}

// madeUp returns a trial of a scenario, of a table that was full or of one that held.
func madeUp(run *results.Run, s *results.Scenario, held bool) results.Trial {
	load := results.Attempts{
		Unit: "requests", Offered: 5000, Completed: new(int64(4263)), Failed: 737,
	}
	trial := results.Trial{
		Number: 1, Seconds: 20, Entries: map[string]results.Entry{},
		Conntrack: results.Conntrack{
			Tracked: true, Max: 4096, Buckets: 4096, Peak: 4096, SecondsToFull: new(2.5),
			Counters: results.Counters{Drop: 4356, EarlyDrop: 1286},
		},
		Recovery: &results.Recovery{Watched: 2},
	}
	if held {
		load = results.Attempts{Unit: "requests", Offered: 5000, Completed: new(int64(5000))}
		trial.Conntrack = results.Conntrack{
			Tracked: true, Max: 262144, Buckets: 65536, Peak: 5101, ObjectBytes: 256,
		}
	}
	trial.Load = &results.Load{Generator: "http", Attempts: load}
	trial.Entries["http"] = results.Entry{Kind: "http", Attempts: load}
	for _, asked := range s.Actions {
		kind, _ := asked["action"].(string)
		fix, _ := asked["fix"].(bool)
		trial.Actions = append(trial.Actions,
			results.Action{Name: kind, Kind: kind, Where: "dut", Fix: fix, Begun: new(12.0)})
	}
	acted := func(s results.Scenario) bool { return len(s.Actions) > 0 }
	if slices.ContainsFunc(run.Scenarios, acted) {
		trial.Heal = &results.Heal{Deviated: new(2.5), SecondsToDeviate: new(2.5)}
	}
	if trial.Heal != nil && held {
		trial.Heal.Healed, trial.Heal.SecondsToHeal = new(12.3), new(0.3)
	}
	results.Judge(&trial)
	return trial
}

// TestFirstScreen_Measured: the first screen of the runs behind docs/results has the answer, and
// calls no scenario enough that broke.
func TestFirstScreen_Measured(t *testing.T) {
	files, err := filepath.Glob("../../docs/results/runs/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var run results.Run
			if err := json.Unmarshal(text, &run); err != nil {
				t.Fatal(err)
			}
			firstScreen(t, &run)
			c := results.Conclude(&run)
			if len(c.Fixes) > 0 {
				return
			}
			for _, b := range c.Broke {
				if b.Scenario == c.Scenario {
					t.Errorf("%s broke, and the answer is %q", b.Scenario, c.Answer)
				}
			}
		})
	}
}
