package hosttest

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPoll checks that Poll asks once more after its time is up: a host may stand still in between.
func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			from time.Duration // when the condition begins to hold
			want bool
		}{{0, true}, {time.Second, true}, {time.Minute, true}, {2 * time.Minute, false}} {
			start := time.Now()
			holds := func() bool { return time.Since(start) >= tc.from }
			if got := Poll(time.Minute, holds); got != tc.want {
				t.Errorf("holds from %v on: %v, want %v", tc.from, got, tc.want)
			}
		}
		start, asked := time.Now(), 0
		late := func() bool {
			if asked++; asked == 1 {
				time.Sleep(time.Hour)
			}
			return asked == 2
		}
		if !Poll(time.Minute, late) {
			t.Errorf("given up after %v without asking again", time.Since(start))
		}
	})
}

// TestBuffer waits for text that comes in two parts.
func TestBuffer(t *testing.T) {
	var b Buffer
	go func() {
		for _, part := range []string{"answering on", " ports 80"} {
			_, _ = b.Write([]byte(part))
		}
	}()
	b.WaitFor(t, "on ports", time.Minute)
}
