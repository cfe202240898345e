// Package deadlines keeps the time limits of connections and flows: a queue in the order of their
// ends, and a clock that leaves out the time in which the worker itself stood still.
package deadlines

import (
	"math"
	"time"
)

// Attention measures how long a worker stood still, as on a busy host. Packets that came meanwhile
// wait unread and are not late for that. Until the worker has read everything pending, its time
// limits count only the time in which it ran.
type Attention struct {
	last   time.Duration // the latest turn
	waited time.Duration // how long that turn wanted to wait
	away   time.Duration // how long it stood still, while packets may be unread
}

// attentive limits the time of one turn: far longer than a turn works, shorter than any limit.
const attentive = 20 * time.Millisecond

// Turn begins a turn of the worker at now, and returns the time to compare limits with.
func (a *Attention) Turn(now time.Duration) time.Duration {
	if took := now - a.last; took > a.waited+attentive {
		a.away += took
	}
	a.last, a.waited = now, 0
	return now - a.away
}

// Looked ends a turn that waited up to wait (negative: forever). all reports whether the worker
// read every pending event.
func (a *Attention) Looked(wait time.Duration, all bool) {
	if a.waited = wait; wait < 0 {
		a.waited = math.MaxInt64 - attentive
	}
	if all {
		a.away = 0
	}
}
