package measuredtest

import (
	"slices"
	"testing"

	"github.com/ctload/ctload/results"
)

// What Validate says of a host that had no time is known here by its words; any other reason beside it is the
// test's own affair.
func TestSpoiltIn(t *testing.T) {
	trial := func(reasons ...string) results.Trial {
		if len(reasons) == 0 {
			return results.Trial{Verdict: results.Clean}
		}
		return results.Trial{Verdict: results.Invalid, Invalid: reasons}
	}
	busy := results.Trial{
		Load:      results.Load{Limits: []string{"pacing: 70 slots (2.0 %) were given up"}},
		Clock:     &results.Clock{ErrorMillis: 40},
		Conntrack: results.Conntrack{Samples: 9, LongestGap: 3},
	}
	said := results.Validate(&busy, results.Evidence{Steal: 0.2, LostCPU: 0.3, Interval: 0.1})
	if len(said) != 5 {
		t.Fatalf("a host without time gives the reasons %q, want 5", said)
	}
	for _, tc := range []struct {
		name   string
		trials []results.Trial
		want   []string
	}{
		{"clean", []results.Trial{trial(), trial()}, nil},
		{"each reason, twice in one scenario", []results.Trial{trial(said...), trial(said[0])}, []string{"one"}},
		{"one of two", []results.Trial{trial(), trial(said[1])}, []string{"one"}},
		{"another reason beside it", []results.Trial{trial(said[0], "the trial was interrupted")}, nil},
		{"another trial for another reason", []results.Trial{trial(said[0]), trial("the table was not sampled")}, nil},
	} {
		run := &results.Run{Scenarios: []results.Scenario{{Name: "one", Trials: tc.trials}}}
		if got := SpoiltIn(run); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
