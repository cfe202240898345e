package scenarios

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// loadShipped loads a shipped experiment.
func loadShipped(t *testing.T, name string) *Experiment {
	t.Helper()
	e, _, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestOmit_EachShippedScenario omits each scenario of each shipped experiment alone, then all but
// that one: the rest equals that of the shipped experiment, thresholds included.
func TestOmit_EachShippedScenario(t *testing.T) {
	omitted := 0
	for _, name := range Names() {
		whole := loadShipped(t, name)
		var bases []string
		for _, r := range whole.Resolve() {
			if !slices.Contains(bases, r.Base) {
				bases = append(bases, r.Base)
			}
		}
		for _, one := range bases {
			omitted++
			i := slices.Index(bases, one)
			others := slices.Concat(bases[:i], bases[i+1:])
			checkOmit(t, whole, []string{one}, others)
			checkOmit(t, whole, others, []string{one})
			checkSelect(t, whole, one)
		}
	}
	if omitted < 142 {
		t.Errorf("only %d scenarios were left out", omitted)
	}
}

// checkOmit extends a shipped experiment without the scenarios in omit and compares the rest.
func checkOmit(t *testing.T, whole *Experiment, omit, kept []string) {
	t.Helper()
	file := fmt.Sprintf("experiment: mine\nextends: %s\nomit: [%s]\n",
		whole.Name, strings.Join(omit, ", "))
	e, _, err := Parse("mine.yaml", []byte(file))
	if err != nil {
		t.Errorf("%s without %s: %v", whole.Name, strings.Join(omit, ", "), err)
		return
	}
	places := cmp.Options{cmpopts.IgnoreTypes(Position{}), cmpopts.EquateEmpty()}
	if len(kept) == 0 { // the dut unchanged, as in every file without scenarios
		if got := names(e); got != "baseline" {
			t.Errorf("%s without any scenario has %s", whole.Name, got)
		}
		return
	}
	isKept := func(r Resolved) bool { return slices.Contains(kept, r.Base) }
	want := slices.DeleteFunc(whole.Resolve(), func(r Resolved) bool { return !isKept(r) })
	if diff := cmp.Diff(want, e.Resolve(), places); diff != "" {
		t.Errorf("%s without %s:\n%s", whole.Name, strings.Join(omit, ", "), diff)
	}
	of := func(t Threshold) bool { return !slices.ContainsFunc(want, t.AppliesTo) }
	thresholds := slices.DeleteFunc(slices.Clone(whole.Thresholds), of)
	if diff := cmp.Diff(thresholds, e.Thresholds, places); diff != "" {
		t.Errorf("thresholds of %s without %s:\n%s", whole.Name, strings.Join(omit, ", "), diff)
	}
}

// checkSelect selects one scenario of a shipped experiment, as ctload run --scenario does.
func checkSelect(t *testing.T, whole *Experiment, one string) {
	t.Helper()
	e := loadShipped(t, whole.Name)
	if err := e.Select([]string{one}); err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(whole.Resolve(), func(r Resolved) bool { return r.Base != one })
	if diff := cmp.Diff(want, e.Resolve()); diff != "" {
		t.Errorf("%s, %s selected:\n%s", whole.Name, one, diff)
	}
	for _, threshold := range e.Thresholds {
		if !slices.ContainsFunc(want, threshold.AppliesTo) {
			t.Errorf("%s, %s selected: a threshold of %s", whole.Name, one, threshold.Scenario)
		}
	}
}
