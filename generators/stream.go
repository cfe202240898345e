package generators

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/sockets"
)

// stream is a worker that drives TCP sockets: http, tcp, hold and the tcp probe. It is one thread
// with one epoll instance. Every connection is a slot of a table without pointers.
//
// A connection costs socket, connect, epoll_ctl, close and, where bytes travel, one send and one
// receive. epoll watches a descriptor once, edge-triggered, for everything, and an event that
// announces the peer's FIN saves the read that would find it. Short connections reuse the sockets
// of earlier ones (see [stream.keep]).
type stream struct {
	load  *load
	tally *tally
	poll  *sockets.Poller

	chunks    [][]conn // the slots, in pieces that never move
	responses [][]response
	free      []int32
	// open counts connections with something to do, or whose peer has to close.
	open      int
	held      int             // those of open that are held
	idle      []handle        // kept-alive connections without a request
	reusable  []int32         // slots of sockets that can be connected again
	reuses    bool            // the load may connect sockets again
	waiting   deadlines.Queue // open connections under the time limit
	timers    timers          // the next actions of held connections
	attention deadlines.Attention

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
	poll, err := sockets.NewPoller()
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
	s.waiting = deadlines.NewQueue(func(i int32) *deadlines.Link { return &s.slot(i).Link })
	if l.AtOnce > 1 {
		if s.burst, err = newBurst(l); err != nil {
			return nil, errors.Join(err, poll.Close())
		}
	}
	if l.Close == CloseAbandon {
		if err := canVanish(l.space.Targets.At(0)); err != nil {
			return nil, fmt.Errorf("%w, and closing the poller: %w", err, poll.Close())
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
		return fmt.Errorf("close mode abandon needs CAP_NET_ADMIN in the network namespace: %w", errno)
	}
	return nil
}

func (s *stream) counts() *tally { return s.tally }
func (s *stream) rouse()         { s.poll.Rouse() }

func (s *stream) close() error {
	if s.burst != nil {
		s.burst.barrier.Close()
	}
	return s.poll.Close()
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
		s.expire(now, s.attention.Turn(now))
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
		s.attention.Looked(wait, s.poll.All(events))
		for i := range events {
			s.handle(&events[i])
		}
	}
}

// sleep returns how long to wait for events when the next begin is wait away (negative: never).
func (s *stream) sleep(wait time.Duration) time.Duration {
	now := s.load.now()
	if first, ok := s.waiting.First(); ok {
		wait = deadlines.Sooner(wait, first-now)
	}
	if len(s.timers) > 0 {
		wait = deadlines.Sooner(wait, s.timers[0].at-now)
	}
	if s.load.Kind == Hold && s.open > 0 && now < s.load.Duration {
		wait = deadlines.Sooner(wait, s.load.Duration-now)
	}
	return wait
}

// beginAtOnce limits how many connections begin before the worker looks at the others.
const beginAtOnce = 32

// begin opens the connections that are due and returns the time until the next one, negative for
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
			if wait < 0 && s.burst != nil && len(s.burst.due) > 0 {
				s.beginBurst() // the last burst is incomplete
				return 0
			}
			return wait
		}
		now = s.load.now()
		if s.burst != nil {
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

// blocked returns how long to wait when the concurrency is used up: until something ends. A load
// with a duration wakes more often, since the duration may pass meanwhile.
func (s *stream) blocked() time.Duration {
	if s.load.Duration > 0 {
		return 100 * time.Millisecond
	}
	return time.Second
}
