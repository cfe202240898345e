package generators

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
)

// requestBytes returns what each connection sends once connected.
func (p *plan) requestBytes() []byte {
	if p.Kind != HTTP {
		return make([]byte, p.Payload)
	}
	host := cmp.Or(p.Host, netip.AddrPortFrom(p.space.Targets.At(0), p.Ports[0]).String())
	connection := "close"
	if p.KeepAlive > 1 {
		connection = "keep-alive"
	}
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: ctload\r\n"+
		"Accept: */*\r\nConnection: %s\r\n\r\n", p.Path, host, connection)
}

// connect begins a connection. It returns false where the connection has to wait for a port.
func (s *stream) connect(c begin, now time.Duration) bool {
	tuple := s.tuple(c.number)
	if i := s.reusableFor(tuple); i != deadlines.None {
		c.errno = sockets.Connect(s.slot(i).fd, &s.remote)
		if s.waits(&c, now) {
			s.remove(i)
			return false
		}
		s.underWay(i, c.errno, c.intended, now)
		return true
	}
	s.prepare(&c, tuple)
	if c.errno == 0 {
		c.errno = sockets.Connect(c.fd, &s.remote)
	}
	return s.begun(&c, now)
}

// tuple returns the tuple of a connection.
func (s *stream) tuple(number int64) tuples.Tuple {
	if s.burst != nil {
		return s.burst.tuple(number)
	}
	return s.load.tuples.At(uint64(number))
}

// prepare opens the socket of a connection (-1 on failure) and makes the tuple's target the remote
// address.
func (s *stream) prepare(c *begin, tuple tuples.Tuple) {
	s.remote.Set(tuple.Target)
	family := sockets.Family(tuple.Target.Addr())
	if c.fd, c.errno = sockets.Open(family, unix.SOCK_STREAM, unix.IPPROTO_TCP); c.errno != 0 {
		c.fd = -1
		return
	}
	if n := s.load.SYNRetries; n > 0 {
		c.errno = sockets.SetOption(c.fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, int32(n))
	}
	if c.errno == 0 {
		c.errno = s.bind(c.fd, tuple)
	}
	if c.errno == unix.EADDRNOTAVAIL {
		c.until = 0 // the source address is not this host's: no port would help
	}
}

// bind gives a socket the tuple's source, where the tuple names one.
func (s *stream) bind(fd int32, tuple tuples.Tuple) unix.Errno {
	if !tuple.Source.Addr().IsValid() && tuple.Source.Port() == 0 {
		return 0
	}
	free := s.load.FreeBind
	return sockets.BindSource(fd, tuple.Source, tuple.Target.Addr(), free, true, &s.local)
}

// begun continues a connection after connect returned. It returns false as connect does.
func (s *stream) begun(c *begin, now time.Duration) bool {
	if c.errno == 0 || c.errno == unix.EINPROGRESS {
		i := s.take(c.fd)
		if s.lives {
			s.slot(i).life = s.load.life(c.number)
		}
		s.underWay(i, c.errno, c.intended, now)
		return true
	}
	if c.fd >= 0 {
		sockets.Close(c.fd)
	}
	if s.waits(c, now) {
		return false
	}
	s.failed(c.intended, now, causeOf(c.errno))
	return true
}

// waits reports whether a connection that found no free port waits for one. In an open loop none
// does, since the next one has its own time.
func (s *stream) waits(c *begin, now time.Duration) bool {
	return c.errno != 0 && causeOf(c.errno) == NoPort && now < c.until && !s.load.openLoop()
}

// portRetry is the time after which to look for a free port again: the kernel may search them all.
const portRetry = 20 * time.Millisecond

// await puts a connection at the end of the queue for a free port.
func (s *stream) await(c begin, now time.Duration) {
	if len(s.portless) == 0 {
		s.retryAt = now + portRetry
	}
	s.portless = append(s.portless, c)
	s.open++
	s.tally.portWaits++
}

// retry begins the connections in the queue for a free port, until one finds none. The last attempt
// of a connection is the one after its time limit.
func (s *stream) retry(now time.Duration) {
	for n := 0; n < beginAtOnce && len(s.portless) > 0 && now >= s.retryAt; n++ {
		if !s.connect(s.portless[0], now) {
			s.retryAt = now + portRetry
			return
		}
		s.portless = s.portless[1:]
		s.open--
	}
}

