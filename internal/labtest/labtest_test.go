package labtest

import (
	"slices"
	"testing"

	"github.com/ctload/ctload/results"
)

// TestRepeat checks that Repeat stops at the first good measurement, and gives up in the end.
func TestRepeat(t *testing.T) {
	for good, want := range map[int]int{1: 1, 3: 3, attempts + 1: attempts} {
		calls := 0
		Repeat(t, func() bool {
			calls++
			return calls == good
		})
		if calls != want {
			t.Errorf("the measurement of attempt %d is good: %d calls, want %d", good, calls, want)
		}
	}
}

// TestSpoiltIn checks that SpoiltIn accepts each reason that Validate gives for a busy host, and
// returns nothing beside any other reason.
func TestSpoiltIn(t *testing.T) {
	trial := func(reasons ...results.Reason) results.Trial {
		trial := results.Trial{Verdict: results.Clean}
		if len(reasons) > 0 {
			trial.Verdict = results.Invalid
		}
		trial.Invalidate(reasons...)
		return trial
	}
	busy := results.Trial{
		Clock:     &results.Clock{ErrorMillis: 40},
		Conntrack: results.Conntrack{Samples: 9, LongestGap: 3},
	}
	said := results.Validate(&busy, results.Evidence{
		Limits: []results.Reason{{Code: results.CodePacing, Text: "70 slots were given up"}},
		Steal:  0.2, LostCPU: 0.3, Interval: 0.1,
	})
	if len(said) != 5 {
		t.Fatalf("a host without time gives the reasons %v, want 5", said)
	}
	interrupted := results.Reason{Code: results.CodeInterrupted, Text: "interrupted"}
	unsampled := results.Reason{Code: results.CodeUnsampled, Text: "the table was not sampled"}
	for _, tc := range []struct {
		name   string
		trials []results.Trial
		want   []string
	}{
		{"clean", []results.Trial{trial(), trial()}, nil},
		{"each reason, twice", []results.Trial{trial(said...), trial(said[0])}, []string{"one"}},
		{"one of two", []results.Trial{trial(), trial(said[1])}, []string{"one"}},
		{"another reason beside it", []results.Trial{trial(said[0], interrupted)}, nil},
		{"another trial, another reason", []results.Trial{trial(said[0]), trial(unsampled)}, nil},
	} {
		run := &results.Run{Scenarios: []results.Scenario{{Name: "one", Trials: tc.trials}}}
		if got := SpoiltIn(run); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
