package generators

import (
	"time"

	"github.com/ctload/ctload/generators/sockets"
)

// This file has the datagram worker's handling of answers and of ICMP errors.

// read takes what came to a socket. It takes the errors first, since a pending error keeps the
// socket ready. all reports whether nothing is left.
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
		d.tally.received += int64(len(data))
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

// quoted returns the part of a datagram, returned inside an ICMP error, that starts with the label.
// An echo request comes back with its header.
func (d *datagrams) quoted(data []byte) []byte {
	if d.echo != nil && len(data) >= echoHeader {
		return data[echoHeader:]
	}
	return data
}

// answered ends an exchange of a flow, and after the last exchange the flow.
func (d *datagrams) answered(slot int32) {
	now := d.load.now()
	f := d.flows.at(slot)
	if f.sequence == 0 {
		d.tally.firstByte.Record(now - f.intended)
	}
	if f.due > 0 {
		f.due--
		return
	}
	f.due = d.extra()
	if f.left--; f.left > 0 {
		f.sequence++
		f.resting = true
		d.flows.waiting.Remove(slot)
		d.flows.resting.Put(slot, now+d.load.Interval)
		return
	}
	d.tally.complete(f.intended, now)
	if d.load.Kind == Probe {
		d.tally.point(d.load.start, f.intended, now, "")
	}
	d.end(slot)
}

// extra returns how many answers an exchange has beyond the first.
func (d *datagrams) extra() int32 { return max(int32(d.load.AtOnce), 1) - 1 }

// fail ends a flow as failed.
func (d *datagrams) fail(slot int32, now time.Duration, cause causeNumber) {
	f := d.flows.at(slot)
	d.failed(f.intended, now, cause)
	d.end(slot)
}

// failed counts a failure, perhaps of a flow that has no socket yet.
func (d *datagrams) failed(intended, now time.Duration, cause causeNumber) {
	d.tally.fail(now, cause)
	if d.load.Kind == Probe {
		d.tally.point(d.load.start, intended, now, causes[cause])
	}
}

// end frees a flow, and its socket where no other flow uses it.
func (d *datagrams) end(slot int32) {
	f := d.flows.at(slot)
	if d.load.Kind == Probe {
		d.closeSocket(uint64(f.number), f.socket)
	}
	d.flows.remove(slot)
}

// expire fails the flows without an answer by limit and sends the next datagrams of conversations.
func (d *datagrams) expire(now, limit time.Duration) {
	if d.flows == nil {
		return
	}
	for d.flows.waiting.Due(limit) {
		d.fail(d.flows.waiting.Head, now, causeTimeout)
	}
	for d.flows.resting.Due(now) {
		slot := d.flows.resting.Head
		f := d.flows.at(slot)
		f.resting = false
		d.flows.resting.Remove(slot)
		d.fill(0, slot, f.number)
		d.send(f.socket, 0, 1, now)
	}
}

// readError takes one ICMP error and fails the flow that it names. It reports whether more errors
// may be queued.
func (d *datagrams) readError(fd int32) bool {
	data, told, more := d.in.ReceiveError(fd)
	if slot, ok := d.flows.find(d.quoted(data)); ok && told != 0 {
		d.fail(slot, d.load.now(), causeOf(told))
	}
	return more
}
