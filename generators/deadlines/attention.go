// Package deadlines keeps the time limits of connections and flows: a queue of them in the order in which they
// end, and a clock that leaves out the time in which the worker itself stood still.
package deadlines

import (
	"math"
	"time"
)

// Attention knows for how long a worker stood still, as on a host that had no time for it. What came meanwhile
// waits unread, and is not late for that: by the worker's own time limits only the time counts in which
// it looked, until it has read all that was there.
type Attention struct {
	last   time.Duration // the latest turn
	waited time.Duration // what that turn meant to wait for
	away   time.Duration // how long it stood still, while something may be unread
}

// attentive is how long a turn may take: far more than the work of one, less than any limit.
const attentive = 20 * time.Millisecond

// Turn begins a turn of the worker at now, and returns the time by which limits are judged.
func (a *Attention) Turn(now time.Duration) time.Duration {
	if took := now - a.last; took > a.waited+attentive {
		a.away += took
	}
	a.last, a.waited = now, 0
	return now - a.away
}

// Looked ends a turn that waited up to wait (negative: forever); all reports whether every pending event was read.
func (a *Attention) Looked(wait time.Duration, all bool) {
	if a.waited = wait; wait < 0 {
		a.waited = math.MaxInt64 - attentive
	}
	if all {
		a.away = 0
	}
}
