package generators

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// stream is a worker that drives TCP sockets: http, tcp, hold and the tcp probe. It is one thread
// with one epoll instance; every connection is a slot of a table without pointers.
//
// A connection costs socket, connect, epoll_ctl, close and, where bytes travel, one send and one
// receive: descriptors are watched once, edge-triggered, for everything, and a peer's FIN that the
// event announces saves the read that would find it. Short ones make do with sockets of earlier ones (see
// [stream.keep]).
type stream struct {
	load  *load
	tally *tally
	poll  *poller

	chunks    [][]conn // the slots, in pieces that never move
	responses [][]response
	free      []int32
	open      int      // connections with something to do, or whose peer is to close
	held      int      // of those, the ones that are held
	idle      []handle // kept-alive connections without a request
	spares    []int32  // sockets to be connected again
	reuses    bool     // whether there may be such
	waiting   queue    // open connections under the time limit
	timers    timers   // what held connections do next
	attention attention

	concurrency int // this worker's share; 0: no limit
	request     []byte
	buffer      []byte
	eager       eagerness // to be established
	prompt      eagerness // to have ended
	local       sockaddr
	remote      sockaddr
	intended    [1]time.Duration
	volley      *volley // nil unless several begin at once
}

func newStream(l *load, number int) (*stream, error) {
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	s := &stream{
		load:    l,
		tally:   newTally(),
		poll:    poll,
		buffer:  make([]byte, 64<<10),
		request: l.requestBytes(),
		reuses:  l.reusesSockets(),

		concurrency: l.workerConcurrency(number),
	}
	s.waiting = newQueue(func(i int32) *link { return &s.slot(i).link })
	if l.AtOnce > 1 {
		if s.volley, err = newVolley(l); err != nil {
			return nil, errors.Join(err, poll.close())
		}
	}
	if l.Close == CloseAbandon {
		if err := canVanish(l.space.Targets.At(0)); err != nil {
			return nil, fmt.Errorf("%w, and closing the poller: %w", err, poll.close())
		}
	}
	return s, nil
}

// canVanish tries the repair mode that close mode abandon needs.
func canVanish(target netip.Addr) error {
	fd, errno := newSocket(family(target), unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if errno != 0 {
		return fmt.Errorf("opening a socket: %w", errno)
	}
	defer closeSocket(fd)
	if errno := vanishOnClose(fd); errno != 0 {
		return fmt.Errorf("close mode abandon needs CAP_NET_ADMIN in the network namespace: %w", errno)
	}
	return nil
}

func (s *stream) counts() *tally { return s.tally }
func (s *stream) rouse()         { s.poll.rouse() }

func (s *stream) close() error {
	if s.volley != nil {
		s.volley.chorus.close()
	}
	return s.poll.close()
}

// work implements worker.
func (s *stream) work() error {
	defer s.closeAll()
	for {
		now := s.load.now()
		if s.load.stopped.Load() {
			s.cancel(now)
			return nil
		}
		s.expire(now, s.attention.turn(now))
		wait := s.begin(now)
		if s.held > 0 && s.load.Kind == Hold && now >= s.load.Duration {
			s.release(now)
		}
		if wait < 0 && s.open == 0 {
			return nil
		}
		wait = s.sleep(wait)
		events, err := s.poll.wait(wait)
		if err != nil {
			return err
		}
		s.attention.looked(wait, s.poll.all(events))
		for i := range events {
			s.handle(&events[i])
		}
	}
}

// sleep is how long to wait for events when the next begin is wait away (negative: never).
func (s *stream) sleep(wait time.Duration) time.Duration {
	now := s.load.now()
	if first, ok := s.waiting.first(); ok {
		wait = sooner(wait, first-now)
	}
	if len(s.timers) > 0 {
		wait = sooner(wait, s.timers[0].at-now)
	}
	if s.load.Kind == Hold && s.open > 0 && now < s.load.Duration {
		wait = sooner(wait, s.load.Duration-now)
	}
	return wait
}

// sooner is the shorter of a wait that may be without end (negative) and a time that may be past.
func sooner(wait, until time.Duration) time.Duration {
	until = max(until, 0)
	if wait < 0 {
		return until
	}
	return min(wait, until)
}

// beginAtOnce is how many connections are begun between two looks at the others.
const beginAtOnce = 32

// begin opens the connections that are due and returns how long until the next is, negative for
// never (or not before another one ends).
func (s *stream) begin(now time.Duration) time.Duration {
	for range beginAtOnce {
		if s.concurrency > 0 && s.open-s.held >= s.concurrency {
			if s.load.pacer.Over() {
				return -1
			}
			return s.blocked()
		}
		number, n, wait := s.load.pacer.Take(now, s.intended[:])
		if n == 0 {
			if wait < 0 && s.volley != nil && len(s.volley.due) > 0 {
				s.volleyOff() // the last one is not whole
				return 0
			}
			return wait
		}
		now = s.load.now()
		if s.volley != nil {
			s.beginTogether(number, s.intended[0])
			continue
		}
		s.tally.offer(s.intended[0], now, s.load.openLoop())
		if !s.again(s.intended[0], now) {
			s.connect(number, s.intended[0], now)
		}
	}
	return 0
}

// blocked is how long to wait when the concurrency is used up: until something ends. A bounded
// load looks at the time now and then, since its duration may pass meanwhile.
func (s *stream) blocked() time.Duration {
	if s.load.Duration > 0 {
		return 100 * time.Millisecond
	}
	return time.Second
}
