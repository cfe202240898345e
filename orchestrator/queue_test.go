package orchestrator

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

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
	r := Request{Job: job, Lab: labs[0], Folder: folder}
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
