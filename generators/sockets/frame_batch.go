package sockets

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/packets"
)

// FrameBatch collects crafted frames and sends them in batches.
type FrameBatch struct {
	sender sender
	filled int
	tags   [BatchSize]int64
	lost   func(tag int64, errno unix.Errno) // called for each frame that the kernel did not take
}

// sender sends batches of frames.
type sender interface {
	// room returns how many frames can be filled now, up to a batch.
	room() int
	// frame returns the memory of frame i of the next batch, i below room, size up to MostFrame.
	frame(i, size int) []byte
	// send sends the first n frames, and calls lost for each that the kernel did not take.
	send(n int, lost func(i int, errno unix.Errno))
	close() error
}

// MostFrame limits a crafted frame, in bytes.
const MostFrame = 1514

// NewFrameBatch opens the frame batch of a worker on an interface: by AF_XDP where the kernel and
// the interface allow it, else by a packet socket.
func NewFrameBatch(index, worker int, lost func(tag int64, errno unix.Errno)) (*FrameBatch, error) {
	o := &FrameBatch{lost: lost}
	// Each queue takes one xdpSender. Interfaces of namespaces usually have a single queue.
	fast, fastErr := newXDPSender(index, worker)
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

// Put returns the memory of the next frame, a copy of the template. The caller patches it before
// the next Put. The tag names the frame if it is lost.
func (o *FrameBatch) Put(template *packets.Template, tag int64) []byte {
	if o.filled == BatchSize || o.filled >= o.sender.room() {
		o.Flush()
		for tries := 0; o.sender.room() == 0; tries++ {
			if tries > Retries(unix.ENOBUFS, false) {
				o.lost(tag, unix.ENOBUFS)
				return make([]byte, len(template.Frame)) // its contents are discarded
			}
			Pause()
		}
	}
	frame := o.sender.frame(o.filled, len(template.Frame))
	copy(frame, template.Frame)
	o.tags[o.filled] = tag
	o.filled++
	return frame
}

// Flush sends the frames since the last Flush.
func (o *FrameBatch) Flush() {
	if o.filled == 0 {
		return
	}
	n := o.filled
	o.filled = 0
	o.sender.send(n, func(i int, errno unix.Errno) { o.lost(o.tags[i], errno) })
}

// Close frees the socket.
func (o *FrameBatch) Close() error { return o.sender.close() }

// packetSender sends frames by a packet socket. It bypasses the queueing discipline, which would
// only drop frames for which the interface's own queue has no room (PACKET_QDISC_BYPASS, Linux
// 3.14).
type packetSender struct {
	fd    int32
	batch *Batch
}

func newPacketSender(index int) (*packetSender, error) {
	fd, err := packetSocket(index, 0)
	if err != nil {
		return nil, err
	}
	if errno := SetOption(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); errno != 0 {
		Close(fd)
		return nil, fmt.Errorf("passing by the queueing discipline: %w", errno)
	}
	Enlarge(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, 4<<20)
	return &packetSender{fd: fd, batch: NewBatch(BatchSize, MostFrame, 0)}, nil
}

func (p *packetSender) close() error {
	Close(p.fd)
	return nil
}

func (p *packetSender) room() int { return BatchSize }

func (p *packetSender) frame(i, size int) []byte {
	p.batch.vectors[i].SetLen(size)
	return p.batch.Message(i)[:size]
}

func (p *packetSender) send(n int, lost func(i int, errno unix.Errno)) {
	for i, tries := 0, 0; i < n; {
		sent, errno := p.batch.Send(p.fd, i, n)
		i += sent
		if sent > 0 {
			tries = 0
		}
		if errno == 0 {
			continue
		}
		// The queue of the interface drains by itself. Only a persistent error belongs to this
		// frame.
		if tries++; tries <= Retries(errno, false) {
			Pause()
			continue
		}
		tries = 0
		lost(i, errno)
		i++
	}
}
