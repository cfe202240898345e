package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
)

// mortalLab boots nothing; after a number of tries its host is dead.
type mortalLab struct {
	brokenLab
	name  string
	lives int64 // remaining tries; -1: no limit
	tried atomic.Int64
}

var errNoMachine = errors.New("there is no machine")

func (l *mortalLab) Boot(context.Context, vm.Machine) (vm.Node, error) {
	if n := l.tried.Add(1); l.lives >= 0 && n > l.lives {
		return nil, &vm.LostError{Reason: errors.New(l.name + " went away")}
	}
	return nil, errNoMachine
}

func (l *mortalLab) Survey(context.Context) ([]string, error) {
	if l.lives < 0 || l.tried.Load() <= l.lives {
		return nil, nil
	}
	dead := l.name + " does not answer any more"
	return []string{dead}, &vm.LostError{Reason: errors.New(dead)}
}

// perform runs the three scenarios in concurrent labs.
func perform(t *testing.T, labs ...*mortalLab) (*results.Run, *silent, error) {
	t.Helper()
	folder, err := results.Create(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	view := new(silent)
	job := Job{Plan: planned(t, threeScenarios), View: view, ID: "x"}
	job.Folder = folder
	r := Request{Job: job, Lab: labs[0]}
	for _, lab := range labs[1:] {
		r.Beside = append(r.Beside, lab)
	}
	run, err := Run(t.Context(), r)
	return run, view, err
}

// TestTrialsOfADeadHost: a host that dies costs its trial, which is repeated elsewhere: every trial
// is there once, in order.
func TestTrialsOfADeadHost(t *testing.T) {
	for _, lives := range []int64{0, 1, 2} {
		dies, stays := &mortalLab{name: "first", lives: lives},
			&mortalLab{name: "second", lives: -1}
		run, view, err := perform(t, dies, stays)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range run.Scenarios {
			if len(s.Trials) != 2 || s.Trials[0].Number != 1 || s.Trials[1].Number != 2 {
				t.Errorf("scenario %s has %d trials: %+v", s.Name, len(s.Trials), s.Trials)
			}
		}
		died := dies.tried.Load() > lives
		warnings := strings.Join(run.Warnings, ";")
		if said := strings.Contains(warnings, "first does not answer"); said != died {
			t.Errorf("died: %v, said: %v, warnings %q, notes %q", died, said, run.Warnings,
				view.notes)
		}
		if total := dies.tried.Load() + stays.tried.Load(); died && total != 7 || !died &&
			total != 6 {
			t.Errorf("%d trials were tried in all", total)
		}
	}
}

// TestNoHostIsLeft: when the last host is dead the run ends, with its measurements.
func TestNoHostIsLeft(t *testing.T) {
	run, _, err := perform(t, &mortalLab{name: "first", lives: 1},
		&mortalLab{name: "second", lives: 2})
	if _, lost := errors.AsType[*vm.LostError](err); !lost {
		t.Fatalf("%v is no LostError", err)
	}
	trials := 0
	for _, s := range run.Scenarios {
		trials += len(s.Trials)
	}
	if trials != 3 || len(run.Warnings) != 2 {
		t.Errorf("%d trials are kept of 3, warnings %q", trials, run.Warnings)
	}
}

// TestQueue_Retries lets the host spoil trials: each is queued again under the next number, at most
// as often as asked, and none that is INVALID for a reason of its own.
func TestQueue_Retries(t *testing.T) {
	folder, err := results.Create(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	plan := planned(t, threeScenarios) // two trials of each
	plan.Retries = 2
	job := Job{Plan: plan, View: new(silent), ID: "x", Folder: folder}
	r := Request{Job: job, Lab: new(brokenLab)}
	run := newRun(r)
	q := newQueue(r, run, nil)
	lost := results.Reason{Code: results.CodeLostCPU, Text: "the DUT waited for a CPU"}
	broken := results.Reason{Code: results.CodeBroken, Text: "the agent ended"}
	// happens gives the outcomes of the trials of a scenario, by number; the others are valid.
	happens := map[int]map[int][]results.Reason{
		0: {1: {lost}, 3: {lost}, 4: {lost}}, // a trial whose last attempt is spoilt
		1: {2: {lost}, 3: {broken}},          // one that fails when it is measured again
		2: {1: {broken, lost}},
	}
	for {
		slot, ok, err := q.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		tr := &trial{Request: r, slot: slot, result: results.Trial{Number: slot.Number}}
		tr.result.Entries = map[string]results.Entry{"http": {
			Attempts: results.Attempts{Offered: 1, Completed: new(int64(1))},
		}}
		tr.result.Invalidate(happens[slot.Scenario][slot.Number]...)
		results.Judge(&tr.result)
		if err := q.keep(tr); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"1>3 2 3>4 4", "1 2>3 3", "1 2"}
	valid := []int{1, 1, 1}
	for i, s := range run.Scenarios {
		var said []string
		for _, trial := range s.Trials {
			text := fmt.Sprint(trial.Number)
			if trial.RepeatedAs > 0 {
				text += fmt.Sprint(">", trial.RepeatedAs)
			}
			said = append(said, text)
		}
		if got := strings.Join(said, " "); got != want[i] || s.Valid() != valid[i] {
			t.Errorf("%s: trials %q, %d valid, want %q, %d",
				s.Name, got, s.Valid(), want[i], valid[i])
		}
	}
	if list := results.Unmeasured(run); len(list) != 3 {
		t.Errorf("not measured: %q, want one trial of each scenario", list)
	}
}

// TestWhyInvalid_Limits checks that every limit of a generator has a cure.
func TestWhyInvalid_Limits(t *testing.T) {
	for _, limit := range []generators.LimitCode{
		generators.LimitDescriptors, generators.LimitSourcePorts, generators.LimitMemory,
		generators.LimitNetfilter, generators.LimitPackets, generators.LimitConntrack,
		generators.LimitPacing, generators.LimitRate, generators.LimitTuples,
	} {
		var trial results.Trial
		trial.Invalidate(results.Reason{Code: results.GeneratorLimit(string(limit)), Text: "x"})
		if words := trial.WhyInvalid(); !strings.Contains(words, "Fix: ") {
			t.Errorf("%s: %s", limit, words)
		}
	}
}

// TestQueue_Resume goes on with a run: trials that were made stay, missing ones are queued, and so
// are attempts that were due when the run ended.
func TestQueue_Resume(t *testing.T) {
	plan := planned(t, threeScenarios) // two trials of each
	plan.Retries = 2
	r := Request{Job: Job{Plan: plan, View: new(silent)}, Lab: new(brokenLab)}
	spoilt := func(number, repeated int) results.Trial {
		trial := results.Trial{Number: number, RepeatedAs: repeated, Verdict: results.Invalid}
		trial.Invalidate(results.Reason{Code: results.CodeLostCPU, Text: "waited"})
		return trial
	}
	run := newRun(r)
	run.Seconds = 100
	// The first is whole, the second lacks trial 2, and the third needs a trial measured once more.
	run.Scenarios[0].Trials = []results.Trial{{Number: 1}, {Number: 2}}
	run.Scenarios[1].Trials = []results.Trial{spoilt(1, 3), {Number: 3}}
	run.Scenarios[2].Trials = []results.Trial{spoilt(1, 4), {Number: 2}, spoilt(4, 0)}
	q := newQueue(r, run, nil)
	want := []Slot{{Scenario: 1, Number: 2}, {Scenario: 2, Number: 5, Repeats: 4, Attempt: 2}}
	if diff := cmp.Diff(want, q.open); diff != "" {
		t.Errorf("queued (-want +got):\n%s", diff)
	}
	if q.begun != 7 || time.Since(q.origin) < 100*time.Second {
		t.Errorf("%d trials were begun, %v ago", q.begun, time.Since(q.origin))
	}
	plan.Retries = 1
	if q := newQueue(r, run, nil); len(q.open) != 1 {
		t.Errorf("queued with one retry: %+v", q.open)
	}
}

// TestQueue_NotAsAsked leaves out the further trials of a scenario that the DUT did not become,
// also where the run is resumed.
func TestQueue_NotAsAsked(t *testing.T) {
	folder, err := results.Create(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	plan := planned(t, threeScenarios) // two trials of each
	view := new(silent)
	r := Request{Job: Job{Plan: plan, View: view, ID: "x", Folder: folder}, Lab: new(brokenLab)}
	run := newRun(r)
	q := newQueue(r, run, nil)
	unlike := results.Reason{Code: results.CodeNotAsAsked, Text: "the hash has 7 buckets"}
	perform := func(slot Slot) {
		tr := &trial{Request: r, slot: slot, result: results.Trial{Number: slot.Number}}
		if slot.Scenario == 1 {
			tr.result.Invalidate(unlike)
		}
		results.Judge(&tr.result)
		if err := q.keep(tr); err != nil {
			t.Fatal(err)
		}
	}
	for len(run.Scenarios[1].Trials) == 0 {
		slot, ok, _ := q.next()
		if !ok {
			t.Fatal("the queue is empty")
		}
		perform(slot)
	}
	q = newQueue(r, run, nil) // as after an interrupt
	for {
		slot, ok, _ := q.next()
		if !ok {
			break
		}
		perform(slot)
	}
	var made []int
	for _, s := range run.Scenarios {
		made = append(made, len(s.Trials))
	}
	if diff := cmp.Diff([]int{2, 1, 2}, made); diff != "" {
		t.Errorf("trials of each scenario (-want +got):\n%s", diff)
	}
	const said = "is not tried again: the DUT was not as asked, and would not be " +
		"(trials left out: 1)"
	if w := strings.Join(run.Warnings, ";"); !strings.Contains(w, said) {
		t.Errorf("warnings %q", run.Warnings)
	}
}
