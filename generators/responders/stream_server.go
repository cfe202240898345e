package responders

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/sockets"
)

// streamServer is a worker of a tcp responder: one thread, one epoll instance, its own listeners. A
// connection's descriptor identifies it.
type streamServer struct {
	base
	listeners []int32
	peers     []peer
	idle      deadlines.Queue
	slow      deadlines.Queue
	unsent    map[int32][]byte // the part of an answer that did not fit into the socket
	partial   map[int32][]byte // part of a request, or requests that wait for an earlier answer
	attention deadlines.Attention
	eager     sockets.Eagerness
	buffer    []byte
	once      []byte // the http answer before closing
	kept      []byte // the http answer on a connection that stays open
	greeting  []byte // the first bytes on a connection
}

// peer is one connection of a responder, at the index of its descriptor.
type peer struct {
	deadlines.Link        // in the idle or, while its answer is delayed, in the slow queue
	generation     uint32 // tells the connection from earlier ones with its descriptor
	state          peerState
	last           bool // the connection ends with the current answer
}

type peerState uint8

const (
	peerFree peerState = iota
	peerReading
	peerDelayed // the request came, the answer waits
	peerSending // the answer does not fit into the socket
	peerLeft    // the peer has closed its side, ours stays open (leak)
)

func newStreamServer(spec *Spec, addresses []netip.Addr, first bool) (*streamServer, error) {
	poll, err := sockets.NewPoller()
	if err != nil {
		return nil, err
	}
	s := &streamServer{
		base:   base{spec: spec, poll: poll, start: time.Now()},
		unsent: make(map[int32][]byte), partial: make(map[int32][]byte),
		buffer: make([]byte, 64<<10),
		once:   answerBytes(spec.Body, false), kept: answerBytes(spec.Body, true),
	}
	if spec.Kind == Greet {
		s.greeting = bytes.Repeat([]byte("."), spec.Body)
	}
	at := func(fd int32) *deadlines.Link { return &s.peers[fd].Link }
	s.idle, s.slow = deadlines.NewQueue(at), deadlines.NewQueue(at)
	if s.listeners, err = listeners(spec, addresses, first); err != nil {
		return nil, errors.Join(err, s.close())
	}
	for i, fd := range s.listeners {
		if spec.Kind == Deaf {
			break
		}
		if errno := poll.Add(fd, unix.EPOLLIN, listenerSlot-int32(i), 0); errno != 0 {
			return nil, errors.Join(fmt.Errorf("watching a listener: %w", errno), s.close())
		}
	}
	return s, nil
}

// listenerSlot is the poller's slot of the first listener. The other listeners follow below it.
const listenerSlot = sockets.WakeSlot - 1

func (s *streamServer) close() error {
	for fd := range s.peers {
		if s.peers[fd].state != peerFree {
			s.end(int32(fd))
		}
	}
	for _, fd := range s.listeners {
		sockets.Close(fd)
	}
	return s.poll.Close()
}

func (s *streamServer) serve() error {
	for !s.live.stopping.Load() {
		now := s.now()
		s.expire(now, s.attention.Turn(now))
		wait := deadlines.Soonest(-1, now, &s.idle, &s.slow)
		events, err := s.poll.Wait(wait)
		if err != nil {
			return err
		}
		s.attention.Looked(wait, s.poll.All())
		s.live.stall()
		for i := range events {
			s.handle(&events[i])
		}
	}
	s.drain()
	return nil
}

// drain accepts and counts the connections left in the accept queues when the responder stops. The
// kernel has answered these, and their senders count them as established.
func (s *streamServer) drain() {
	if s.spec.Kind == Deaf {
		return // never accepts
	}
	for _, listener := range s.listeners {
		for range s.spec.Backlog { // bounded, so that new connections cannot delay the stop
			fd, errno := sockets.Accept(listener)
			if errno == 0 {
				s.live.accepted.Add(1)
				s.live.closed.Add(1)
				sockets.Close(fd)
			} else if errno == unix.EAGAIN || errno == unix.EMFILE || errno == unix.ENFILE {
				break
			}
		}
	}
}

// expire sends the answers that are due now, and closes connections whose idle time ran out by
// limit.
func (s *streamServer) expire(now, limit time.Duration) {
	for s.slow.Due(now) {
		fd := s.slow.Head
		s.slow.Remove(fd)
		s.answer(fd)
		s.next(fd, 0)
	}
	for s.idle.Due(limit) {
		s.live.expired.Add(1)
		s.end(s.idle.Head)
	}
}

