package compare

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
)

// planned returns what is known of a run before it starts.
func planned(r *results.Run) *results.Run {
	p := *r
	p.Environment.Driver, p.Environment.Accelerator = "", ""
	p.Scenarios = nil
	for _, s := range r.Scenarios {
		s.Trials = nil
		p.Scenarios = append(p.Scenarios, s)
	}
	return &p
}

func TestBaselineIsCheckedBefore(t *testing.T) {
	for _, test := range []struct {
		name  string
		base  *results.Run
		now   *results.Run
		words string // of the refusal; empty: none
	}{
		{"alike", simple("kvm", results.Clean, 0, 0), simple("kvm", results.Clean, 0, 0), ""},
		{
			"the accelerator is known later", simple("kvm", results.Clean, 0, 0),
			simple("tcg", results.Clean, 0, 0), "",
		},
		{
			"nothing valid there", simple("kvm", results.Invalid, 0, 0),
			simple("kvm", results.Clean, 0, 0), "last has no valid trial of baseline",
		},
		{
			"another experiment",
			&results.Run{Experiment: "x", Scenarios: simple("kvm", results.Clean, 0, 0).Scenarios},
			simple("kvm", results.Clean, 0, 0), "experiment: x in last, none in this run",
		},
		{
			"another scenario", &results.Run{Scenarios: []results.Scenario{{Name: "other"}}},
			simple("kvm", results.Clean, 0, 0), "no scenario in common",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &Baseline{Name: "last", Run: test.base}
			err := b.Check(planned(test.now))
			_, unlike := errors.AsType[*UnlikeError](err)
			if unlike != (test.words != "") ||
				err != nil && !strings.Contains(err.Error(), test.words) {
				t.Errorf("got %v, want %q", err, test.words)
			}
		})
	}
}

func TestBaseline_TooFew(t *testing.T) {
	for _, test := range []struct {
		base *results.Run
		now  int
		want bool
	}{
		{simple("kvm", results.Clean, 0, 0), 1, true},
		{simple("kvm", results.Clean, 0, 0), 8, false},
		{simple("kvm", results.Clean, 0, 0, 0), 2, true},
		{simple("kvm", results.Clean, 0, 0, 0), 3, false},
		{simple("kvm", results.Clean, 0, 0, 0, 0), 3, false},
	} {
		b := &Baseline{Run: test.base}
		if got := b.TooFew(test.now); got != test.want {
			t.Errorf("%d trials, and %d now: %v", test.base.Scenarios[0].Valid(), test.now, got)
		}
	}
}

func TestBaselineJudges(t *testing.T) {
	b := &Baseline{Name: "last", Run: simple("tcg", results.Clean, 0, 0, 0, 0), Allowed: 0.1}
	run := simple("tcg", results.TableFull, 40, 20, 25, 30)
	if err := b.Judge(run); err != nil {
		t.Fatal(err)
	}
	want := []results.Regression{
		{Scenario: "baseline", Metric: "verdict", Before: "clean", After: "table-full"},
		{Scenario: "baseline", Metric: "load.failed", Before: "0", After: "25",
			Effect: "+25, +20 to +30"},
		{Scenario: "baseline", Metric: "conntrack.drop", Before: "0", After: "40",
			Effect: "+40, +40 to +40"},
	}
	if diff := cmp.Diff(want, run.Regressions); diff != "" || run.Baseline != "last" ||
		run.MaxRegression != 0.1 || len(run.BaselineNotes) == 0 {
		t.Errorf("%+v\n%s", run, diff)
	}
	// Judged again, against a better run.
	again := &Baseline{Name: "other", Run: simple("tcg", results.TableFull, 40, 20), Allowed: 0.2}
	if err := again.Judge(run); err != nil || run.Regressions != nil || run.Baseline != "other" {
		t.Errorf("%v: %+v", err, run)
	}
	unlike := simple("kvm", results.Clean, 0, 0)
	if err := b.Judge(unlike); err == nil || unlike.Baseline != "" {
		t.Errorf("%v: %+v", err, unlike)
	}
}
