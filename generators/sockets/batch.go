package sockets

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BatchSize limits the datagrams or packets of one call. Larger batches gain nothing and make a
// paced load coarser.
const BatchSize = 64

// Batch is the memory of one sendmmsg or recvmmsg. Its messages have the same maximum size; each
// has room for an address and, if asked for, control data.
type Batch struct {
	headers  []messageHeader
	vectors  []unix.Iovec
	names    []Address
	data     []byte
	controls []byte
	size     int // bytes of a message at most
	control  int // bytes of control data at most
}

// messageHeader is the kernel's struct mmsghdr.
type messageHeader struct {
	header unix.Msghdr
	length uint32 // bytes sent or received
}

// NewBatch returns a batch of n messages of at most size bytes, each with control bytes for control
// data.
func NewBatch(n, size, control int) *Batch {
	b := &Batch{
		headers: make([]messageHeader, n), vectors: make([]unix.Iovec, n),
		names: make([]Address, n),
		data:  make([]byte, n*max(size, 1)), size: size,
		controls: make([]byte, n*control), control: control,
	}
	for i := range b.headers {
		b.vectors[i].Base = &b.data[i*max(size, 1)]
		b.vectors[i].SetLen(size)
		h := &b.headers[i].header
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
	}
	return b
}

// Message returns the memory of message i.
func (b *Batch) Message(i int) []byte { return b.data[i*b.size : (i+1)*b.size] }

// Received returns the bytes that recvmmsg put into message i.
func (b *Batch) Received(i int) []byte {
	return b.Message(i)[:min(int(b.headers[i].length), b.size)]
}

// To gives message i an address, which the caller sets. Without one the message goes to the
// socket's peer.
func (b *Batch) To(i int) *Address {
	name := &b.names[i]
	b.headers[i].header.Name = (*byte)(unsafe.Pointer(name))
	return name
}

// Name returns the address of message i.
func (b *Batch) Name(i int) *Address { return &b.names[i] }

// Send sends the messages from to end-1 and returns how many the kernel took. After a short count
// without an error, the next message fails.
func (b *Batch) Send(fd int32, from, end int) (int, unix.Errno) {
	for i := from; i < end; i++ {
		if h := &b.headers[i].header; h.Name != nil {
			h.Namelen = b.names[i].size
		}
	}
	return call(unix.SYS_SENDMMSG, fd, unsafe.Pointer(&b.headers[from]), end-from,
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil, 0)
}

// Receive takes waiting messages, up to the size of the batch, and returns how many.
func (b *Batch) Receive(fd int32) (int, unix.Errno) {
	for i := range b.headers {
		h := &b.headers[i].header
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Namelen = uint32(len(b.names[i].bytes))
		if b.control > 0 {
			h.Control = &b.controls[i*b.control]
			h.SetControllen(b.control)
		}
		b.vectors[i].SetLen(b.size)
	}
	n, errno := call(unix.SYS_RECVMMSG, fd, unsafe.Pointer(&b.headers[0]), len(b.headers),
		unix.MSG_DONTWAIT, nil, 0)
	for i := range n {
		b.names[i].size = b.headers[i].header.Namelen
	}
	return n, errno
}

// Answer prepares the received message i for sending: back to its sender, from the address that it
// came to.
func (b *Batch) Answer(i int) {
	b.vectors[i].SetLen(len(b.Received(i)))
	h := &b.headers[i].header
	if b.control == 0 {
		return
	}
	forgetInterface(b.received(i))
	if h.Controllen == 0 {
		h.Control = nil
	}
}

// forgetInterface clears the interface in received packet information. The answer then has the
// right source address and follows the routing table.
func forgetInterface(control []byte) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return // the kernel truncated it and chooses the answer's source
	}
	for _, m := range messages {
		switch kind, size := [2]int32{m.Header.Level, m.Header.Type}, len(m.Data); {
		case kind == [2]int32{unix.IPPROTO_IP, unix.IP_PKTINFO} && size >= unix.SizeofInet4Pktinfo:
			clear(m.Data[:4])
		case kind == [2]int32{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO} &&
			size >= unix.SizeofInet6Pktinfo && (m.Data[0] != 0xfe || m.Data[1]&0xc0 != 0x80):
			clear(m.Data[16:20]) // a link-local address needs its interface
		}
	}
}

// ErrorControl is room, in bytes, for the report of a socket's error queue on one datagram.
const ErrorControl = 128

// ReceiveError takes one ICMP error from a socket's error queue. data is the part of the failed
// datagram that came back, told the error, 0 without one. more reports whether further errors may
// follow.
func (b *Batch) ReceiveError(fd int32) (data []byte, told unix.Errno, more bool) {
	h := &b.headers[0].header
	b.vectors[0].SetLen(b.size)
	h.Name, h.Namelen = nil, 0
	h.Control = &b.controls[0]
	h.SetControllen(b.control)
	const flags = unix.MSG_ERRQUEUE | unix.MSG_DONTWAIT
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), flags)
	if errno != 0 {
		return nil, 0, false
	}
	messages, err := unix.ParseSocketControlMessage(b.controls[:h.Controllen])
	if err != nil {
		return nil, 0, true
	}
	for _, m := range messages {
		kind := m.Header.Type
		if len(m.Data) >= 4 && (kind == unix.IP_RECVERR || kind == unix.IPV6_RECVERR) {
			// ee_errno is the first field of sock_extended_err.
			told = unix.Errno(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return b.Message(0)[:min(int(n), b.size)], told, true
}

// Message is a copy of a received message and of its sender's address.
type Message struct {
	from          Address
	data, control []byte
}

// Clone returns a copy of message i after Receive and Answer.
func (b *Batch) Clone(i int) Message {
	return Message{b.names[i], bytes.Clone(b.Received(i)), bytes.Clone(b.received(i))}
}

// received returns the control data that came with message i.
func (b *Batch) received(i int) []byte {
	return b.controls[i*b.control:][:b.headers[i].header.Controllen]
}

// Restore puts a copy back into message 0, ready to be sent.
func (b *Batch) Restore(m *Message) {
	copy(b.Message(0), m.data)
	copy(b.controls, m.control)
	*b.To(0) = m.from
	h := &b.headers[0]
	h.length = uint32(len(m.data))
	h.header.Control = &b.controls[0]
	h.header.SetControllen(len(m.control))
	b.Answer(0)
}