func (s *streamServer) handle(e *unix.EpollEvent) {
	switch {
	case e.Fd <= listenerSlot:
		s.accept(s.listeners[listenerSlot-e.Fd])
	case s.peers[e.Fd].state == peerFree || s.peers[e.Fd].generation != uint32(e.Pad):
		// the event belongs to a connection that has ended meanwhile
	case e.Events&unix.EPOLLERR != 0:
		s.live.reset.Add(1)
		s.end(e.Fd)
	case s.peers[e.Fd].state == peerSending:
		s.resume(e.Fd, e.Events)
	case e.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP) != 0:
		s.read(e.Fd, e.Events)
	}
}

// acceptAtOnce limits how many connections a listener accepts before other events have their turn.
const acceptAtOnce = 64

func (s *streamServer) accept(listener int32) {
	for range acceptAtOnce {
		fd, errno := sockets.Accept(listener)
		switch errno {
		case 0:
			s.live.accepted.Add(1)
			s.welcome(fd)
		case unix.EAGAIN:
			return
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			s.live.exhausted.Add(1)
			return
		default: // this connection failed before accept; the next may be sound
		}
	}
}

// welcome starts a new connection. Its request has often arrived already. An immediate read then
// saves waiting for the event, and all of epoll when the answer ends the connection.
func (s *streamServer) welcome(fd int32) {
	if s.spec.Kind == Close {
		sockets.Close(fd)
		s.live.closed.Add(1)
		return
	}
	for int(fd) >= len(s.peers) {
		s.peers = append(s.peers, peer{})
	}
	p := &s.peers[fd]
	*p = peer{generation: p.generation, state: peerReading}
	generation := p.generation
	if s.spec.Kind == Greet {
		if s.send(fd, s.greeting); s.peers[fd].generation != generation {
			return
		}
		p = &s.peers[fd]
	}
	if s.spec.Kind != Silent && s.spec.Kind != Leak && s.spec.Kind != Greet && s.eager.Try() {
		s.eager.Learn(s.read(fd, 0))
		if p = &s.peers[fd]; p.generation != generation {
			return
		}
	}
	if s.spec.Idle > 0 && !p.Queued {
		s.idle.Put(fd, s.now()+s.spec.Idle)
	}
	if errno := s.poll.Add(fd, sockets.WatchedEvents, fd, generation); errno != 0 {
		s.live.exhausted.Add(1)
		s.end(fd)
	}
}

// read reads what has arrived and reports whether anything had.
func (s *streamServer) read(fd int32, events uint32) bool {
	p := &s.peers[fd]
	came := false
	for generation := p.generation; p.generation == generation && p.state != peerSending; {
		n, errno := sockets.Receive(fd, s.buffer)
		switch {
		case errno == unix.EAGAIN:
			return came
		case errno != 0:
			s.live.reset.Add(1)
			s.end(fd)
			return came
		case n == 0:
			s.left(fd)
			return true
		}
		came = true
		s.live.received.Add(int64(n))
		if s.spec.Idle > 0 && p.state == peerReading {
			s.idle.Put(fd, s.now()+s.spec.Idle)
		}
		s.take(fd, s.buffer[:n])
		if n < len(s.buffer) {
			if events&unix.EPOLLRDHUP != 0 && p.generation == generation && p.state != peerSending {
				s.left(fd)
			}
			return true
		}
	}
	return came
}

// take handles bytes from a peer.
func (s *streamServer) take(fd int32, data []byte) {
	switch s.spec.Kind {
	case Echo:
		s.send(fd, data)
	case HTTP, Slow:
		s.request(fd, data)
	}
}

// request handles a piece of one or of several requests.
func (s *streamServer) request(fd int32, data []byte) {
	p := &s.peers[fd]
	if before, ok := s.partial[fd]; ok {
		data = append(before, data...)
		delete(s.partial, fd)
	}
	for generation := p.generation; p.generation == generation && len(data) > 0; {
		length, keep, err := 0, false, error(nil)
		if p.state == peerReading { // otherwise pipelined requests wait
			length, keep, err = parseRequest(data)
		}
		if err != nil {
			s.end(fd)
			return
		}
		if length == 0 {
			s.partial[fd] = bytes.Clone(data)
			return
		}
		data = data[length:]
		p.last = !keep
		if s.spec.Kind == Slow {
			s.idle.Remove(fd)
			p.state = peerDelayed
			s.slow.Put(fd, s.now()+s.spec.Delay)
			continue
		}
		s.answer(fd)
	}
}

