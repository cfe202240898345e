package generators

import (
	"math"
	"time"
)

// attention knows for how long a worker stood still, as on a host that had no time for it. What came meanwhile
// waits unread, and is not late for that: by the worker's own time limits only the time counts in which
// it looked, until it has read all that was there.
type attention struct {
	last   time.Duration // the latest turn
	waited time.Duration // what that turn meant to wait for
	away   time.Duration // how long it stood still, while something may be unread
}

// attentive is how long a turn may take: far more than the work of one, less than any limit.
const attentive = 20 * time.Millisecond

// turn begins a turn of the worker at now, and returns the time by which limits are judged.
func (a *attention) turn(now time.Duration) time.Duration {
	if took := now - a.last; took > a.waited+attentive {
		a.away += took
	}
	a.last, a.waited = now, 0
	return now - a.away
}

// looked ends a turn that was to wait for so long (negative: for ever), and tells whether all was read that was there.
func (a *attention) looked(wait time.Duration, all bool) {
	if a.waited = wait; wait < 0 {
		a.waited = math.MaxInt64 - attentive
	}
	if all {
		a.away = 0
	}
}
