package orchestrator

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// brokenLab boots nothing: each boot ends with the next of its errors.
type brokenLab struct {
	errs  []error
	boots int
}

func (l *brokenLab) Boot(context.Context, vm.Machine) (vm.Node, error) {
	l.boots++
	return nil, l.errs[min(l.boots, len(l.errs))-1]
}
func (l *brokenLab) Join(context.Context, vm.LoadNode) (vm.Node, error) {
	return nil, errors.ErrUnsupported
}
func (l *brokenLab) About() vm.About { return vm.About{Driver: "none", Accelerator: "none"} }
func (l *brokenLab) Close() error    { return nil }

// silent is a view that shows nothing.
type silent struct {
	mu    sync.Mutex
	notes []string
}

// Take implements [events.Sink].
func (v *silent) Take(e events.Event) {
	if e.Kind != events.Noted {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.notes = append(v.notes, e.Note)
}

// planned returns the plan of an experiment given as text.
func planned(t *testing.T, text string) *Plan {
	t.Helper()
	file := filepath.Join(t.TempDir(), "experiment.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	experiment, _, err := scenarios.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(experiment, 7)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

const threeScenarios = `
experiment: three
workload: [{generator: http, requests: 10, concurrency: 2}]
scenarios: {a: {}, b: {}, c: {}}
trials: 2
`

func TestRunWithoutMachines(t *testing.T) {
	boot := &vm.BootError{Node: "dut", Reason: errors.New("no kernel"),
		Console: "Kernel panic - not syncing: VFS"}
	lost := &vm.LostError{Reason: errors.New("the daemon has ended")}
	for _, tc := range []struct {
		name  string
		errs  []error
		boots int
		word  string // in the error of the run
		note  string
	}{
		{"the next boot would fail as well", []error{boot}, failedBootsInARow,
			"2 machines in a row did not boot", "Kernel panic"},
		{"the lab is gone", []error{lost}, 1, "the lab is gone", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			folder, err := results.Create(filepath.Join(t.TempDir(), "run"))
			if err != nil {
				t.Fatal(err)
			}
			lab, view := &brokenLab{errs: tc.errs}, &silent{}
			job := Job{Plan: planned(t, threeScenarios), View: view, ID: "x", Folder: folder}
			run, err := Run(t.Context(), Request{Job: job, Lab: lab})
			if err == nil || !strings.Contains(err.Error(), tc.word) || lab.boots != tc.boots {
				t.Errorf("%v after %d boots; want an error with %q after %d", err, lab.boots,
					tc.word, tc.boots)
			}
			if !strings.Contains(strings.Join(view.notes, "\n"), tc.note) {
				t.Errorf("the notes %q lack %q", view.notes, tc.note)
			}
			kept, err := folder.Load()
			if err != nil {
				t.Fatal(err)
			}
			invalid := 0
			for _, s := range kept.Scenarios {
				for _, trial := range s.Trials {
					if trial.Verdict == results.Invalid && len(trial.Invalid) > 0 {
						invalid++
					}
				}
			}
			if invalid != tc.boots || len(run.Scenarios) != 3 {
				t.Errorf("%d INVALID trials are kept of %d", invalid, tc.boots)
			}
		})
	}
}

func TestRunThatIsInterrupted(t *testing.T) {
	folder, err := results.Create(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	job := Job{Plan: planned(t, threeScenarios), View: &silent{}, Folder: folder}
	lab := &brokenLab{errs: []error{ctx.Err()}}
	run, err := Run(ctx, Request{Job: job, Lab: lab})
	if !errors.Is(err, context.Canceled) || !run.Interrupted {
		t.Errorf("%v, interrupted %v", err, run.Interrupted)
	}
}

// TestPlanOrder: trials go in rounds, so that a drift of the host affects all scenarios alike; the
// same seed gives the same order.
func TestPlanOrder(t *testing.T) {
	plan := planned(t, threeScenarios)
	for round := range 2 {
		seen := map[int]bool{}
		for _, slot := range plan.Order[3*round : 3*round+3] {
			if slot.Number != round+1 {
				t.Errorf("trial %d in round %d", slot.Number, round+1)
			}
			seen[slot.Scenario] = true
		}
		if len(seen) != 3 {
			t.Errorf("round %d has %d of 3 scenarios", round+1, len(seen))
		}
	}
	if diff := cmp.Diff(plan.Order, planned(t, threeScenarios).Order); diff != "" {
		t.Error(diff)
	}
}

// TestConfigurationHasAllRules requires the rules of both families in run.json's configuration.
func TestConfigurationHasAllRules(t *testing.T) {
	got := configuration(scenarios.Configuration{Rules: "4", Rules6: "6", NFT: "n", IPVS: "i"})
	if got.Rules != "4" || got.Rules6 != "6" || got.NFT != "n" || got.IPVS != "i" {
		t.Errorf("%+v", got)
	}
}