// answer sends the fixed answer.
func (s *streamServer) answer(fd int32) {
	p := &s.peers[fd]
	s.live.requests.Add(1)
	p.state = peerReading
	answer := s.kept
	if p.last {
		answer = s.once
	}
	s.send(fd, answer)
}

// send sends data and keeps the part that does not fit for later. Where the connection ends with
// the data, the FIN travels with the last bytes in one packet (MSG_MORE).
func (s *streamServer) send(fd int32, data []byte) {
	p := &s.peers[fd]
	flags := 0
	if p.last {
		flags = unix.MSG_MORE
	}
	n, errno := sockets.Send(fd, data, flags)
	if errno != 0 && errno != unix.EAGAIN {
		s.live.reset.Add(1)
		s.end(fd)
		return
	}
	s.live.sent.Add(int64(n))
	if n < len(data) {
		p.state = peerSending
		s.unsent[fd] = bytes.Clone(data[n:])
		return
	}
	if p.last {
		s.end(fd)
	}
}

// resume continues an answer that did not fit, and then handles what came meanwhile.
func (s *streamServer) resume(fd int32, events uint32) {
	s.peers[fd].state = peerReading
	rest := s.unsent[fd]
	delete(s.unsent, fd)
	s.send(fd, rest)
	s.next(fd, events)
}

// next handles what came while an answer was not complete, if it is complete now.
func (s *streamServer) next(fd int32, events uint32) {
	p := &s.peers[fd]
	if rest, ok := s.partial[fd]; ok && p.state == peerReading {
		delete(s.partial, fd)
		s.request(fd, rest)
	}
	if p.state == peerReading {
		if s.spec.Idle > 0 {
			s.idle.Put(fd, s.now()+s.spec.Idle)
		}
		s.read(fd, events)
	}
}

// left handles a peer that has closed its side.
func (s *streamServer) left(fd int32) {
	p := &s.peers[fd]
	switch {
	case s.spec.Kind == Leak:
		p.state = peerLeft
	case p.state == peerDelayed:
		p.last = true // the peer still gets its answer
	default:
		s.end(fd)
	}
}

// end closes a connection.
func (s *streamServer) end(fd int32) {
	p := &s.peers[fd]
	if p.state == peerDelayed {
		s.slow.Remove(fd)
	} else {
		s.idle.Remove(fd)
	}
	if len(s.unsent)+len(s.partial) > 0 {
		delete(s.unsent, fd)
		delete(s.partial, fd)
	}
	p.state = peerFree
	p.generation++
	sockets.Close(fd)
	s.live.closed.Add(1)
}

// maxRequest is the length, in bytes, of the longest request that a responder accepts.
const maxRequest = 16 << 10

var errBadRequest = errors.New("not an HTTP request")

// parseRequest finds the end of the first HTTP request in data and whether the connection stays
// open afterwards: in HTTP/1.1 unless the request says close, in 1.0 if it says keep-alive. The
// length is 0 while the request is incomplete. parseRequest does not support a body; a load sends
// none.
func parseRequest(data []byte) (length int, keep bool, err error) {
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		if len(data) > maxRequest {
			return 0, false, errBadRequest
		}
		return 0, false, nil
	}
	head := data[:end+2]
	line, headers, _ := bytes.Cut(head, []byte("\r\n"))
	switch {
	case bytes.HasSuffix(line, []byte(" HTTP/1.1")):
		keep = true
	case !bytes.HasSuffix(line, []byte(" HTTP/1.0")):
		return 0, false, errBadRequest
	}
	for len(headers) > 0 {
		line, headers, _ = bytes.Cut(headers, []byte("\r\n"))
		const name = "connection:"
		if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
			continue
		}
		switch value := bytes.TrimSpace(line[len(name):]); {
		case bytes.EqualFold(value, []byte("close")):
			keep = false
		case bytes.EqualFold(value, []byte("keep-alive")):
			keep = true
		}
	}
	return end + 4, keep, nil
}

// answerBytes returns the fixed answer of a responder.
func answerBytes(body int, keep bool) []byte {
	connection := "close"
	if keep {
		connection = "keep-alive"
	}
	head := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: ctload\r\nContent-Type: text/plain\r\n"+
		"Content-Length: %d\r\nConnection: %s\r\n\r\n", body, connection)
	return append(head, bytes.Repeat([]byte("."), body)...)
}
