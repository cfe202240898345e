package generators

import "time"

// queue is a list of slots under a time limit. Since the limit is one for all, the first to be put
// in is the first to end, and nothing needs sorting.
type queue struct {
	head, tail int32
	at         func(i int32) *link
}

// link is a slot's place in a queue.
type link struct {
	deadline   time.Duration
	next, prev int32
	queued     bool
}

// none is no slot.
const none = -1

func newQueue(at func(i int32) *link) queue { return queue{head: none, tail: none, at: at} }

// put makes slot i the last of the queue, wherever it was before.
func (q *queue) put(i int32, deadline time.Duration) {
	q.remove(i)
	*q.at(i) = link{deadline: deadline, prev: q.tail, next: none, queued: true}
	if q.tail == none {
		q.head = i
	} else {
		q.at(q.tail).next = i
	}
	q.tail = i
}

// remove takes slot i out of the queue if it is in it.
func (q *queue) remove(i int32) {
	l := q.at(i)
	if !l.queued {
		return
	}
	if l.prev == none {
		q.head = l.next
	} else {
		q.at(l.prev).next = l.next
	}
	if l.next == none {
		q.tail = l.prev
	} else {
		q.at(l.next).prev = l.prev
	}
	*l = link{}
}

// first is the deadline of the first slot, false when the queue is empty.
func (q *queue) first() (time.Duration, bool) {
	if q.head == none {
		return 0, false
	}
	return q.at(q.head).deadline, true
}

// due reports whether the first slot's time has come.
func (q *queue) due(now time.Duration) bool {
	deadline, ok := q.first()
	return ok && deadline <= now
}
