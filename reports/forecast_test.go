package reports

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
)

func TestForecast(t *testing.T) {
	d := results.Demand{
		Offer:  results.Flows{Pairs: []results.Pair{{Rate: 500, Residence: 30}}},
		Kernel: kernels.Version{Major: 6, Minor: 1}, MemoryBytes: 470 << 20,
	}
	plan, err := results.MakePlan(d)
	if err != nil {
		t.Fatal(err)
	}
	full := 4.0
	small := kernels.Size{Max: 2000, Buckets: 2048}
	overflows := results.Prediction{
		Peak: 2000, SecondsToFull: &full, Rate: 500, Residence: 30, Sustainable: 66.7,
		Overflow: 8000, MemoryBytes: 528384,
	}
	list := []results.Forecast{
		{
			Scenario: "small", Kernel: "6.1", Tracked: true, Table: small, Prediction: overflows,
			Plan: &plan,
		},
		{
			Scenario: "small-too", Kernel: "6.1", Tracked: true, Table: small,
			Prediction: overflows, Plan: &plan,
		},
		{
			Scenario: "large", Kernel: "6.1", Tracked: true,
			Table: kernels.Size{Max: 65536, Buckets: 65536},
			Prediction: results.Prediction{
				Peak: 10_000, Rate: 500, Residence: 30, Sustainable: 2185, MemoryBytes: 3 << 20,
			},
		},
		{
			Scenario: "closed-loop", Kernel: "6.1", Tracked: true, Table: small,
			Prediction: results.Prediction{Peak: 2000, Overflow: 3000},
			Reason:     "more than any table takes",
		},
		{Scenario: "untracked", Kernel: "6.1", Table: small},
	}
	var b bytes.Buffer
	if err := Forecast(&b, "table", list, Options{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "forecast.txt", b.Bytes())
	b.Reset()
	if err := Forecast(&b, "json", list, Options{}); err != nil {
		t.Fatal(err)
	}
	var back []results.Forecast
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list, back); diff != "" {
		t.Error(diff)
	}
	if err := Forecast(&bytes.Buffer{}, "html", nil, Options{}); err == nil {
		t.Error("an unknown format was taken")
	}
}
