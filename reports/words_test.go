package reports

import (
	"slices"
	"testing"

	"github.com/ctload/ctload/results"
)

// TestFootnotes_Remarks shows once how the DUT's kernel changed a setting, with the scenarios
// affected.
func TestFootnotes_Remarks(t *testing.T) {
	const rounded = "the kernel rounded the hash from 1000 up to 1024 buckets, a multiple of 512"
	run := &results.Run{}
	for _, name := range []string{"a", "b", "c"} {
		trial := results.Trial{Verdict: results.Clean}
		if name != "c" {
			trial.Remarks = []string{rounded}
		}
		run.Scenarios = append(run.Scenarios,
			results.Scenario{Name: name, Trials: []results.Trial{trial, trial}})
	}
	if got := footnotes(run, rows(run)); !slices.Contains(got, "a, b: "+rounded) {
		t.Errorf("footnotes %q", got)
	}
}
