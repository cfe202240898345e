package orchestrator

import (
	"errors"
	"testing"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/scenarios"
)

// TestBaselineOfAnotherAccelerator: only a run shows the lab's accelerator. A baseline of another
// one passes the check before the run and is refused at its end; the thresholds are judged all the
// same.
func TestBaselineOfAnotherAccelerator(t *testing.T) {
	experiment, _, err := scenarios.Load("table-full")
	if err != nil {
		t.Fatal(err)
	}
	if err := experiment.Select([]string{"raw-notrack"}); err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(experiment, 1)
	if err != nil {
		t.Fatal(err)
	}
	measured := func(accelerator string) *results.Run {
		run := plan.Expected()
		run.Environment.Driver, run.Environment.Accelerator = "libvirt", accelerator
		run.Scenarios[0].Trials = []results.Trial{{Number: 1, Verdict: results.Clean,
			Load: &results.Load{Attempts: results.Attempts{
				Offered: 10, Completed: new(int64(10)),
			}}}}
		return run
	}
	for accelerator, wantUnlike := range map[string]bool{"tcg": false, "kvm": true} {
		baseline := &compare.Baseline{Name: "last", Run: measured(accelerator), Allowed: 0.1}
		if err := baseline.Check(plan.Expected()); err != nil {
			t.Errorf("%s, before the run: %v", accelerator, err)
		}
		run := measured("tcg")
		if err := plan.conclude(run); err != nil {
			t.Fatal(err)
		}
		err := baseline.Judge(run)
		if _, unlike := errors.AsType[*compare.UnlikeError](err); unlike != wantUnlike || !unlike &&
			err != nil {
			t.Errorf("%s: %v", accelerator, err)
		}
		if compared := run.Baseline == "last"; compared == wantUnlike {
			t.Errorf("%s: compared with %q", accelerator, run.Baseline)
		}
		if len(run.Scenarios[0].Thresholds) == 0 {
			t.Errorf("%s: no threshold was judged", accelerator)
		}
	}
	// Another host is known before the run.
	other := measured("tcg")
	other.Environment.HostCPU = "another CPU"
	if err := (&compare.Baseline{Name: "last", Run: other}).Check(plan.Expected()); err == nil {
		t.Error("a baseline of another CPU passed")
	}
}
