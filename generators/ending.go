package generators

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/sockets"
)

// hold keeps a connection open, without the load's timeout.
func (s *stream) hold(i int32, now time.Duration) {
	c := s.slot(i)
	s.waiting.Remove(i)
	c.state = holding
	s.held++
	if s.lives {
		c.life += now
		s.ends.Push(int64(i), c.life)
	}
	if s.load.Kind == Hold && s.load.Interval > 0 && s.load.Payload > 0 {
		// The peer must acknowledge later bytes in time, or the connection counts as broken. Where
		// the kernel refuses the option, its own time limit applies.
		limit := int32(s.load.Timeout.Milliseconds())
		_ = sockets.SetOption(c.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, limit)
		s.sends.Put(i, now+s.load.Interval)
	}
}

// expire ends the connections whose time ran out by limit, and performs the actions of held
// connections that are due by now.
func (s *stream) expire(now, limit time.Duration) {
	for s.waiting.Due(limit) {
		i := s.waiting.Head
		if s.slot(i).counted {
			s.end(i) // the peer had to close and did not
		} else {
			s.fail(i, now, Timeout)
		}
	}
	for {
		i, ok := s.ends.Due(now)
		if !ok {
			break
		}
		// The slot may have another connection by now, which waits for its own end.
		if c := s.slot(int32(i)); c.state == holding && c.life <= now {
			s.succeed(int32(i), now)
			s.end(int32(i))
		}
	}
	for s.sends.Due(now) {
		i := s.sends.Head
		n, errno := sockets.Send(s.slot(i).fd, s.request, 0)
		s.tally.Sent += int64(n)
		// A full buffer only means that the peer does not read.
		if errno != 0 && errno != unix.EAGAIN {
			s.fail(i, now, causeOf(errno))
			continue
		}
		s.sends.Put(i, now+s.load.Interval)
	}
}

// succeed counts a connection or request as completed.
func (s *stream) succeed(i int32, now time.Duration) {
	c := s.slot(i)
	c.counted = true
	s.tally.complete(c.intended, now)
	s.point(c.intended, now, "")
}

// fail counts a connection or request as failed and closes its socket.
func (s *stream) fail(i int32, now time.Duration, cause Cause) {
	c := s.slot(i)
	if !c.counted {
		s.failed(c.intended, now, cause)
		if c.state == holding && cause != Cancelled {
			s.tally.broken.Add(1)
		}
	}
	c.counted = true
	s.remove(i)
}

// end closes a connection the way that the spec asks for. Where the peer closes first, only a plain
// close is left, except that an abandoned connection never sends a packet.
func (s *stream) end(i int32) {
	c := s.slot(i)
	mode := s.load.Close
	if c.state == closing && mode != CloseAbandon {
		mode = CloseFIN
	}
	switch mode {
	case CloseFIN:
		if s.finish(c) && s.keep(i) {
			return
		}
	case CloseRST:
		if s.keep(i) {
			return
		}
		sockets.ResetOnClose(c.fd)
	case CloseHalf:
		if c.state != lingering && sockets.HalfClose(c.fd) == 0 {
			s.leave(i)
			c.state = lingering
			return
		}
	}
	s.remove(i)
}

// remove closes a connection's socket at once.
func (s *stream) remove(i int32) {
	c := s.slot(i)
	if s.load.Close == CloseAbandon {
		sockets.VanishOnClose(c.fd)
	}
	sockets.Close(c.fd)
	s.leave(i)
	s.drop(i)
}

// leave takes a connection out of its queues, and out of the counts of open and held ones.
func (s *stream) leave(i int32) {
	switch s.slot(i).state {
	case idling, lingering, unconnected:
		return
	case holding:
		s.held--
		s.sends.Remove(i)
	default:
		s.waiting.Remove(i)
	}
	s.open--
}

// release ends the connections that were held until the end of the load.
func (s *stream) release(now time.Duration) {
	for i, c := range s.slots.all() {
		if c.state == holding {
			s.succeed(i, now)
			s.end(i)
		}
	}
}

// cancel ends everything because the context has ended. Held connections count as completed,
// unfinished ones as failed.
func (s *stream) cancel(now time.Duration) {
	s.release(now)
	for _, c := range s.portless {
		s.failed(c.intended, now, Cancelled)
	}
	for i, c := range s.slots.all() {
		if c.state != connFree && c.state != unconnected && !c.counted {
			s.fail(i, now, Cancelled)
		}
	}
}

// closeAll closes all remaining sockets.
func (s *stream) closeAll() {
	for i, c := range s.slots.all() {
		if c.state != connFree {
			s.remove(i)
		}
	}
}
