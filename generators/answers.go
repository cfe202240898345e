package generators

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// How the worker for datagrams deals with answers and with what ICMP says instead.

// errorControl is room for what a socket's error queue tells of a datagram.
const errorControl = 128

// askErrors makes a socket keep ICMP errors with the datagram that each is for.
func askErrors(fd int32, six bool) unix.Errno {
	if six {
		return setOption(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	}
	return setOption(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
}

// read takes what came to a socket: its errors first, since taking them is what quietens it.
func (d *datagrams) read(position int32) (all bool) {
	for d.sockets[position] >= 0 && d.readError(d.sockets[position]) {
	}
	if d.sockets[position] < 0 {
		return true // what was told ended the only flow of this socket
	}
	n, errno := d.in.receive(d.sockets[position])
	if errno != 0 {
		return true // nothing there, or an error that the error queue explains
	}
	for i := range n {
		data := d.in.received(i)
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
	return n < batchSize
}

// readError takes one ICMP error and fails the flow that it is for. It reports whether there may
// be more.
func (d *datagrams) readError(fd int32) bool {
	b := d.in
	h := &b.headers[0].header
	b.vectors[0].SetLen(b.size)
	h.Name, h.Namelen = nil, 0
	h.Control = &b.controls[0]
	h.SetControllen(b.control)
	n, errno := receiveMessage(fd, h, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if errno != 0 {
		return false
	}
	messages, err := unix.ParseSocketControlMessage(b.controls[:h.Controllen])
	if err != nil {
		return true
	}
	for _, m := range messages {
		if len(m.Data) < 4 || m.Header.Type != unix.IP_RECVERR && m.Header.Type != unix.IPV6_RECVERR {
			continue
		}
		told := unix.Errno(binary.NativeEndian.Uint32(m.Data)) // the first field of sock_extended_err
		if slot, ok := d.flows.find(d.quoted(b.message(0)[:min(n, b.size)])); ok {
			d.fail(slot, d.load.now(), causeOf(told))
		}
	}
	return true
}

// quoted is the part of a datagram that came back with an error from its label on. An echo
// request comes back with its header.
func (d *datagrams) quoted(data []byte) []byte {
	if d.echo != nil && len(data) >= echoHeader {
		return data[echoHeader:]
	}
	return data
}

// answered ends an exchange of a flow, and the flow if it was the last.
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
		d.flows.waiting.remove(slot)
		d.flows.resting.put(slot, now+d.load.Interval)
		return
	}
	d.tally.complete(f.intended, now)
	if d.load.Kind == Probe {
		d.tally.point(d.load.start, f.intended, now, "")
	}
	d.end(slot)
}

// extra is how many answers an exchange has beyond the first.
func (d *datagrams) extra() int32 { return max(int32(d.load.AtOnce), 1) - 1 }

// fail ends a flow badly.
func (d *datagrams) fail(slot int32, now time.Duration, cause causeNumber) {
	f := d.flows.at(slot)
	d.failed(f.intended, now, cause)
	d.end(slot)
}

// failed counts what failed, perhaps before it had a socket.
func (d *datagrams) failed(intended, now time.Duration, cause causeNumber) {
	d.tally.fail(now, cause)
	if d.load.Kind == Probe {
		d.tally.point(d.load.start, intended, now, causes[cause])
	}
}

// end frees a flow, and its socket if that was only for it.
func (d *datagrams) end(slot int32) {
	f := d.flows.at(slot)
	if d.load.Kind == Probe {
		d.closeSocket(uint64(f.number), f.socket)
	}
	d.flows.remove(slot)
}

// expire fails what was not answered by limit, and sends the next datagrams of conversations.
func (d *datagrams) expire(now, limit time.Duration) {
	if d.flows == nil {
		return
	}
	for d.flows.waiting.due(limit) {
		d.fail(d.flows.waiting.head, now, causeTimeout)
	}
	for d.flows.resting.due(now) {
		slot := d.flows.resting.head
		f := d.flows.at(slot)
		f.resting = false
		d.flows.resting.remove(slot)
		d.fill(0, slot, f.number)
		d.send(f.socket, 0, 1, now)
	}
}
