package responders

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/sockets"
)

// datagramServer is a worker of a udp responder. It answers in batches, each datagram from the
// address that it came to.
type datagramServer struct {
	base
	sockets []int32
	batch   *sockets.Batch
	delayed []delayedDatagram // answers of a slow responder, the oldest first
}

// delayedDatagram is an answer that waits for its time.
type delayedDatagram struct {
	at      time.Duration
	socket  int32
	message sockets.Message
}

const (
	largestDatagram = 64 << 10
	// mostDelayed limits the answers that a slow responder keeps. Further ones are lost and counted
	// as unsent.
	mostDelayed = 1 << 16
	// datagramQueue is the receive buffer in bytes. It holds a burst that would otherwise be lost
	// here and count as lost on the way.
	datagramQueue = 4 << 20
	// datagramControl is room, in bytes, for the packet information of either family.
	datagramControl = 64
)

func newDatagramServer(spec *Spec, addresses []netip.Addr, first bool) (*datagramServer, error) {
	poll, err := sockets.NewPoller()
	if err != nil {
		return nil, err
	}
	s := &datagramServer{
		base:  base{spec: spec, poll: poll, start: time.Now()},
		batch: sockets.NewBatch(16, largestDatagram, datagramControl),
	}
	if s.sockets, err = listeners(spec, addresses, first); err != nil {
		return nil, errors.Join(err, s.close())
	}
	for i, fd := range s.sockets {
		if spec.Kind == Deaf {
			break
		}
		sockets.Enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, datagramQueue)
		errno := askDestination(fd)
		if errno == 0 {
			errno = poll.Add(fd, unix.EPOLLIN, int32(i), 0)
		}
		if errno != 0 {
			return nil, errors.Join(fmt.Errorf("watching a udp socket: %w", errno), s.close())
		}
	}
	return s, nil
}

// askDestination makes the kernel report the destination address of each datagram.
func askDestination(fd int32) unix.Errno {
	if sockets.SetOption(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) == 0 {
		return 0 // an IPv6 socket reports it for IPv4 too
	}
	return sockets.SetOption(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

func (s *datagramServer) close() error {
	for _, fd := range s.sockets {
		sockets.Close(fd)
	}
	return s.poll.Close()
}

func (s *datagramServer) serve() error {
	for !s.live.stopping.Load() {
		wait := time.Duration(-1)
		s.sendDelayed()
		if len(s.delayed) > 0 {
			wait = deadlines.Sooner(wait, s.delayed[0].at-s.now())
		}
		events, err := s.poll.Wait(wait)
		if err != nil {
			return err
		}
		s.live.stall()
		for _, e := range events {
			s.read(s.sockets[e.Fd])
		}
	}
	return nil
}

// read takes a batch and answers it. Remaining datagrams cause the next event.
func (s *datagramServer) read(fd int32) {
	n, errno := s.batch.Receive(fd)
	if errno != 0 {
		// Nothing is there, or the read has cleared an ICMP error for an earlier answer.
		return
	}
	s.live.requests.Add(int64(n))
	for i := range n {
		s.live.received.Add(int64(len(s.batch.Received(i))))
		if s.spec.Kind != Silent {
			s.batch.Answer(i)
		}
	}
	switch s.spec.Kind {
	case Echo:
		s.send(fd, n)
	case Slow:
		for i := range n {
			s.delay(fd, i)
		}
	}
}

// send sends the first n messages of the batch.
func (s *datagramServer) send(fd int32, n int) {
	for from := 0; from < n; {
		sent, errno := s.batch.Send(fd, from, n)
		for i := range sent {
			s.live.sent.Add(int64(len(s.batch.Received(from + i))))
		}
		from += sent
		if errno != 0 {
			s.live.unsent.Add(1)
			from++
		}
	}
}

// delay keeps message i of the batch until its delay is over.
func (s *datagramServer) delay(fd int32, i int) {
	if len(s.delayed) >= mostDelayed {
		s.live.unsent.Add(1)
		return
	}
	at := s.now() + s.spec.Delay
	s.delayed = append(s.delayed, delayedDatagram{at, fd, s.batch.Clone(i)})
}

func (s *datagramServer) sendDelayed() {
	now := s.now()
	due := 0
	for ; due < len(s.delayed) && s.delayed[due].at <= now; due++ {
		d := &s.delayed[due]
		s.batch.Restore(&d.message)
		s.send(d.socket, 1)
	}
	clear(s.delayed[:due]) // for the garbage collector
	s.delayed = s.delayed[due:]
}
