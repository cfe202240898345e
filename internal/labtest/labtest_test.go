package labtest

import (
	"slices"
	"testing"
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

// TestTwice checks that Twice measures again only after errors, and reports those of the second
// time.
func TestTwice(t *testing.T) {
	for _, errors := range [][]string{{""}, {"late", ""}, {"late", "later"}} {
		measured, test := 0, &tentative{TB: t}
		Twice(test, func(try testing.TB) {
			if text := errors[measured]; text != "" {
				try.Errorf("%s by %d", text, measured)
				try.Error(text)
			}
			measured++
		})
		var want []string
		if errors[measured-1] != "" {
			want = []string{"later by 1", "later"}
		}
		if measured != len(errors) || !slices.Equal(test.errors, want) {
			t.Errorf("%q: measured %d times, errors %q, want %q", errors, measured, test.errors,
				want)
		}
	}
}
