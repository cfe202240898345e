package generators

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
)

// replyReader reads the answers to crafted packets and completes handshakes. It keeps no state of a
// connection: the tuple of an answer leads to the packet's number, and that to the sequence number
// that the answer must acknowledge.
type replyReader struct {
	worker *crafted
	load   *load
	fd     int32
	six    bool
	batch  *sockets.Batch

	ack    packets.Template
	ending packets.Template // closes a handshake, where the spec asks for that
	closes bool
	living *living // nil unless handshakes have a lifetime
}

func newReplyReader(l *load, worker *crafted, way outlet, six bool) (*replyReader, error) {
	fd, err := sockets.OpenPackets(way.index, six)
	if err != nil {
		return nil, err
	}
	if l.Workers > 1 {
		err = sockets.ShareAmong(fd, worker.number, &l.fanout)
	}
	if errno := worker.poll.Add(fd, unix.EPOLLIN, 0, 0); errno != 0 {
		err = errors.Join(err, fmt.Errorf("watching a packet socket: %w", errno))
	}
	if err != nil {
		sockets.Close(fd)
		return nil, err
	}
	flags := packets.FIN | packets.ACK
	if l.Close == CloseRST {
		flags = packets.RST | packets.ACK
	}
	r := &replyReader{
		worker: worker, load: l, fd: fd, six: six,
		batch:  sockets.NewBatch(sockets.BatchSize, sockets.AnswerSize, 0),
		ack:    packets.NewTCP(way.link, six, packets.ACK, nil),
		ending: packets.NewTCP(way.link, six, flags, nil),
		closes: l.Kind == Handshake && l.Close != CloseAbandon,
	}
	if !l.Lifetime.None() {
		r.living = new(living)
	}
	return r, nil
}

// sleep returns how long to wait for answers. On worker 0 it also fails the packets whose answers
// are overdue.
func (r *replyReader) sleep(wait time.Duration) time.Duration {
	now := r.load.now()
	if r.worker.number != 0 {
		// Worker 0 expires overdue packets, which may end the load.
		return r.living.sleep(deadlines.Sooner(wait, 20*time.Millisecond), now)
	}
	late := func() { r.worker.tally.fail(now, Timeout) }
	next := r.load.awaiting.expire(now, r.load.Timeout, late)
	if next >= 0 {
		wait = deadlines.Sooner(wait, next)
	}
	if r.load.awaiting.open.Load() > 0 || wait < 0 {
		wait = deadlines.Sooner(wait, 20*time.Millisecond) // another worker may get the last answer
	}
	return r.living.sleep(wait, now)
}

// read takes a batch of answers. It reports whether no more were waiting.
func (r *replyReader) read() (all bool) {
	n, errno := r.batch.Receive(r.fd)
	if errno != 0 {
		return true
	}
	now := r.load.now()
	for i := range n {
		frame := r.batch.Received(i)
		r.worker.tally.Received += int64(len(frame))
		r.answer(packets.Parse(frame), now)
	}
	r.worker.out.Flush()
	return n < sockets.BatchSize
}

