package generators

import (
	"sync/atomic"
	"time"
)

// awaiting keeps, for each crafted packet that awaits an answer, its intended time and whether its
// fate is known: four bytes a packet, shared by all workers. A packet's number identifies it; the
// tuple in an answer leads back to that number.
type awaiting struct {
	pieces []atomic.Pointer[awaitingPiece]
	open   atomic.Int64 // packets sent or about to be sent whose fate is unknown
	// next is the first packet whose fate may be unknown. Only worker 0 uses it.
	next int64
	// away counts the nanoseconds that each worker stood still while it may have unread answers.
	away []atomic.Int64
}

// awaitingPiece is allocated when the first of its packets is sent.
type awaitingPiece [awaitingSize]atomic.Uint32

const (
	awaitingSize = 1 << 16
	// mostAwaited limits how many packets of a load may await answers.
	mostAwaited = 1 << 28

	// A packet's state holds its time in microseconds, modulo the mask's range of about 18 minutes,
	// and two bits. Zero: not sent.
	awaitingSent    = 1 << 30
	awaitingSettled = 1 << 31
	awaitingTime    = awaitingSent - 1
	// longestAwaiting limits the timeout, so that the modulus cannot confuse two times.
	longestAwaiting = 15 * time.Minute
)

func newAwaiting(most int64, workers int) *awaiting {
	return &awaiting{
		pieces: make([]atomic.Pointer[awaitingPiece], (most+awaitingSize-1)/awaitingSize),
		away:   make([]atomic.Int64, workers),
	}
}

func (a *awaiting) at(number int64) *atomic.Uint32 {
	piece := &a.pieces[number/awaitingSize]
	p := piece.Load()
	if p == nil {
		piece.CompareAndSwap(nil, new(awaitingPiece))
		p = piece.Load()
	}
	return &p[number%awaitingSize]
}

// reserve announces up to n packets before the worker takes them from the pacer. Without it another
// worker could find the pacer empty and nothing open, and end. release takes back those that the
// pacer did not give.
func (a *awaiting) reserve(n int64) { a.open.Add(n) }

func (a *awaiting) release(n int64) { a.open.Add(-n) }

// sent notes that the worker is about to send a reserved packet. The worker calls it before it
// sends, since the answer may come before the system call returns.
func (a *awaiting) sent(number int64, intended time.Duration) {
	a.at(number).Store(awaitingSent | uint32(intended.Microseconds())&awaitingTime)
}

// settle marks the fate of a packet as known and returns the time since its intended send. It
// returns false for a packet that was not sent or whose fate was known already.
func (a *awaiting) settle(number int64, now time.Duration) (time.Duration, bool) {
	if number/awaitingSize >= int64(len(a.pieces)) {
		return 0, false
	}
	state := a.at(number)
	before := state.Load()
	if before&awaitingSent == 0 || before&awaitingSettled != 0 || !state.CompareAndSwap(before, before|awaitingSettled) {
		return 0, false
	}
	a.open.Add(-1)
	return since(before, now), true
}

// wasSent reports whether a packet was sent, settled or not.
func (a *awaiting) wasSent(number int64) bool {
	return number/awaitingSize < int64(len(a.pieces)) && a.at(number).Load()&awaitingSent != 0
}

// since returns the time from a state to now.
func since(state uint32, now time.Duration) time.Duration {
	us := (uint32(now.Microseconds()) - state) & awaitingTime
	return time.Duration(us) * time.Microsecond
}

// expire settles the packets that have waited longer than limit, in the order of their numbers, and
// calls failed for each. It returns the time until the next packet can expire, negative when none
// waits. Only one worker may call it.
func (a *awaiting) expire(now, limit time.Duration, failed func(intended time.Duration)) time.Duration {
	longest := int64(0)
	for i := range a.away {
		longest = max(longest, a.away[i].Load())
	}
	limit += time.Duration(longest)
	for a.next < int64(len(a.pieces))*awaitingSize {
		state := a.at(a.next).Load()
		switch {
		case state&awaitingSent == 0:
			// The packet was not sent yet. Numbers are sent nearly in order.
			return -1
		case state&awaitingSettled == 0:
			waited := since(state, now)
			if waited < limit {
				return limit - waited
			}
			if _, ok := a.settle(a.next, now); ok {
				failed(now - waited)
			}
		}
		a.next++
	}
	return -1
}
