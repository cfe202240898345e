package goals

import (
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/search"
)

// gateway returns a router whose table holds 3000 entries.
func gateway(t *testing.T) (scenarios.Topology, scenarios.Resolved) {
	t.Helper()
	const text = `experiment: x
topology: router
dut: {nat: masquerade, sysctl: {net.netfilter.nf_conntrack_max: 3000}}
workload:
- {generator: tcp, ports: 8000-8003, rate: 100/s, duration: 1s}
- {probe: tcp, port: 22, rate: 10/s}
`
	e, _, err := scenarios.Parse("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e.Topology, e.Resolve()[0]
}

// TestRFC9693 checks the load of each metric: as many connections as it says, each answered once
// all were opened, or removed between the phases.
func TestRFC9693(t *testing.T) {
	topology, s := gateway(t)
	for _, tc := range []struct {
		goal        Goal
		value       float64
		connections scenarios.Count
		rate        scenarios.Rate
		settings    search.Settings
	}{
		{Goal{Quantity: Establishment}, 500, 2250, 500,
			search.Settings{Start: 225, Least: 1, Most: 2250}},
		{Goal{Quantity: Capacity}, 3000, 3000, 225,
			search.Settings{Start: 2250, Least: 1, Most: 60000, Step: 1, Predicted: 3000}},
		{Goal{Quantity: TearDown}, 2250, 2250, 225, search.Settings{Start: 2250}},
	} {
		g, err := tc.goal.Settle(topology, s)
		if err != nil {
			t.Fatal(err)
		}
		if set := g.Settings(topology, s); set != tc.settings {
			t.Errorf("%s: %+v, want %+v", g, set, tc.settings)
		}
		r := g.At(s, tc.value)
		e := r.Workload[0]
		phase := time.Duration(float64(tc.connections) / float64(tc.rate) * 1e9)
		if len(r.Workload) != 1 || e.Generator != scenarios.UDP || e.Flows != tc.connections ||
			e.Rate != tc.rate || len(e.Ports.Expand()) != 4 || e.Silent ||
			time.Duration(e.AnswerDelay) <= phase || e.Timeout <= e.AnswerDelay {
			t.Errorf("%s: %+v", g, r.Workload)
		}
		removed := len(r.Actions) == 1 && r.Actions[0].Kind == actions.Flush &&
			time.Duration(r.Actions[0].At) > phase && r.Actions[0].At < e.AnswerDelay
		if removed != (g.Quantity == TearDown) || !removed && len(r.Actions) > 0 {
			t.Errorf("%s: actions %+v", g, r.Actions)
		}
		for _, key := range []string{"udp_timeout", "udp_timeout_stream"} {
			if v, _ := r.DUT.Sysctl.Get(kernels.Prefix + key); v != "3600" {
				t.Errorf("%s: %s is %q", g, key, v)
			}
		}
		if len(s.Workload) != 2 || len(s.DUT.Sysctl) != 1 {
			t.Fatalf("%s changed the scenario that it began with: %+v", g, s)
		}
	}
	_, noRouter := resolved(t, held)
	_, err := Goal{Quantity: Capacity}.Settle(scenarios.Topology{}, noRouter)
	if err == nil || !strings.Contains(err.Error(), "topology: router") {
		t.Errorf("of a server: %v", err)
	}
	s.Workload = s.Workload[1:]
	if _, err := (Goal{Quantity: Capacity}).Settle(topology, s); err == nil {
		t.Error("a workload of a probe alone is taken")
	}
}

// TestEstimate_Metrics reads the capacity from the table, and the tear-down rate from the removal.
func TestEstimate_Metrics(t *testing.T) {
	trial := new(results.Trial)
	trial.Conntrack = results.Conntrack{Tracked: true, Baseline: 10, Peak: 510, Max: 1010}
	trial.Actions = []results.Action{{Name: removalRFC9693, Took: .02, Effects: []results.Effect{
		{Name: kernels.KeyCount, Before: "510", After: "10"},
	}}}
	for q, want := range map[Quantity]float64{
		Capacity: 1000, TearDown: 25000, Establishment: 0,
	} {
		if got := (Goal{Quantity: q}).Estimate(500, trial); got != want {
			t.Errorf("%s: %v, want %v", q, got, want)
		}
	}
	trial.Actions[0].Took = 0
	if got := (Goal{Quantity: TearDown}).Estimate(500, trial); got != 0 {
		t.Errorf("a removal that took no time: %v", got)
	}
}