// answer handles one answer.
func (r *replyReader) answer(a packets.Answer, now time.Duration) {
	if a.Kind == packets.Unrelated || a.Kind == packets.Opening {
		return
	}
	found, ok := r.load.tuples.Find(tuples.Tuple{Source: a.Source, Target: a.Target})
	number := int64(found)
	if !ok || !r.load.awaiting.wasSent(number) {
		return
	}
	isn := r.load.initialSequence(number)
	switch a.Kind {
	case packets.SYNACK:
		if a.Acknowledged != isn+1 || r.load.Kind == ICMP {
			return // an answer to an old connection on the same tuple
		}
		if r.load.Kind == Handshake {
			// A repeated SYN-ACK gets one too: the first ACK was lost.
			r.reply(&r.ack, a, isn+1, a.Sequence+1)
		}
		// With close mode fin, the peer's FIN completes the handshake.
		fin := r.load.Kind == Handshake && r.load.Close == CloseFIN
		switch {
		case r.living != nil:
			r.live(number, now, a.Sequence)
		case (fin || r.complete(number, now)) && r.closes:
			r.reply(&r.ending, a, isn+1, a.Sequence+1)
		}
	case packets.Replying:
		if r.load.Kind == ICMP && a.Sequence == uint32(uint16(number)) {
			r.complete(number, now)
		}
	case packets.Segment:
		switch {
		case a.Flags&packets.FIN == 0 || r.load.Kind != Handshake:
		case r.living != nil:
			r.finished(number, now, a)
		case r.load.Close == CloseFIN:
			r.reply(&r.ack, a, a.Acknowledged, a.Sequence+uint32(a.Payload)+1)
			r.complete(number, now)
		}
	case packets.Resetting, packets.Refusing:
		if r.living != nil && r.broken(number, now, Reset) {
			return
		}
		r.fail(number, now, Refused)
	case packets.Unreachable:
		r.fail(number, now, Unreachable)
	}
}

// complete counts a packet as answered, unless its fate was known already.
func (r *replyReader) complete(number int64, now time.Duration) bool {
	waited, ok := r.load.awaiting.settle(number, now)
	if ok {
		r.worker.tally.complete(now-waited, now)
		if r.load.Kind != ICMP {
			r.worker.tally.Connect.Record(waited)
		}
	}
	return ok
}

func (r *replyReader) fail(number int64, now time.Duration, cause Cause) {
	if _, ok := r.load.awaiting.settle(number, now); ok {
		r.worker.tally.fail(now, cause)
	}
}

// replyFrame tags frames that are replies to answers.
const replyFrame = -1

// reply sends a segment made from a template in reply to an answer.
func (r *replyReader) reply(template *packets.Template, a packets.Answer, sequence, ack uint32) {
	frame := r.worker.out.Put(template, replyFrame)
	template.SetTCP(frame, a.Source, a.Target, sequence, ack)
}

// awaiting keeps, for each crafted packet that awaits an answer, its intended time and whether its
// fate is known: four bytes a packet, by the packet's number, shared by all workers.
type awaiting struct {
	pieces awaitingPieces
	peers  awaitingPieces // the peers' sequence numbers, where connections have a lifetime
	open   atomic.Int64   // packets sent or about to be sent whose fate is unknown
	alive  atomic.Int64   // those of open that are connections with a lifetime
	// next is the first packet whose fate may be unknown. Only worker 0 uses it.
	next int64
	// away counts the nanoseconds that each worker stood still while it may have unread answers.
	away []atomic.Int64
}

// awaitingPieces hold a number for each packet. A piece is allocated when the first of its packets
// is sent.
type awaitingPieces []atomic.Pointer[[awaitingSize]atomic.Uint32]

const (
	awaitingSize = 1 << 16
	// mostAwaited limits how many packets of a load may await answers.
	mostAwaited = 1 << 28

	// A packet's state holds its time in microseconds, modulo the mask's range of about 18 minutes,
	// and two bits. Zero: not sent. Both: settled.
	awaitingSent  = 1 << 30
	awaitingAlive = 1 << 31
	awaitingBoth  = awaitingSent | awaitingAlive
	awaitingTime  = awaitingSent - 1
	// longestAwaiting limits the timeout, so that the modulus cannot confuse two times.
	longestAwaiting = 15 * time.Minute
)

func newAwaiting(most int64, workers int) *awaiting {
	pieces := (most + awaitingSize - 1) / awaitingSize
	return &awaiting{
		pieces: make(awaitingPieces, pieces), peers: make(awaitingPieces, pieces),
		away: make([]atomic.Int64, workers),
	}
}

func (pieces awaitingPieces) at(number int64) *atomic.Uint32 {
	piece := &pieces[number/awaitingSize]
	p := piece.Load()
	if p == nil {
		piece.CompareAndSwap(nil, new([awaitingSize]atomic.Uint32))
		p = piece.Load()
	}
	return &p[number%awaitingSize]
}

