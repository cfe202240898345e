package generators

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/generators/tuples"
)

// inlet reads the answers to crafted packets, and completes handshakes. It keeps no state of a
// connection: the tuple of an answer leads to the packet's number, and that to the sequence number
// that it must acknowledge.
type inlet struct {
	worker *crafted
	load   *load
	fd     int32
	batch  *batch

	ack     packets.Template
	replies *batch // to be sent after a batch of answers: ACKs, and closes
	filled  int
	ending  packets.Template // closes a handshake, when it is to be closed
	endings *batch
	ended   int
}

const (
	answerSize  = 128 // of a frame: more than headers, options and what an error quotes
	answerQueue = 16 << 20
)

func newInlet(l *load, worker *crafted, way outlet, six bool) (*inlet, error) {
	in := &inlet{worker: worker, load: l, batch: newBatch(batchSize, answerSize, 0)}
	protocol := uint16(unix.ETH_P_IP)
	if six {
		protocol = unix.ETH_P_IPV6
	}
	fd, err := packetSocket(way.index, 0)
	if err != nil {
		return nil, err
	}
	in.fd = fd
	enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, answerQueue)
	// First the filter, then the protocol: otherwise strangers' frames get in between.
	err = in.attach(six)
	address := unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: way.index}
	if bindErr := unix.Bind(int(fd), &address); bindErr != nil {
		err = errors.Join(err, fmt.Errorf("binding a packet socket to interface %d: %w", way.index, bindErr))
	}
	if l.Workers > 1 {
		err = errors.Join(err, in.share())
	}
	if errno := worker.poll.add(fd, unix.EPOLLIN, 0, 0); errno != 0 {
		err = errors.Join(err, fmt.Errorf("watching a packet socket: %w", errno))
	}
	if err != nil {
		closeSocket(fd)
		return nil, err
	}
	if l.Kind == Handshake {
		in.ack, in.replies = replyBatch(way.link, six, packets.ACK)
		switch l.Close {
		case CloseRST:
			in.ending, in.endings = replyBatch(way.link, six, packets.RST|packets.ACK)
		case CloseFIN, CloseHalf:
			in.ending, in.endings = replyBatch(way.link, six, packets.FIN|packets.ACK)
		}
	}
	return in, nil
}

func replyBatch(link packets.Link, six bool, flags packets.Flags) (packets.Template, *batch) {
	template := packets.NewTCP(link, six, flags, nil)
	b := newBatch(batchSize, len(template.Frame), 0)
	for i := range batchSize {
		copy(b.message(i), template.Frame)
	}
	return template, b
}

