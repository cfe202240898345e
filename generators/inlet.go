package generators

import (
	"errors"
	"fmt"
	"time"

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

	ack    packets.Template
	ending packets.Template // closes a handshake, where it is to be closed
	closes bool
}

const (
	answerSize = 128 // of a frame: more than headers, options and what an error quotes
)

func newInlet(l *load, worker *crafted, way outlet, six bool) (*inlet, error) {
	in := &inlet{worker: worker, load: l, batch: newBatch(batchSize, answerSize, 0)}
	fd, err := listeningSocket(way.index, six, packets.SYN|packets.RST|packets.FIN)
	if err != nil {
		return nil, err
	}
	in.fd = fd
	if l.Workers > 1 {
		err = shareAmong(fd, worker.number, &l.fanout)
	}
	if errno := worker.poll.add(fd, unix.EPOLLIN, 0, 0); errno != 0 {
		err = errors.Join(err, fmt.Errorf("watching a packet socket: %w", errno))
	}
	if err != nil {
		closeSocket(fd)
		return nil, err
	}
	in.ack = packets.NewTCP(way.link, six, packets.ACK, nil)
	if in.closes = l.Kind == Handshake && l.Close != CloseAbandon; in.closes {
		flags := packets.FIN | packets.ACK
		if l.Close == CloseRST {
			flags = packets.RST | packets.ACK
		}
		in.ending = packets.NewTCP(way.link, six, flags, nil)
	}
	return in, nil
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

// read takes a batch of answers, and reports whether these were all.
func (in *inlet) read() (all bool) {
	n, errno := in.batch.receive(in.fd)
	if errno != 0 {
		return true
	}
	now := in.load.now()
	for i := range n {
		frame := in.batch.received(i)
		in.worker.tally.received += int64(len(frame))
		in.answer(packets.Parse(frame), now)
	}
	in.worker.out.flush()
	return n < batchSize
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
		if in.load.Close == CloseFIN && in.load.Kind == Handshake {
			in.finish(a, isn+1) // completed by the peer's FIN
		} else if waited, ok := in.load.awaiting.settle(number, now); ok {
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
			in.acknowledge(a, a.Acknowledged, a.Sequence+uint32(a.Payload)+1)
			if waited, ok := in.load.awaiting.settle(number, now); ok {
				in.complete(now, waited)
			}
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

// replyFrame is the tag of frames that are replies to answers.
const replyFrame = -1

// acknowledge sends an ACK.
func (in *inlet) acknowledge(a packets.Answer, sequence, acknowledged uint32) {
	in.ack.SetTCP(in.worker.out.put(&in.ack, replyFrame), a.Source, a.Target, sequence, acknowledged)
}

// finish closes a completed handshake, where it is to be closed.
func (in *inlet) finish(a packets.Answer, sequence uint32) {
	if in.closes {
		in.ending.SetTCP(in.worker.out.put(&in.ending, replyFrame), a.Source, a.Target, sequence, a.Sequence+1)
	}
}
