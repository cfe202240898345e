package generators

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/packets"
)

// outbox collects crafted frames and sends them in batches.
type outbox struct {
	sender sender
	filled int
	tags   [batchSize]int64
	lost   func(tag int64, errno unix.Errno) // told of frames that were not taken
}

// sender is a way for batches of frames to leave.
type sender interface {
	// room is how many frames can be filled now, up to a batch.
	room() int
	// frame is the memory of frame i of the next batch, i below room, size up to mostFrame.
	frame(i, size int) []byte
	// send sends the first n frames, and tells which of them were not taken.
	send(n int, lost func(i int, errno unix.Errno))
	close() error
}

// mostFrame is how large a crafted frame may be.
const mostFrame = 1514

// newOutbox opens an outbox of a worker on an interface, the fastest that there is.
func newOutbox(index, worker int, lost func(tag int64, errno unix.Errno)) (*outbox, error) {
	o := &outbox{lost: lost}
	// Each queue has room for one express; interfaces of namespaces usually have a single queue.
	fast, fastErr := newExpress(index, worker)
	if fastErr == nil {
		o.sender = fast
		return o, nil
	}
	plain, err := newPacketSender(index)
	if err != nil {
		return nil, errors.Join(err, fastErr)
	}
	o.sender = plain
	return o, nil
}

// put is the memory of the next frame, a copy of the template to be patched before anything else
// is put. The tag names it if it is lost.
func (o *outbox) put(template *packets.Template, tag int64) []byte {
	if o.filled == batchSize || o.filled >= o.sender.room() {
		o.flush()
		for tries := 0; o.sender.room() == 0; tries++ {
			if tries > retries(unix.ENOBUFS, false) {
				o.lost(tag, unix.ENOBUFS)
				return make([]byte, len(template.Frame)) // which leads nowhere
			}
			pause()
		}
	}
	frame := o.sender.frame(o.filled, len(template.Frame))
	copy(frame, template.Frame)
	o.tags[o.filled] = tag
	o.filled++
	return frame
}

// flush sends what was put.
func (o *outbox) flush() {
	if o.filled == 0 {
		return
	}
	n := o.filled
	o.filled = 0
	o.sender.send(n, func(i int, errno unix.Errno) { o.lost(o.tags[i], errno) })
}

func (o *outbox) close() error { return o.sender.close() }

// packetSender sends frames by a packet socket, past the queueing discipline, which would only drop
// what the interface's own queue has no room for (PACKET_QDISC_BYPASS, Linux 3.14).
type packetSender struct {
	fd    int32
	batch *batch
}

func newPacketSender(index int) (*packetSender, error) {
	fd, err := packetSocket(index, 0)
	if err != nil {
		return nil, err
	}
	if errno := setOption(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); errno != 0 {
		closeSocket(fd)
		return nil, fmt.Errorf("passing by the queueing discipline: %w", errno)
	}
	enlarge(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, 4<<20)
	return &packetSender{fd: fd, batch: newBatch(batchSize, mostFrame, 0)}, nil
}

func (p *packetSender) close() error {
	closeSocket(p.fd)
	return nil
}

func (p *packetSender) room() int { return batchSize }

func (p *packetSender) frame(i, size int) []byte {
	p.batch.vectors[i].SetLen(size)
	return p.batch.message(i)[:size]
}

func (p *packetSender) send(n int, lost func(i int, errno unix.Errno)) {
	for i, tries := 0, 0; i < n; {
		sent, errno := p.batch.send(p.fd, i, n)
		i += sent
		if sent > 0 {
			tries = 0
		}
		if errno == 0 {
			continue
		}
		// The queue of the interface empties by itself; what persists is this frame's failure.
		if tries++; tries <= retries(errno, false) {
			pause()
			continue
		}
		tries = 0
		lost(i, errno)
		i++
	}
}
