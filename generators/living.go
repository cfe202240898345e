package generators

import (
	"time"

	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/packets"
)

// living keeps the ends of the crafted connections whose answers a worker reads: eight bytes each,
// beside their states in [awaiting].
type living struct {
	ends    deadlines.Heap // by the number of the connection
	closing []closingLife  // those whose FIN was sent, in the order of their time limits
}

type closingLife struct {
	number int64
	until  time.Duration
}

// sleep returns how long to wait for answers, at most wait (negative: forever).
func (l *living) sleep(wait, now time.Duration) time.Duration {
	if l == nil {
		return wait
	}
	if first, ok := l.ends.First(); ok {
		wait = deadlines.Sooner(wait, first-now)
	}
	if len(l.closing) > 0 {
		wait = deadlines.Sooner(wait, l.closing[0].until-now)
	}
	return wait
}

// live begins the life of a connection whose handshake is complete. sequence is the peer's.
func (r *replyReader) live(number int64, now time.Duration, sequence uint32) {
	waited, ok := r.load.awaiting.hold(number, now)
	if !ok {
		return // the peer repeats its SYN-ACK
	}
	r.worker.tally.Connect.Record(waited)
	if r.closes {
		r.load.awaiting.peer(number).Store(sequence)
	}
	r.living.ends.Push(number, now+r.load.life(number))
}

// endLives closes the connections whose lives are over by now, and fails those whose peers have not
// closed by limit.
func (r *replyReader) endLives(now, limit time.Duration) {
	if r.living == nil {
		return
	}
	a := r.load.awaiting
	for {
		number, ok := r.living.ends.Due(now)
		if !ok {
			break
		}
		if !a.held(number) {
			continue // the peer has ended it
		}
		if r.closes {
			frame := r.worker.out.Put(&r.ending, replyFrame)
			tuple := r.load.tuples.At(uint64(number))
			r.ending.SetTCP(frame, tuple.Source, tuple.Target,
				r.load.initialSequence(number)+1, a.peer(number).Load()+1)
		}
		if r.load.Close == CloseFIN {
			r.living.closing = append(r.living.closing, closingLife{number, now + r.load.Timeout})
		} else {
			r.over(number, now)
		}
	}
	r.worker.out.Flush()
	for len(r.living.closing) > 0 {
		c := r.living.closing[0]
		if c.until > limit && a.held(c.number) {
			break
		}
		r.living.closing = r.living.closing[1:]
		if _, ok := a.finish(c.number, now); ok {
			r.worker.tally.fail(now, Timeout)
		}
	}
}

// over counts a connection as completed at the end of its life, unless it had ended before.
func (r *replyReader) over(number int64, now time.Duration) {
	waited, ok := r.load.awaiting.finish(number, now)
	if !ok {
		return
	}
	// The remaining time is modulo a range that lives exceed.
	if life := r.load.life(number); waited < life {
		const whole = (awaitingTime + 1) * time.Microsecond
		waited += (life - waited + whole - 1) / whole * whole
	}
	r.worker.tally.complete(now-waited, now)
}

// finished handles the FIN of a peer: the answer to ours, or an early end.
func (r *replyReader) finished(number int64, now time.Duration, a packets.Answer) {
	r.reply(&r.ack, a, a.Acknowledged, a.Sequence+uint32(a.Payload)+1)
	if a.Acknowledged == r.load.initialSequence(number)+2 {
		r.over(number, now)
	} else {
		r.broken(number, now, ClosedEarly)
	}
}

// broken fails a connection that the peer has ended within its life. It reports whether the
// connection was alive.
func (r *replyReader) broken(number int64, now time.Duration, cause Cause) bool {
	_, ok := r.load.awaiting.finish(number, now)
	if ok {
		r.worker.tally.fail(now, cause)
		r.worker.tally.broken.Add(1)
	}
	return ok
}

// releaseLives completes the connections that are alive when the context ends.
func (r *replyReader) releaseLives(now time.Duration) {
	if r == nil || r.living == nil {
		return
	}
	for r.living.ends.Len() > 0 {
		r.cut(r.living.ends.Pop(), now)
	}
	for _, c := range r.living.closing {
		r.cut(c.number, now)
	}
}

// cut completes a connection in the middle of its life, which has no latency then.
func (r *replyReader) cut(number int64, now time.Duration) {
	if _, ok := r.load.awaiting.finish(number, now); ok {
		r.worker.tally.accept(1, now)
	}
}
