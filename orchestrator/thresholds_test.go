package orchestrator

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/scenarios"
)

func TestAddThresholds(t *testing.T) {
	for _, test := range []struct {
		text string
		want [2]string // scenario and expression
		says string    // in the refusal; empty: none
	}{
		{text: "conntrack.drop == 0", want: [2]string{"all", "conntrack.drop == 0"}},
		{text: "conntrack.drop==0", want: [2]string{"all", "conntrack.drop==0"}},
		{text: `verdict=="clean"`, want: [2]string{"all", `verdict=="clean"`}},
		{text: "load.failed<=3", want: [2]string{"all", "load.failed<=3"}},
		{text: "load.failed>=3", want: [2]string{"all", "load.failed>=3"}},
		{text: "load.failed!=3", want: [2]string{"all", "load.failed!=3"}},
		{text: "raw-notrack=conntrack.drop == 0", want: [2]string{"raw-notrack",
			"conntrack.drop == 0"}},
		{text: "raw-notrack= conntrack.drop == 0", want: [2]string{"raw-notrack",
			" conntrack.drop == 0"}},
		{text: "all=conntrack.drop == 0", want: [2]string{"all", "conntrack.drop == 0"}},
		{text: "let x = conntrack.drop; x == 0", want: [2]string{"all",
			"let x = conntrack.drop; x == 0"}},
		{text: "raw-notrak=conntrack.drop == 0", says: `no scenario "raw-notrak"`},
		{text: "conntrack.drop = 0", says: "is written =="},
		{text: "raw-notrack=conntrack.drop=0", says: "is written =="},
	} {
		experiment, _, err := scenarios.Load("table-full")
		if err != nil {
			t.Fatal(err)
		}
		before := len(experiment.Thresholds)
		err = AddThresholds(experiment, []string{test.text})
		if test.says != "" {
			if _, invalid := errors.AsType[*scenarios.InvalidError](err); !invalid ||
				!strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: %v", test.text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		added := experiment.Thresholds[before]
		if diff := cmp.Diff(test.want, [2]string{added.Scenario, added.Expression}); diff != "" {
			t.Errorf("%s: %s", test.text, diff)
		}
		if _, err := NewPlan(experiment, 1); err != nil {
			t.Errorf("%s: %v", test.text, err)
		}
	}
}

// TestAddThresholdsToAMatrix: a name may begin another one, as those of a matrix do, without taking
// its place.
func TestAddThresholdsToAMatrix(t *testing.T) {
	experiment, _, err := scenarios.Load("table-full")
	if err != nil {
		t.Fatal(err)
	}
	if err := experiment.SetKernels([]string{"debian/bookworm", "debian/trixie"}); err != nil {
		t.Fatal(err)
	}
	name := experiment.Resolve()[0].Name
	if err := AddThresholds(experiment, []string{name + "=conntrack.drop == 0",
		"baseline=conntrack.drop == 1"}); err != nil {
		t.Fatal(err)
	}
	n := len(experiment.Thresholds)
	got := []string{experiment.Thresholds[n-2].Scenario, experiment.Thresholds[n-1].Scenario}
	if diff := cmp.Diff([]string{name, "baseline"}, got); diff != "" || name == "baseline" {
		t.Errorf("%s: %s", name, diff)
	}
}

// TestAddedThresholdThatDoesNotCompile: a threshold that does not compile is refused with its place
// before anything starts.
func TestAddedThresholdThatDoesNotCompile(t *testing.T) {
	experiment, _, err := scenarios.Load("table-full")
	if err != nil {
		t.Fatal(err)
	}
	if err := AddThresholds(experiment, []string{"conntrack.drp == 0"}); err != nil {
		t.Fatal(err)
	}
	_, err = NewPlan(experiment, 1)
	if _, invalid := errors.AsType[*scenarios.InvalidError](err); !invalid ||
		!strings.Contains(err.Error(), `"conntrack.drop"`) ||
		!strings.HasPrefix(err.Error(), "--threshold: ") {
		t.Errorf("got %v", err)
	}
}