func (a *awaiting) at(number int64) *atomic.Uint32 { return a.pieces.at(number) }

// peer returns the place for the sequence number of a connection's peer.
func (a *awaiting) peer(number int64) *atomic.Uint32 { return a.peers.at(number) }

// reserve announces up to n packets before the worker takes them from the pacer. Without it another
// worker could find the pacer empty and nothing open, and end. release takes back those that the
// pacer did not give.
func (a *awaiting) reserve(n int64) { a.open.Add(n) }

func (a *awaiting) release(n int64) { a.open.Add(-n) }

// sent notes that the worker is about to send a reserved packet. The worker calls it before it
// sends, since the answer may come before the system call returns.
func (a *awaiting) sent(number int64, intended time.Duration) {
	a.at(number).Store(awaitingSent | uint32(intended.Microseconds())&awaitingTime)
}

// settle marks the fate of a packet as known and returns the time since its intended send. It
// returns false for a packet that was not sent or whose fate was known already.
func (a *awaiting) settle(number int64, now time.Duration) (time.Duration, bool) {
	waited, ok := a.turn(number, now, awaitingSent, awaitingBoth)
	if ok {
		a.open.Add(-1)
	}
	return waited, ok
}

// hold marks the connection of a packet as alive and returns the time since its intended send. It
// returns false as settle does.
func (a *awaiting) hold(number int64, now time.Duration) (time.Duration, bool) {
	waited, ok := a.turn(number, now, awaitingSent, awaitingAlive)
	if ok {
		a.alive.Add(1)
	}
	return waited, ok
}

// held reports whether the connection of a packet is alive.
func (a *awaiting) held(number int64) bool {
	return a.at(number).Load()&awaitingBoth == awaitingAlive
}

// finish settles a connection that is alive. It returns the time since its intended send, modulo
// the range, or false for another one.
func (a *awaiting) finish(number int64, now time.Duration) (time.Duration, bool) {
	waited, ok := a.turn(number, now, awaitingAlive, awaitingBoth)
	if ok {
		a.alive.Add(-1)
		a.open.Add(-1)
	}
	return waited, ok
}

// turn changes the bits of a packet from one state to another and returns the time since its
// intended send. It returns false for a packet in another state.
func (a *awaiting) turn(number int64, now time.Duration, from, to uint32) (time.Duration, bool) {
	if number/awaitingSize >= int64(len(a.pieces)) {
		return 0, false
	}
	state := a.at(number)
	before := state.Load()
	if before&awaitingBoth != from || !state.CompareAndSwap(before, before&awaitingTime|to) {
		return 0, false
	}
	return since(before, now), true
}

// wasSent reports whether a packet was sent, settled or not.
func (a *awaiting) wasSent(number int64) bool {
	return number/awaitingSize < int64(len(a.pieces)) && a.at(number).Load()&awaitingBoth != 0
}

// since returns the time from a state to now.
func since(state uint32, now time.Duration) time.Duration {
	us := (uint32(now.Microseconds()) - state) & awaitingTime
	return time.Duration(us) * time.Microsecond
}

// expire settles the packets that have waited longer than limit, in the order of their numbers, and
// calls failed for each. It returns the time until the next packet can expire, negative when none
// waits. Only one worker may call it.
func (a *awaiting) expire(now, limit time.Duration, failed func()) time.Duration {
	away := int64(0)
	for i := range a.away {
		away = max(away, a.away[i].Load())
	}
	limit += time.Duration(away)
	for a.next < int64(len(a.pieces))*awaitingSize {
		state := a.at(a.next).Load()
		switch {
		case state&awaitingBoth == 0:
			// The packet was not sent yet. Numbers are sent nearly in order.
			return -1
		case state&awaitingAlive == 0:
			waited := since(state, now)
			if waited < limit {
				return limit - waited
			}
			if _, ok := a.settle(a.next, now); ok {
				failed()
			}
		}
		a.next++
	}
	return -1
}
