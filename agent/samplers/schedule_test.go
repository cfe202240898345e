package samplers

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSchedule samples for a second while one tick takes 3.5 intervals and one ends late by less
// than one.
func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1050*time.Millisecond)
		defer cancel()
		start := time.Now()
		var at []int64
		var missed []int64
		err := schedule(ctx, 100*time.Millisecond, func(m int64) error {
			at = append(at, time.Since(start).Milliseconds())
			missed = append(missed, m)
			switch len(at) {
			case 3: // at 200 ms
				time.Sleep(350 * time.Millisecond)
			case 6:
				time.Sleep(120 * time.Millisecond)
			}
			return nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
		// 300 and 400 passed while the third ran; 500 was due when it ended, and was late.
		if diff := cmp.Diff([]int64{0, 100, 200, 550, 600, 700, 820, 900, 1000}, at); diff != "" {
			t.Errorf("times (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]int64{0, 0, 0, 2, 2, 2, 2, 2, 2}, missed); diff != "" {
			t.Errorf("missed (-want +got):\n%s", diff)
		}
	})
}

func TestScheduleDoesNotDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		ticks := 0
		_ = schedule(ctx, 10*time.Millisecond, func(int64) error {
			if late := time.Since(start) - time.Duration(ticks)*10*time.Millisecond; late != 0 {
				t.Errorf("tick %d is late by %v", ticks, late)
			}
			if ticks++; ticks == 1000 {
				cancel()
			}
			time.Sleep(7 * time.Millisecond)
			return nil
		})
		if ticks != 1000 {
			t.Errorf("%d ticks", ticks)
		}
	})
}

func TestScheduleEndsWithTheError(t *testing.T) {
	broken := errors.New("broken")
	err := schedule(t.Context(), time.Hour, func(int64) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}
