package deadlines

import (
	"testing"
	"time"
)

// TestAttention checks that time in which a worker stood still does not count until it has read
// everything pending.
func TestAttention(t *testing.T) {
	const ms = time.Millisecond
	var a Attention
	for i, turn := range []struct {
		now, limit time.Duration // the turn's time, and the time to compare its limits with
		wait       time.Duration // at its end
		all        bool
	}{
		{1 * ms, 1 * ms, 0, true},
		{15 * ms, 15 * ms, 500 * ms, true},     // a turn's own work
		{515 * ms, 515 * ms, 500 * ms, true},   // it waited as long as it wanted
		{530 * ms, 530 * ms, -1, true},         // an event came earlier
		{9000 * ms, 9000 * ms, 10 * ms, false}, // it wanted to wait forever
		{9500 * ms, 9000 * ms, 0, false},       // it stood still, with packets left to read
		{9501 * ms, 9001 * ms, 0, false},
		{9601 * ms, 9001 * ms, 0, false}, // it stood still again
		{9602 * ms, 9002 * ms, 0, true},
		{9603 * ms, 9603 * ms, 0, true}, // everything is read
	} {
		if got := a.Turn(turn.now); got != turn.limit {
			t.Errorf("turn %d at %v: limits are judged by %v, want %v",
				i, turn.now, got, turn.limit)
		}
		a.Looked(turn.wait, turn.all)
	}
}
