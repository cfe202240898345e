package orchestrator

import (
	"slices"
	"testing"

	"github.com/ctload/ctload/orchestrator/goals"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/search"
)

// looking begins a search for the highest rate that a table of 1000 takes for 5 s.
func looking(t *testing.T, run *results.Run) *limitSearch {
	t.Helper()
	e, _, err := scenarios.Parse("x.yaml", []byte(`experiment: x
dut: {sysctl: {net.netfilter.nf_conntrack_max: 1000},
  rules: "*filter\n-A INPUT -m conntrack --ctstate INVALID -j DROP\nCOMMIT"}
workload: [{name: users, generator: hold, connections: 500, rate: 100/s, duration: 1s}]
`))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(e, 1)
	if err != nil {
		t.Fatal(err)
	}
	goal, err := goals.Parse(goals.Highest, "rate")
	if err != nil {
		t.Fatal(err)
	}
	h, err := Search{
		Goal: goal, Resolution: .02, Confidence: .95, MaxTrials: 12, Retries: 2,
	}.prepare(plan)
	if err != nil {
		t.Fatal(err)
	}
	h.save, h.note = func(any) error { return nil }, func(string) {}
	h.moved = func(search.Scenario) {}
	h.begin()
	return h
}

// made returns the trial of a rate: connections beyond 1000 fail. The second one of a search is
// INVALID.
func made(slot Slot, rate float64, order int) results.Trial {
	offered := int64(5 * rate)
	peak := min(offered, 1000)
	t := results.Trial{Number: slot.Number, Verdict: results.Clean}
	t.Conntrack = results.Conntrack{Tracked: true, Peak: peak, Max: 1000}
	if order == 1 {
		t.Verdict, t.InvalidCodes = results.Invalid, []results.Code{results.CodeSteal}
	} else if offered > peak {
		t.Verdict = results.TableFull
	}
	var e results.Entry
	e.Unit, e.Offered, e.Failed, e.Completed = "connections", offered, offered-peak, &peak
	t.Entries = map[string]results.Entry{"users": e}
	t.Accounting.Failed = e.Failed
	return t
}

// finish makes the trials that a search asks for, at most so many, and returns their slots.
func finish(t *testing.T, h *limitSearch, run *results.Run, most int) (slots []Slot) {
	t.Helper()
	for len(slots) < most {
		slot, more, err := h.next(run)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		before := 0
		for _, s := range run.Scenarios {
			before += len(s.Trials)
		}
		s := &run.Scenarios[slot.Scenario]
		s.Trials = append(s.Trials, made(slot, h.value, before))
		slots = append(slots, slot)
	}
	return slots
}

// TestSearch_Resumed: a search that was cut off after any trial goes on as if it had not been, and
// makes no trial again.
func TestSearch_Resumed(t *testing.T) {
	whole := new(results.Run)
	h := looking(t, whole)
	all := finish(t, h, whole, 100)
	found := h.report.Search.Scenarios[0]
	if len(all) < 8 || found.Limit != search.Table || found.Invalid != 1 || *found.Low > 200 ||
		*found.High < 200 {
		t.Fatalf("%d trials: %+v", len(all), found)
	}
	for cut := range all {
		run := new(results.Run)
		first := finish(t, looking(t, run), run, cut)
		h := looking(t, run)
		rest := finish(t, h, run, 100)
		if got := slices.Concat(first, rest); !slices.Equal(got, all) {
			t.Errorf("cut off after %d trials: %v, want %v", cut, got, all)
		}
		if s := h.report.Search.Scenarios[0]; len(s.Made) != len(found.Made) ||
			*s.Value != *found.Value {
			t.Errorf("cut off after %d trials: %s of %d, want %s", cut, s.Words(.95), len(s.Made),
				found.Words(.95))
		}
	}
}