// underWay continues a connection that has a slot.
func (s *stream) underWay(i int32, errno unix.Errno, intended, now time.Duration) {
	c := s.slot(i)
	c.intended, c.state = intended, connecting
	s.open++
	s.waiting.Put(i, now+s.load.Timeout)
	if errno == unix.EINPROGRESS && s.eager.Try() {
		errno = s.look(c)
	}
	generation := c.generation
	if errno == 0 {
		s.connected(i, 0)
	} else if errno != unix.EINPROGRESS {
		s.fail(i, s.load.now(), causeOf(errno))
	}
	if c.generation != generation || c.watched {
		return // it ended at once, or epoll watches its socket already
	}
	if errno := s.poll.Add(c.fd, sockets.WatchedEvents, i, c.generation); errno != 0 {
		s.fail(i, s.load.now(), causeOf(errno))
		return
	}
	c.watched, c.registered = true, generation
}

// look finds out whether a connection that has just begun is established already: it sends the
// request where there is one, else it calls connect again. Either call also reports a failure.
func (s *stream) look(c *conn) unix.Errno {
	var errno unix.Errno
	if len(s.request) > 0 && s.load.Kind != Hold {
		var n int
		if n, errno = sockets.Send(c.fd, s.request, 0); errno == 0 {
			c.presend = int32(n)
			s.tally.Sent += int64(n)
		}
	} else {
		errno = sockets.Connect(c.fd, &s.remote)
	}
	if errno == unix.EALREADY || errno == unix.EAGAIN {
		errno = unix.EINPROGRESS
	}
	s.eager.Learn(errno != unix.EINPROGRESS)
	return errno
}

// again sends the next request on a kept-alive connection. It reports whether there was one.
func (s *stream) again(intended, now time.Duration) bool {
	for len(s.idle) > 0 {
		h := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		c := s.find(h)
		if c == nil {
			continue
		}
		c.intended, c.connected, c.counted, c.answered = intended, now, false, false
		s.open++
		s.waiting.Put(h.slot, now+s.load.Timeout)
		s.response(h.slot).reset()
		s.send(h.slot, 0)
		return true
	}
	return false
}

// connected continues an established connection; events are those of the same epoll event.
func (s *stream) connected(i int32, events uint32) {
	c, now := s.slot(i), s.load.now()
	c.connected = now
	s.tally.Connect.Record(now - c.intended)
	switch {
	case s.load.Kind == HTTP:
		s.response(i).reset()
		s.send(i, events)
	case s.load.Kind == TCP && (len(s.request) > 0 || s.load.Expect > 0):
		c.expected = int64(s.load.Expect)
		s.send(i, events)
	default:
		s.exchanged(i, now, events)
	}
}

// send sends the request and then waits for the answer.
func (s *stream) send(i int32, events uint32) {
	c := s.slot(i)
	c.requests--
	c.unsent, c.presend, c.state = int32(len(s.request))-c.presend, 0, sending
	s.sendRest(i, events)
}

func (s *stream) sendRest(i int32, events uint32) {
	c := s.slot(i)
	for c.unsent > 0 {
		n, errno := sockets.Send(c.fd, s.request[len(s.request)-int(c.unsent):], 0)
		if errno == unix.EAGAIN {
			return // EPOLLOUT follows
		}
		if errno != 0 {
			s.fail(i, s.load.now(), causeOf(errno))
			return
		}
		c.unsent -= int32(n)
		s.tally.Sent += int64(n)
	}
	c.state = receiving
	if s.load.Kind == TCP && c.expected == 0 {
		s.exchanged(i, s.load.now(), events)
		return
	}
	if events&readable != 0 {
		s.receive(i, events)
	}
}

// readable selects the events after which a read does not block.
const readable = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// handle handles one epoll event.
func (s *stream) handle(e *unix.EpollEvent) {
	i := e.Fd
	c := s.slot(i)
	if !c.watched || c.registered != uint32(e.Pad) {
		return // the event belongs to a socket that was closed
	}
	switch c.state {
	case connFree, unconnected: // an unconnected socket always reports a hang-up
	case connecting:
		if e.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			s.fail(i, s.load.now(), pendingCause(c.fd))
		} else if e.Events&unix.EPOLLOUT != 0 {
			s.connected(i, e.Events)
		}
	case sending:
		s.sendRest(i, e.Events)
	default:
		if e.Events&readable != 0 {
			s.receive(i, e.Events)
		}
	}
}

