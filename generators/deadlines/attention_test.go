package deadlines

import (
	"testing"
	"time"
)

// Time in which a worker stood still does not count until it has read all that was there.
func TestAttention(t *testing.T) {
	const ms = time.Millisecond
	var a Attention
	for i, turn := range []struct {
		now, limit time.Duration // of the turn, and by what its limits are to be judged
		wait       time.Duration // at its end
		all        bool
	}{
		{1 * ms, 1 * ms, 0, true},
		{15 * ms, 15 * ms, 500 * ms, true},     // a turn's own work
		{515 * ms, 515 * ms, 500 * ms, true},   // it waited, as it meant to
		{530 * ms, 530 * ms, -1, true},         // found something before
		{9000 * ms, 9000 * ms, 10 * ms, false}, // it meant to wait for ever
		{9500 * ms, 9000 * ms, 0, false},       // it stood still, with things left to read
		{9501 * ms, 9001 * ms, 0, false},
		{9601 * ms, 9001 * ms, 0, false}, // and once more
		{9602 * ms, 9002 * ms, 0, true},
		{9603 * ms, 9603 * ms, 0, true}, // all is read
	} {
		if got := a.Turn(turn.now); got != turn.limit {
			t.Errorf("turn %d at %v: limits are judged by %v, want %v", i, turn.now, got, turn.limit)
		}
		a.Looked(turn.wait, turn.all)
	}
}
