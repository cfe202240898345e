package reports

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
)

func TestPlan(t *testing.T) {
	for name, d := range map[string]results.Demand{
		"plan-churn": {
			Offer:  results.Flows{Pairs: []results.Pair{{Rate: 1000, Residence: 120}}},
			Kernel: kernels.Version{Major: 6, Minor: 1}, MemoryBytes: 1900 << 20,
		},
		"plan-fits": {
			Offer:  results.Flows{Pairs: []results.Pair{{Rate: 10, Residence: 30}}},
			Kernel: kernels.Version{Major: 6, Minor: 12}, MemoryBytes: 480 << 20,
		},
		"plan-held": {
			Offer:  results.Flows{Held: 50_000},
			Kernel: kernels.Version{Major: 5, Minor: 4}, MemoryBytes: 480 << 20,
		},
		"plan-given": {
			Offer: results.Flows{
				Pairs: []results.Pair{{Rate: 500, Residence: 30}, {Rate: 50, Residence: 120}},
				Held:  2000, NATPorts: 10_000,
			},
			Given:  kernels.Size{Max: 20_000, Buckets: 5000},
			Kernel: kernels.Version{Major: 6, Minor: 12}, MemoryBytes: 480 << 20,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := results.MakePlan(d)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := Plan(&b, "table", p, Options{}); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".txt", b.Bytes())
			b.Reset()
			if err := Plan(&b, "json", p, Options{}); err != nil {
				t.Fatal(err)
			}
			var back results.Plan
			if err := json.Unmarshal(b.Bytes(), &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p, back); diff != "" {
				t.Error(diff)
			}
		})
	}
	if err := Plan(&bytes.Buffer{}, "html", results.Plan{}, Options{}); err == nil {
		t.Error("an unknown format was taken")
	}
}
