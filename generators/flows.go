package generators

import (
	"encoding/binary"
	"iter"
	"time"

	"github.com/ctload/ctload/generators/deadlines"
	"github.com/ctload/ctload/generators/sockets"
)

// flow is one datagram flow that awaits answers or has a lifetime.
type flow struct {
	deadlines.Link // in the queue of flows that await an answer
	intended       time.Duration
	next           time.Duration // when its latest datagram was due, or its next one while it rests
	ends           time.Duration // when its last datagram is due; 0: left counts them
	number         int64         // of its tuple
	generation     uint32
	left           int32 // exchanges left, the current one included
	due            int32 // answers of the current exchange still to come, without the last
	socket         int32 // position in the worker's list
	sequence       uint16
	used           bool
	resting        bool // between two exchanges
}

// flows is a table of flows. The label in a datagram leads back to its flow.
type flows struct {
	slots[flow]
	open    int
	waiting deadlines.Queue // flows that await an answer, by time limit
	resting deadlines.Heap  // flows between exchanges, by the time of the next
}

func newFlows() *flows {
	f := new(flows)
	f.waiting = deadlines.NewQueue(func(i int32) *deadlines.Link { return &f.at(i).Link })
	return f
}

// chunkSize is the number of slots in one allocation.
const chunkSize = 1024

// slots is a table of slots in pieces that never move.
type slots[T any] struct {
	chunks [][]T
	free   []int32
}

func (s *slots[T]) at(i int32) *T { return &s.chunks[i/chunkSize][i%chunkSize] }

// all yields every slot, free or not.
func (s *slots[T]) all() iter.Seq2[int32, *T] {
	return func(yield func(int32, *T) bool) {
		for i := range int32(len(s.chunks) * chunkSize) {
			if !yield(i, s.at(i)) {
				return
			}
		}
	}
}

// take returns a free slot, with what its last user left there.
func (s *slots[T]) take() int32 {
	if len(s.free) == 0 {
		first := int32(len(s.chunks) * chunkSize)
		s.chunks = append(s.chunks, make([]T, chunkSize))
		for i := first + chunkSize - 1; i >= first; i-- {
			s.free = append(s.free, i)
		}
	}
	i := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	return i
}

// add turns a free slot into a flow.
func (f *flows) add(of flow) int32 {
	i := f.take()
	slot := f.at(i)
	of.generation, of.used = slot.generation, true
	*slot = of
	f.open++
	return i
}

// remove frees a slot.
func (f *flows) remove(i int32) {
	slot := f.at(i)
	f.waiting.Remove(i)
	slot.used = false
	slot.generation++
	f.free = append(f.free, i)
	f.open--
}

// labelSize is the length, in bytes, of the label that matches an answer to its flow: a mark, the
// slot, its generation and the number of the exchange.
const labelSize = 16

const labelMark = 0x63746c64 // "ctld"

// label writes the label of a flow's current exchange.
func (f *flows) label(i int32, data []byte) {
	slot := f.at(i)
	binary.BigEndian.PutUint32(data, labelMark)
	binary.BigEndian.PutUint32(data[4:], uint32(i))
	binary.BigEndian.PutUint32(data[8:], slot.generation)
	binary.BigEndian.PutUint32(data[12:], uint32(slot.sequence))
}

// find reads a label and returns the flow that awaits it. It returns false for other traffic, a
// duplicate, or an answer that comes too late.
func (f *flows) find(data []byte) (int32, bool) {
	if len(data) < labelSize || binary.BigEndian.Uint32(data) != labelMark {
		return 0, false
	}
	i := binary.BigEndian.Uint32(data[4:])
	if uint64(i) >= uint64(len(f.chunks))*chunkSize {
		return 0, false
	}
	slot := f.at(int32(i))
	awaited := slot.used && !slot.resting && slot.generation == binary.BigEndian.Uint32(data[8:])
	return int32(i), awaited && uint32(slot.sequence) == binary.BigEndian.Uint32(data[12:])
}