// pendingCause returns why a socket failed. A hang-up without an error means that the peer closed.
func pendingCause(fd int32) Cause {
	if errno := sockets.PendingError(fd); errno != 0 {
		return causeOf(errno)
	}
	return ClosedEarly
}

// receive reads what has arrived. When the event says that the peer has closed, a read that does
// not fill the buffer has reached the end, which saves the read that would return 0.
func (s *stream) receive(i int32, events uint32) {
	c := s.slot(i)
	if c.state == closing && c.counted && events&unix.EPOLLRDHUP != 0 {
		s.peerClosed(i) // the answer was complete, so nothing is left to read
		return
	}
	for generation := c.generation; c.generation == generation; {
		n, errno := sockets.Receive(c.fd, s.buffer)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0:
			s.broken(i, causeOf(errno))
			return
		case n == 0:
			s.peerClosed(i)
			return
		}
		s.tally.Received += int64(n)
		c.received += int64(n)
		s.received(i, s.buffer[:n])
		if n < len(s.buffer) {
			if events&unix.EPOLLRDHUP != 0 && c.generation == generation {
				s.peerClosed(i)
			}
			return
		}
	}
}

// received handles bytes from the peer.
func (s *stream) received(i int32, data []byte) {
	c := s.slot(i)
	if c.state != receiving {
		return // a held or closing connection ignores what it receives
	}
	now := s.load.now()
	if !c.answered {
		c.answered = true
		s.tally.FirstByte.Record(now - c.intended)
		s.tally.Pages.Waiting.Record(now - c.connected)
	}
	if s.load.Kind != HTTP {
		if c.expected -= int64(len(data)); c.expected < 0 {
			s.fail(i, now, BadResponse)
		} else if c.expected == 0 {
			s.exchanged(i, now, 0)
		}
		return
	}
	r := s.response(i)
	taken := r.feed(data)
	switch {
	case r.state == responseBad, r.state == responseDone && taken < len(data):
		s.fail(i, now, BadResponse)
	case r.state == responseDone:
		s.responded(i, now)
	}
}

// responded ends a request whose response is complete.
func (s *stream) responded(i int32, now time.Duration) {
	c, r := s.slot(i), s.response(i)
	s.tally.Statuses[r.status]++
	s.tally.Pages.take(r, s.load.KeepAlive > 1)
	s.tally.Pages.Processing.Record(now - c.connected)
	if r.status < 400 {
		s.succeed(i, now)
	} else {
		c.counted = true
		s.failed(c.intended, now, BadResponse)
		s.tally.Pages.Refused.Record(now - c.intended)
	}
	switch {
	case r.status >= 400 && s.load.CloseOnError:
		s.remove(i)
	case c.requests > 0 && !r.close:
		s.leave(i)
		c.state = idling
		s.idle = append(s.idle, handle{i, c.generation})
	case s.load.CloseBy == Server:
		c.state = closing
	default:
		s.end(i)
	}
}

// exchanged continues a connection after connect and, where the spec asks for them, payload and
// answer.
func (s *stream) exchanged(i int32, now time.Duration, events uint32) {
	c := s.slot(i)
	switch {
	case s.load.Kind == Hold || s.lives:
		s.hold(i, now)
	case s.load.Kind == TCP && s.load.CloseBy == Server:
		c.state = closing
		if events&readable != 0 {
			s.receive(i, events)
		}
	default:
		s.succeed(i, now)
		s.end(i)
	}
}

// peerClosed handles the peer's FIN.
func (s *stream) peerClosed(i int32) {
	c := s.slot(i)
	c.left = true
	now := s.load.now()
	switch {
	case c.state == closing && !c.counted:
		s.succeed(i, now)
		s.end(i)
	case c.state == closing, c.state == idling, c.state == lingering:
		s.end(i)
	case c.state == receiving && s.load.Kind == HTTP && s.response(i).ended():
		s.responded(i, now)
		if c.state == closing {
			s.end(i)
		}
	default:
		s.fail(i, now, ClosedEarly)
	}
}

// broken handles an error of an established connection.
func (s *stream) broken(i int32, cause Cause) {
	if s.slot(i).counted {
		s.end(i)
	} else {
		s.fail(i, s.load.now(), cause)
	}
}