// attach lets only those frames in that may be answers: of the protocol in question, and ICMP.
// Segments without SYN, RST or FIN are not looked at, nor what this host sends.
func (in *inlet) attach(six bool) error {
	const accept = answerSize
	protocolAt, icmp := uint32(14+9), uint32(unix.IPPROTO_ICMP)
	flags := []bpf.Instruction{bpf.LoadMemShift{Off: 14}, bpf.LoadIndirect{Off: 14 + 13, Size: 1}}
	if six {
		protocolAt, icmp = 14+6, unix.IPPROTO_ICMPV6
		flags = []bpf.Instruction{bpf.LoadAbsolute{Off: 14 + 40 + 13, Size: 1}}
	}
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipTrue: uint8(len(flags) + 5)},
		bpf.LoadAbsolute{Off: protocolAt, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp, SkipTrue: uint8(len(flags) + 2)},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: uint8(len(flags) + 2)},
	}
	program = append(program, flags...)
	program = append(program,
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: uint32(packets.SYN | packets.RST | packets.FIN), SkipTrue: 1},
		bpf.RetConstant{Val: accept},
		bpf.RetConstant{Val: 0},
	)
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assembling the filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	err = unix.SetsockoptSockFprog(int(in.fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err != nil {
		return fmt.Errorf("attaching the filter: %w", err)
	}
	return nil
}

// share makes the workers' sockets a group, each of which gets a part of the answers: those of one
// tuple always the same one.
func (in *inlet) share() error {
	const kind = unix.PACKET_FANOUT_HASH
	if in.worker.number > 0 {
		if errno := setOption(in.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, in.load.fanout|kind<<16); errno != 0 {
			return fmt.Errorf("joining the group of packet sockets: %w", errno)
		}
		return nil
	}
	if errno := setOption(in.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, (kind|unix.PACKET_FANOUT_FLAG_UNIQUEID)<<16); errno != 0 {
		return fmt.Errorf("making a group of packet sockets: %w", errno)
	}
	value, err := unix.GetsockoptInt(int(in.fd), unix.SOL_PACKET, unix.PACKET_FANOUT)
	if err != nil {
		return fmt.Errorf("reading the group of packet sockets: %w", err)
	}
	in.load.fanout = int32(value & 0xffff)
	return nil
}

// sleep is how long to wait for answers, doing on the way what time has come for.
func (in *inlet) sleep(wait time.Duration) time.Duration {
	now := in.load.now()
	if in.worker.number != 0 {
		// Another worker ends what is overdue, and by that perhaps the load.
		return sooner(wait, 20*time.Millisecond)
	}
	next := in.load.awaiting.expire(now, in.load.Timeout, func(time.Duration) { in.worker.tally.fail(now, causeTimeout) })
	if next >= 0 {
		wait = sooner(wait, next)
	}
	if in.load.awaiting.open.Load() > 0 || wait < 0 {
		wait = sooner(wait, 20*time.Millisecond) // or another worker gets the last answer
	}
	return wait
}

// read takes a batch of answers.
func (in *inlet) read() {
	n, errno := in.batch.receive(in.fd)
	if errno != 0 {
		return
	}
	now := in.load.now()
	for i := range n {
		frame := in.batch.received(i)
		in.worker.tally.received += int64(len(frame))
		in.answer(packets.Parse(frame), now)
	}
	in.flush()
}

// answer deals with one answer.
func (in *inlet) answer(a packets.Answer, now time.Duration) {
	if a.Kind == packets.Unrelated || a.Kind == packets.Opening {
		return
	}
	found, ok := in.load.tuples.Find(tuples.Tuple{Source: a.Source, Target: a.Target})
	number := int64(found)
	if !ok || !in.load.awaiting.wasSent(number) {
		return
	}
	isn := in.load.initialSequence(number)
	switch a.Kind {
	case packets.SYNACK:
		if a.Acknowledged != isn+1 || in.load.Kind == ICMP {
			return // an answer to something else: an old connection on the same tuple
		}
		if in.load.Kind == Handshake {
			in.acknowledge(a, isn+1, a.Sequence+1) // also a repeated one: then our ACK was lost
		}
		if waited, ok := in.load.awaiting.settle(number, now); ok {
			in.complete(now, waited)
			in.finish(a, isn+1)
		}
	case packets.Replying:
		if in.load.Kind != ICMP || a.Sequence != uint32(uint16(number)) {
			return
		}
		if waited, ok := in.load.awaiting.settle(number, now); ok {
			in.complete(now, waited)
		}
	case packets.Segment:
		if a.Flags&packets.FIN != 0 && in.load.Kind == Handshake && in.load.Close == CloseFIN {
			in.acknowledge(a, a.Acknowledged, a.Sequence+1)
		}
	case packets.Resetting, packets.Refusing:
		in.fail(number, now, causeRefused)
	case packets.Unreachable:
		in.fail(number, now, causeUnreachable)
	}
}

func (in *inlet) complete(now, waited time.Duration) {
	in.worker.tally.complete(now-waited, now)
	if in.load.Kind != ICMP {
		in.worker.tally.connect.Record(waited)
	}
}

func (in *inlet) fail(number int64, now time.Duration, cause causeNumber) {
	if _, ok := in.load.awaiting.settle(number, now); ok {
		in.worker.tally.fail(now, cause)
	}
}

// acknowledge puts an ACK into the batch of replies.
func (in *inlet) acknowledge(a packets.Answer, sequence, acknowledged uint32) {
	if in.filled == batchSize {
		in.flush()
	}
	in.ack.SetTCP(in.replies.message(in.filled), a.Source, a.Target, sequence, acknowledged)
	in.filled++
}

// finish closes a completed handshake, where it is to be closed.
func (in *inlet) finish(a packets.Answer, sequence uint32) {
	if in.endings == nil {
		return
	}
	if in.ended == batchSize {
		in.flush()
	}
	in.ending.SetTCP(in.endings.message(in.ended), a.Source, a.Target, sequence, a.Sequence+1)
	in.ended++
}

// flush sends the replies, the ACKs before what closes.
func (in *inlet) flush() {
	in.filled = in.reply(in.replies, in.filled)
	in.ended = in.reply(in.endings, in.ended)
}

// reply sends the first n messages and returns 0. One that is not taken is lost like one that is
// lost on the way: the target sends its SYN-ACK again.
func (in *inlet) reply(b *batch, n int) int {
	for i, tries := 0, 0; i < n; {
		sent, errno := b.send(in.worker.out, i, n)
		i += sent
		if errno == 0 {
			continue
		}
		if tries++; tries > retries(errno, false) {
			tries = 0
			in.worker.tally.unsent++
			i++
			continue
		}
		pause()
	}
	return 0
}

// lost is how many answers found the receive queue full.
func (in *inlet) lost() int64 {
	var stats unix.TpacketStats
	size := uint32(unsafe.Sizeof(stats))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(in.fd), unix.SOL_PACKET, unix.PACKET_STATISTICS,
		uintptr(unsafe.Pointer(&stats)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return int64(stats.Drops)
}