// read takes what came to a socket, errors first, since a pending error keeps the socket ready. all
// reports whether nothing is left.
func (d *datagrams) read(position int32) (all bool) {
	for d.sockets[position] >= 0 && d.readError(d.sockets[position]) {
	}
	if d.sockets[position] < 0 {
		return true
	}
	n, errno := d.in.Receive(d.sockets[position])
	if errno != 0 {
		return true // nothing there, or an error that the error queue explains
	}
	for i := range n {
		data := d.in.Received(i)
		d.tally.Received += int64(len(data))
		if d.echo != nil {
			var reply bool
			if data, reply = d.echo.reply(data); !reply {
				continue
			}
		}
		if slot, ok := d.flows.find(data); ok {
			d.answered(slot)
		}
	}
	return n < sockets.BatchSize
}

// answered ends an exchange of a flow, and after the last exchange the flow.
func (d *datagrams) answered(slot int32) {
	now := d.load.now()
	f := d.flows.at(slot)
	if f.sequence == 0 {
		d.tally.FirstByte.Record(now - f.intended)
	}
	if f.due > 0 {
		f.due--
		return
	}
	f.due = d.extra()
	if !d.rest(slot, now) {
		d.complete(slot, now)
	}
}

// complete ends a flow that had its last datagram. Without answers it has no latency.
func (d *datagrams) complete(slot int32, now time.Duration) {
	f := d.flows.at(slot)
	if d.awaits {
		d.tally.complete(f.intended, now)
		d.point(f.intended, now, "")
	} else {
		d.tally.accept(1, now)
	}
	d.end(slot)
}

// rest lets a flow wait for its next datagram. It returns false when the flow had its last one.
func (d *datagrams) rest(slot int32, now time.Duration) bool {
	f := d.flows.at(slot)
	switch {
	case f.ends > f.next: // the datagrams of a life have an absolute schedule
		f.next = min(f.next+d.load.Interval, f.ends)
	case f.ends == 0 && f.left > 1:
		f.left--
		f.next = now + d.load.Interval
	default:
		return false
	}
	f.sequence++
	f.resting = true
	d.flows.waiting.Remove(slot)
	d.flows.resting.Push(int64(slot), f.next)
	return true
}

// extra returns how many answers an exchange has beyond the first.
func (d *datagrams) extra() int32 { return max(int32(d.load.AtOnce), 1) - 1 }

// fail ends a flow as failed.
func (d *datagrams) fail(slot int32, now time.Duration, cause Cause) {
	f := d.flows.at(slot)
	d.failed(f.intended, now, cause)
	d.end(slot)
}

// end frees a flow. Where flows have a lifetime and for a probe, it also frees the flow's socket
// when no other flow uses it.
func (d *datagrams) end(slot int32) {
	f := d.flows.at(slot)
	brief := d.load.Kind == Probe || !d.load.Lifetime.None()
	if d.users[f.socket]--; brief && d.users[f.socket] == 0 {
		source, _ := d.place(f.number)
		d.closeSocket(source, f.socket)
	}
	d.flows.remove(slot)
}

// expire fails the flows without an answer by limit and sends the next datagrams of conversations.
func (d *datagrams) expire(now, limit time.Duration) {
	if d.flows == nil {
		return
	}
	for d.flows.waiting.Due(limit) {
		d.fail(d.flows.waiting.Head, now, Timeout)
	}
	for {
		i, ok := d.flows.resting.Due(now)
		if !ok {
			break
		}
		slot := int32(i)
		// The slot may have another flow by now, which waits for its own datagram.
		if f := d.flows.at(slot); f.used && f.resting && f.next <= now {
			f.resting = false
			_, target := d.place(f.number)
			d.fill(0, slot, target)
			d.send(f.socket, 0, 1, now)
		}
	}
}

// readError takes one ICMP error and fails the flow that it names. It reports whether more errors
// may be queued.
func (d *datagrams) readError(fd int32) bool {
	data, told, more := d.in.ReceiveError(fd)
	data = data[min(d.header, len(data)):] // an echo request comes back with its header
	if slot, ok := d.flows.find(data); ok && told != 0 {
		d.fail(slot, d.load.now(), causeOf(told))
	}
	return more
}
