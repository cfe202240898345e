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

	ack     packets.Template
	replies *batch // to be sent after a batch of answers: ACKs, and closes
	filled  int
	ending  packets.Template // closes a handshake, when it is to be closed
	endings *batch
	ended   int
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
