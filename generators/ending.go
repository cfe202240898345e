package generators

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/sockets"
)

// This file has how a stream holds and ends its connections.

// hold keeps a connection open, without the load's timeout.
func (s *stream) hold(i int32, now time.Duration) {
	c := s.slot(i)
	c.state = holding
	s.held++
	s.waiting.Remove(i)
	c.until = 0
	if s.load.Hold > 0 {
		c.until = now + s.load.Hold
	}
	if s.load.Kind == Hold && s.load.Interval > 0 && s.load.Payload > 0 {
		// The peer must acknowledge later bytes in time, or the connection counts as broken. Where
		// the kernel refuses the option, its own time limit applies.
		_ = sockets.SetOption(c.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int32(s.load.Timeout.Milliseconds()))
	}
	s.schedule(i, now)
}

// schedule sets the timer for the next action of a held connection: send its bytes or end.
func (s *stream) schedule(i int32, now time.Duration) {
	c := s.slot(i)
	at := c.until
	if s.load.Interval > 0 && s.load.Payload > 0 && s.load.Kind == Hold {
		if next := now + s.load.Interval; at == 0 || next < at {
			at = next
		}
	}
	if at > 0 {
		s.timers.push(timer{at, handle{i, c.generation}})
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
			s.fail(i, now, causeTimeout)
		}
	}
	for len(s.timers) > 0 && s.timers[0].at <= now {
		h := s.timers.pop().handle
		c := s.find(h)
		if c == nil || c.state != holding {
			continue
		}
		if c.until > 0 && c.until <= now {
			s.succeed(h.slot, now)
			s.end(h.slot)
			continue
		}
		n, errno := sockets.Send(c.fd, s.request, 0)
		s.tally.Sent += int64(n)
		// A full buffer only means that the peer does not read.
		if errno != 0 && errno != unix.EAGAIN {
			s.fail(h.slot, now, causeOf(errno))
			continue
		}
		s.schedule(h.slot, now)
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
func (s *stream) fail(i int32, now time.Duration, cause causeNumber) {
	c := s.slot(i)
	if !c.counted {
		s.failed(c.intended, now, cause)
		if c.state == holding && cause != causeCancelled {
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
			s.leave(c)
			s.waiting.Remove(i)
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
	s.waiting.Remove(i)
	s.leave(c)
	s.drop(i)
}

// leave subtracts a connection from the counts of open and held ones.
func (s *stream) leave(c *conn) {
	switch c.state {
	case idling, lingering, unconnected:
		return
	case holding:
		s.held--
	}
	s.open--
}

// each calls f for every slot in use.
func (s *stream) each(f func(i int32, c *conn)) {
	for n, chunk := range s.slots.chunks {
		for i := range chunk {
			if c := &chunk[i]; c.state != connFree {
				f(int32(n*chunkSize+i), c)
			}
		}
	}
}

// release ends the connections that were held until the end of the load.
func (s *stream) release(now time.Duration) {
	s.each(func(i int32, c *conn) {
		if c.state == holding {
			s.succeed(i, now)
			s.end(i)
		}
	})
}

// cancel ends everything because the context has ended. Held connections count as completed,
// unfinished ones as failed.
func (s *stream) cancel(now time.Duration) {
	s.release(now)
	s.each(func(i int32, c *conn) {
		if !c.counted && c.state != unconnected {
			s.fail(i, now, causeCancelled)
		}
	})
}

// closeAll closes all remaining sockets.
func (s *stream) closeAll() {
	s.each(func(i int32, c *conn) { s.remove(i) })
}
