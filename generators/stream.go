package generators

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
)

// stream is a worker that drives TCP sockets: http, tcp, hold and the tcp probe. It is one thread
// with one epoll instance. Every connection is a slot of a table without pointers.
//
// A connection costs socket, connect, epoll_ctl, close and, where bytes travel, one send and one
// receive. epoll watches a descriptor once, edge-triggered, for everything, and an event that
// announces the peer's FIN saves the read that would find it. Short connections reuse the sockets
// of earlier ones (see [stream.keep]).
type stream struct {
	base

	slots     slots[conn]
	responses [][]response
	open      int      // connections with something to do, or whose peer has to close, or portless
	held      int      // those of open that are held
	idle      []handle // kept-alive connections without a request
	reusable  []int32  // slots of sockets that can be connected again
	reuses    bool     // the load may connect sockets again
	lives     bool     // the connections have a lifetime

	portless []begin       // the queue for a free port
	retryAt  time.Duration // when to look for one again

	waiting deadlines.Queue // open connections under the time limit
	ends    deadlines.Heap  // held connections that end before the load
	sends   deadlines.Queue // held connections that send

	concurrency int // this worker's share; 0: no limit
	request     []byte
	buffer      []byte
	eager       sockets.Eagerness // whether to ask early if a connection is established
	prompt      sockets.Eagerness // whether to ask early if a connection has ended
	local       sockets.Address
	remote      sockets.Address
	intended    [1]time.Duration
	burst       *burst // nil unless several begin at once
}

