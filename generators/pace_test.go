package generators

import (
	"testing"

	"github.com/ctload/ctload/generators/pacing"
)

// TestNeed judges rates by what their sends cost: a rate that the workers' CPUs never reach is
// another limit than a host that had no time.
func TestNeed(t *testing.T) {
	for _, test := range []struct {
		name         string
		due, offered int64
		cpu          float64
		want         LimitCode
	}{
		{"as asked", 1000, 990, .5, ""},
		{"a busy host", 100_000, 50_000, .5, LimitPacing},
		{"a host that took half of the time", 100_000, 55_000, 2, LimitPacing},
		{"beyond any host", 50_000_000, 400_000, 1.2, LimitRate},
		{"the same beside other work", 50_000_000, 40_000, .12, LimitRate},
		{"nothing was sent", 100_000, 0, 0, LimitPacing},
	} {
		missed := test.due - test.offered
		r := Result{
			Offered: test.offered, Missed: missed,
			Usage:  Usage{Workers: 2, CPUSeconds: test.cpu, ConntrackBefore: -1},
			Series: []Second{{Slots: pacing.Slots{Due: test.due, Missed: missed}}},
		}
		limits, _ := (&plan{Spec: Spec{Count: test.due}}).judge(r)
		var got LimitCode
		for _, limit := range limits {
			got += limit.Code
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q: %v", test.name, got, test.want, limits)
		}
	}
}

// TestWorstWindow checks which part of a paced load counts as the one with the lowest rate.
func TestWorstWindow(t *testing.T) {
	type slots struct{ Due, Missed int64 }
	for _, test := range []struct {
		name        string
		seconds     []slots
		first, last int
		want        slots
		limit       bool
	}{
		{"closed loop", []slots{{0, 0}, {0, 0}}, 0, 0, slots{0, 0}, false},
		{"one late slot of 60", []slots{{30, 1}, {30, 0}}, 0, 0, slots{30, 1}, false},
		{"a second without", []slots{{30, 0}, {30, 30}, {30, 0}}, 1, 1, slots{30, 30}, true},
		{"many in one", []slots{{1000, 0}, {1000, 60}, {1000, 0}}, 1, 1, slots{1000, 60}, true},
		{"a low rate", []slots{{5, 0}, {5, 1}, {5, 0}, {5, 0}, {5, 0}}, 0, 4, slots{25, 1}, false},
		{"a few", []slots{{3, 0}, {3, 2}}, 0, 1, slots{6, 2}, true},
		{"a short last second", []slots{{30, 0}, {30, 0}, {2, 2}}, 1, 2, slots{32, 2}, true},
		{"bursts", []slots{{1000, 0}, {0, 0}, {1000, 100}, {0, 0}}, 1, 2, slots{1000, 100}, true},
	} {
		series := make([]Second, len(test.seconds))
		for i, s := range test.seconds {
			series[i].Slots = pacing.Slots{Due: s.Due, Missed: s.Missed}
		}
		want := window{test.first, test.last, pacing.Slots(test.want)}
		got := worstWindow(series)
		if got != want || (got.delivered() < paceShare) != test.limit {
			t.Errorf("%s: %s, want %s, a limit: %v", test.name, got, want, test.limit)
		}
	}
}
