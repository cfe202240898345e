// Package deadlines keeps the time limits of connections and flows: a queue in the order of their
// ends, and a clock that leaves out the time in which the worker itself stood still.
package deadlines

import (
	"math"
	"time"
)

// Attention measures how long a worker stood still, as on a busy host. Data that came meanwhile is
// unread, not late: until the worker has read it all, limits count only the time in which it ran.
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

// Queue is a list of slots under one time limit: the first put in is the first to end.
type Queue struct {
	Head, tail int32
	at         func(i int32) *Link
}

// Link is a slot's place in a queue.
type Link struct {
	deadline   time.Duration
	next, prev int32
	Queued     bool
}

// None stands for no slot.
const None = -1

// NewQueue returns an empty queue of slots whose links are at at.
func NewQueue(at func(i int32) *Link) Queue { return Queue{Head: None, tail: None, at: at} }

// Put makes slot i the last of the queue. It first removes the slot from its earlier place.
func (q *Queue) Put(i int32, deadline time.Duration) {
	q.Remove(i)
	*q.at(i) = Link{deadline: deadline, prev: q.tail, next: None, Queued: true}
	if q.tail == None {
		q.Head = i
	} else {
		q.at(q.tail).next = i
	}
	q.tail = i
}

// Remove takes slot i out of the queue, if the queue has it.
func (q *Queue) Remove(i int32) {
	l := q.at(i)
	if !l.Queued {
		return
	}
	if l.prev == None {
		q.Head = l.next
	} else {
		q.at(l.prev).next = l.next
	}
	if l.next == None {
		q.tail = l.prev
	} else {
		q.at(l.next).prev = l.prev
	}
	*l = Link{}
}

// First returns the deadline of the first slot, or false when the queue is empty.
func (q *Queue) First() (time.Duration, bool) {
	if q.Head == None {
		return 0, false
	}
	return q.at(q.Head).deadline, true
}

// Due reports whether the first slot's time has come.
func (q *Queue) Due(now time.Duration) bool {
	deadline, ok := q.First()
	return ok && deadline <= now
}

// Sooner returns the shorter of a wait (negative: endless) and the time until an event (negative:
// past).
func Sooner(wait, until time.Duration) time.Duration {
	until = max(until, 0)
	if wait < 0 {
		return until
	}
	return min(wait, until)
}

// Soonest returns the shortest of a wait (negative: endless) and the times from now until the first
// deadline of each queue.
func Soonest(wait, now time.Duration, queues ...*Queue) time.Duration {
	for _, q := range queues {
		if first, ok := q.First(); ok {
			wait = Sooner(wait, first-now)
		}
	}
	return wait
}