func newStream(l *load, number int) (*stream, error) {
	base, err := newBase(l)
	if err != nil {
		return nil, err
	}
	s := &stream{
		base: base, buffer: make([]byte, 64<<10), request: l.requestBytes(),
		reuses: l.reusesSockets(), lives: !l.Lifetime.None(),
		concurrency: l.workerConcurrency(number),
	}
	link := func(i int32) *deadlines.Link { return &s.slot(i).Link }
	s.waiting, s.sends = deadlines.NewQueue(link), deadlines.NewQueue(link)
	if l.AtOnce > 1 {
		if s.burst, err = newBurst(l); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	if l.Close == CloseAbandon {
		if err := canVanish(l.space.Targets.At(0)); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// canVanish tries the repair mode that close mode abandon needs.
func canVanish(target netip.Addr) error {
	fd, errno := sockets.Open(sockets.Family(target), unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if errno != 0 {
		return fmt.Errorf("opening a socket: %w", errno)
	}
	defer sockets.Close(fd)
	if errno := sockets.VanishOnClose(fd); errno != 0 {
		return fmt.Errorf("close mode abandon needs CAP_NET_ADMIN in the namespace: %w", errno)
	}
	return nil
}

func (s *stream) close() error {
	if s.burst != nil {
		s.burst.barrier.Close()
	}
	return s.poll.Close()
}

func (s *stream) work() error {
	defer s.closeAll()
	for {
		now := s.load.now()
		if s.load.stopped.Load() {
			s.cancel(now)
			return nil
		}
		s.expire(now, s.attention.Turn(now))
		s.retry(now)
		wait := s.begin(now)
		if s.held > 0 && s.load.Kind == Hold && now >= s.load.Duration {
			s.release(now)
		}
		if wait < 0 && s.open == 0 {
			return nil
		}
		wait = s.sleep(wait)
		events, err := s.poll.Wait(wait)
		if err != nil {
			return err
		}
		s.attention.Looked(wait, s.poll.All())
		for i := range events {
			s.handle(&events[i])
		}
	}
}

// sleep returns how long to wait for events when the next begin is wait away (negative: never).
func (s *stream) sleep(wait time.Duration) time.Duration {
	now := s.load.now()
	wait = deadlines.Soonest(wait, now, &s.waiting, &s.sends)
	if first, ok := s.ends.First(); ok {
		wait = deadlines.Sooner(wait, first-now)
	}
	if len(s.portless) > 0 {
		wait = deadlines.Sooner(wait, s.retryAt-now)
	}
	if s.load.Kind == Hold && s.open > 0 && now < s.load.Duration {
		wait = deadlines.Sooner(wait, s.load.Duration-now)
	}
	return wait
}

// inFlight returns how many connections count to the concurrency. A load of hold goes on to open
// others beside those that it holds.
func (s *stream) inFlight() int {
	if s.load.Kind == Hold {
		return s.open - s.held
	}
	return s.open
}

// beginAtOnce limits how many connections begin before the worker looks at the others.
const beginAtOnce = 32

// begin opens the connections that are due and returns the time until the next one, negative for
// never (or not before another one ends).
func (s *stream) begin(now time.Duration) time.Duration {
	for range beginAtOnce {
		if s.concurrency > 0 && s.inFlight() >= s.concurrency {
			switch { // until something ends
			case s.load.pacer.Over():
				return -1
			case s.load.Duration > 0: // which may pass meanwhile
				return 100 * time.Millisecond
			}
			return time.Second
		}
		number, n, wait := s.load.pacer.Take(now, s.intended[:])
		if n == 0 {
			if wait < 0 && s.burst != nil && len(s.burst.due) > 0 {
				s.beginBurst() // the last burst is incomplete
				return 0
			}
			return wait
		}
		now = s.load.now()
		c := begin{number: number, intended: s.intended[0], until: now + s.load.Timeout}
		if s.burst != nil {
			s.beginTogether(c)
			continue
		}
		s.tally.offer(now, s.load.openLoop(), c.intended)
		if !s.again(c.intended, now) && (len(s.portless) > 0 || !s.connect(c, now)) {
			s.await(c, now)
		}
	}
	return 0
}

// conn is one connection of a [stream].
type conn struct {
	// intended is the planned start of the connection or of its current request, since the start
	// of the load.
	intended       time.Duration
	connected      time.Duration // when it was established, or its request sent where it is kept
	life           time.Duration // how long it stays open; while held, when it ends
	deadlines.Link               // in the queue of time limits or, while held, of those that send
	expected       int64         // bytes still to come (tcp)
	received       int64         // bytes received
	fd             int32
	generation     uint32 // tells the connection from earlier ones in the slot
	registered     uint32 // the generation that epoll has for the descriptor
	unsent         int32  // bytes of the request still to send
	presend        int32  // bytes sent before the connection was known to be established
	requests       int32  // left to send, without the current one
	state          connState
	watched        bool // by epoll
	counted        bool // its end was counted; only the close is left
	answered       bool // the first byte came
	left           bool // the peer has closed its side
}

type connState uint8

const (
	connFree connState = iota
	connecting
	sending
	receiving
	holding
	closing     // the peer has to close
	idling      // kept alive, without a request
	lingering   // half closed, until the load ends
	unconnected // a socket without a connection, for the next one
)

// handle names a connection that may have ended since.
type handle struct {
	slot       int32
	generation uint32
}

func (s *stream) slot(i int32) *conn { return s.slots.at(i) }

// response returns the response that connection i reads (http).
func (s *stream) response(i int32) *response { return &s.responses[i/chunkSize][i%chunkSize] }

// take gives the connection of a socket a free slot.
func (s *stream) take(fd int32) int32 {
	i := s.slots.take()
	if s.load.Kind == HTTP && len(s.responses) < len(s.slots.chunks) {
		s.responses = append(s.responses, make([]response, chunkSize))
	}
	c := s.slot(i)
	*c = conn{fd: fd, generation: c.generation, requests: int32(s.load.KeepAlive)}
	return i
}

// drop frees a slot after its socket was closed.
func (s *stream) drop(i int32) {
	c := s.slot(i)
	c.state = connFree
	c.generation++ // marks pending events and handles of this connection as stale
	s.slots.free = append(s.slots.free, i)
}

// find returns the connection that a handle names, or nil when it has ended.
func (s *stream) find(h handle) *conn {
	if c := s.slot(h.slot); c.generation == h.generation && c.state != connFree {
		return c
	}
	return nil
}

// A stream connects sockets again. To make, watch and free a socket is a fifth of the kernel's work
// for a short connection. A disconnected socket can be connected anew, to another port and from
// another one.
//
// Its packets equal those of a fresh socket, but for the first sequence number: the kernel goes on
// from the socket's last connection instead of drawing one for the tuple. A peer checks that number
// only when it has the tuple in TIME_WAIT and the connection has no timestamps (RFC 6191). So a
// socket is kept after a RST, which leaves no TIME_WAIT, or if it had timestamps, and only while
// its buffers have not grown, since the window of the next SYN would show that.

// mostReusable limits how many sockets wait to be connected again.
const mostReusable = 256

// reusableBytes limits how many bytes a kept socket may have carried in either direction. The
// kernel first considers larger buffers after ten segments, which is more.
const reusableBytes = 4096

// reusesSockets reports whether a load may connect its sockets again. It may not where the spec
// names the source port, since a socket keeps its port; where a connection lives on after its end
// (timers, a list of idle ones); where several hosts may disagree on timestamps; or where the load
// needs fresh sockets.
func (p *plan) reusesSockets() bool {
	brief := p.Kind == HTTP && p.KeepAlive == 1 || p.Kind == TCP && p.Lifetime.None()
	ends := p.Close == CloseFIN || p.Close == CloseRST
	one := p.AtOnce <= 1 && p.space.Targets.Len() == 1
	return brief && ends && one && p.SourcePorts == "" && p.Payload <= reusableBytes
}

// reusableFor binds a reusable socket to the tuple's source and returns its slot, or
// deadlines.None.
func (s *stream) reusableFor(tuple tuples.Tuple) int32 {
	last := len(s.reusable) - 1
	if last < 0 {
		return deadlines.None
	}
	i := s.reusable[last]
	s.reusable = s.reusable[:last]
	if s.bind(s.slot(i).fd, tuple) != 0 {
		s.remove(i)
		return deadlines.None
	}
	s.remote.Set(tuple.Target)
	return i
}

// keep makes the socket of an ended connection reusable, still watched, and reports whether it did.
// If the socket is still connected, the peer gets the RST that a close without lingering sends.
func (s *stream) keep(i int32) bool {
	c := s.slot(i)
	if !s.reuses || len(s.reusable) >= mostReusable || s.load.stopped.Load() ||
		c.received > reusableBytes || sockets.Disconnect(c.fd) != 0 {
		return false
	}
	s.leave(i)
	*c = conn{
		fd: c.fd, generation: c.generation + 1, registered: c.registered, watched: c.watched,
		state: unconnected, requests: int32(s.load.KeepAlive),
	}
	s.reusable = append(s.reusable, i)
	return true
}

// finish sends the FIN of a connection whose peer has sent its own. It reports whether the socket
// can be kept: the FIN ended the connection at once, as it mostly does on one machine, and the
// connection had timestamps.
func (s *stream) finish(c *conn) bool {
	if !s.reuses || !c.left || !s.prompt.Try() || sockets.HalfClose(c.fd) != 0 {
		return false
	}
	state, options := sockets.TCPInfo(c.fd)
	s.prompt.Learn(state == sockets.TCPClosed)
	return state == sockets.TCPClosed && options&sockets.TCPTimestamps != 0
}
