package labtest

import "testing"

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
