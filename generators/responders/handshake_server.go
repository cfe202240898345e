package responders

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
)

// handshakeServer is a worker of a responder without sockets. It answers each SYN to addresses
// without an owner with a SYN-ACK, acknowledges data and answers a FIN with its own FIN. Each
// answer derives from its segment alone, so that connections need no memory.
type handshakeServer struct {
	base
	fd     int32
	space  *tuples.Allocator
	in     *sockets.Batch
	out    *sockets.FrameBatch
	accept packets.Template
	ack    packets.Template
	finish packets.Template
}

// handshakeSequence is the first sequence number of every connection. The value is arbitrary.
const handshakeSequence = 0x10000000

func newHandshakeServer(spec *Spec, number int, group *int32) (*handshakeServer, error) {
	set, err := tuples.ParseAddresses(spec.Address)
	if err != nil {
		return nil, err
	}
	own, found, err := sockets.OwnAddress(set)
	if err != nil {
		return nil, err
	}
	if found {
		return nil, fmt.Errorf("address %s belongs to this host, whose kernel would reset "+
			"the handshakes", own)
	}
	space, err := tuples.NewAllocator(tuples.Space{Targets: set, TargetPorts: spec.Ports}, 0)
	if err != nil {
		return nil, err
	}
	index, err := sockets.InterfaceIndex(spec.Interface)
	if err != nil {
		return nil, err
	}
	poll, err := sockets.NewPoller()
	if err != nil {
		return nil, err
	}
	six := !set.Is4()
	s := &handshakeServer{
		base: base{poll: poll}, fd: -1, space: space,
		in:     sockets.NewBatch(sockets.BatchSize, sockets.AnswerSize, 0),
		accept: packets.NewTCP(packets.Link{}, six, packets.SYN|packets.ACK, nil),
		ack:    packets.NewTCP(packets.Link{}, six, packets.ACK, nil),
		finish: packets.NewTCP(packets.Link{}, six, packets.FIN|packets.ACK, nil),
	}
	lost := func(int64, unix.Errno) { s.live.unsent.Add(1) }
	if s.out, err = sockets.NewFrameBatch(index, number, lost); err == nil {
		s.fd, err = sockets.ListenPackets(index, six, packets.SYN|packets.FIN|packets.PSH)
	}
	if err == nil && spec.Workers > 1 {
		err = sockets.ShareAmong(s.fd, number, group)
	}
	if err == nil {
		if errno := poll.Add(s.fd, unix.EPOLLIN, 0, 0); errno != 0 {
			err = fmt.Errorf("watching a packet socket: %w", errno)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *handshakeServer) close() error {
	if s.fd >= 0 {
		sockets.Close(s.fd)
	}
	var err error
	if s.out != nil {
		err = s.out.Close()
	}
	return errors.Join(err, s.poll.Close())
}

func (s *handshakeServer) serve() error {
	for !s.live.stopping.Load() {
		events, err := s.poll.Wait(-1)
		if err != nil {
			return err
		}
		s.live.stall()
		for range events {
			s.read()
		}
	}
	s.live.exhausted.Add(sockets.DroppedFrames(s.fd))
	return nil
}

// read takes a batch of segments and answers it.
func (s *handshakeServer) read() {
	n, errno := s.in.Receive(s.fd)
	if errno != 0 {
		return
	}
	for i := range n {
		s.answer(s.in.Received(i))
	}
	s.out.Flush()
}

// answer adds the answer to a segment to the outgoing batch.
func (s *handshakeServer) answer(frame []byte) {
	a := packets.Parse(frame)
	mine, theirs := a.Source, a.Target // Parse takes a segment as an answer
	if a.Kind == packets.Opening {
		mine, theirs = a.Target, a.Source
	}
	if _, ok := s.space.Find(tuples.Tuple{Target: mine}); !ok {
		return
	}
	template, sequence := &s.ack, a.Acknowledged
	acknowledged := a.Sequence + uint32(a.Payload)
	switch {
	case a.Kind == packets.Opening:
		template, sequence, acknowledged = &s.accept, handshakeSequence, a.Sequence+1
		s.live.accepted.Add(1)
	case a.Kind == packets.Segment && a.Flags&packets.FIN != 0:
		template, acknowledged = &s.finish, acknowledged+1
		s.live.closed.Add(1)
	case a.Kind == packets.Segment && a.Payload > 0:
		s.live.received.Add(int64(a.Payload))
	default:
		return
	}
	message := s.out.Put(template, 0)
	copy(message, frame[6:12]) // the frame returns to its sender
	copy(message[6:], frame[:6])
	template.SetTCP(message, mine, theirs, sequence, acknowledged)
}
