package wiring

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/scenarios"
)

// TestProfiles: every profile of the language becomes one of the generators', whose parts add up to
// it.
func TestProfiles(t *testing.T) {
	for name, test := range map[string]struct {
		entry scenarios.Entry
		want  *generators.Profile
		mean  float64
	}{
		"stages": {
			scenarios.Entry{Stages: []scenarios.Stage{{Duration: scenarios.Duration(time.Second),
				From: new(scenarios.Rate), Rate: 100},
				{Duration: scenarios.Duration(3 * time.Second), Rate: 100}}},
			&generators.Profile{Stages: pacing.Stages{{From: 0, To: 100, Duration: time.Second},
				{From: 100, To: 100, Duration: 3 * time.Second}}}, 87.5,
		},
		"burst": {
			scenarios.Entry{Burst: &scenarios.Burst{Size: 101,
				Every: scenarios.Duration(500 * time.Millisecond)}},
			&generators.Profile{Bursts: &pacing.Bursts{Size: 101, Every: 500 * time.Millisecond}},
			202,
		},
		"sine": {
			scenarios.Entry{Sine: &scenarios.Sine{Mean: 10, Amplitude: 5,
				Period: scenarios.Duration(time.Second)}},
			&generators.Profile{Sine: &pacing.Sine{Mean: 10, Amplitude: 5, Period: time.Second}},
			10,
		},
		"none": {},
	} {
		t.Run(name, func(t *testing.T) {
			got := profile(test.entry)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Fatal(diff)
			}
			if got == nil {
				if shareOf(got, 0, 2) != nil {
					t.Error("a part of nothing")
				}
				return
			}
			mean := func(p *generators.Profile) float64 {
				return Assignment{Spec: generators.Spec{Profile: p}}.MeanRate()
			}
			if whole := mean(got); whole != test.mean {
				t.Errorf("mean %v, want %v", whole, test.mean)
			}
			if sum := mean(shareOf(got, 0, 2)) + mean(shareOf(got, 1, 2)); sum != test.mean {
				t.Errorf("the parts' means add up to %v, want %v", sum, test.mean)
			}
		})
	}
}
