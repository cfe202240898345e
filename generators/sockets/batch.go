package sockets

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BatchSize is how many datagrams or packets one call sends or receives at most. Larger ones gain
// nothing more and make a paced load coarser.
const BatchSize = 64

// Batch is the memory of one sendmmsg or recvmmsg: messages of the same largest size, each with
// room for an address and, if asked for, control data.
type Batch struct {
	headers  []messageHeader
	vectors  []unix.Iovec
	names    []Address
	data     []byte
	controls []byte
	size     int // of a message at most
	control  int // of control data at most
}

// messageHeader is the kernel's struct mmsghdr.
type messageHeader struct {
	header unix.Msghdr
	length uint32 // how much was sent or received
}

// NewBatch returns a batch of n messages of at most size bytes, each with room for control bytes of control data.
func NewBatch(n, size, control int) *Batch {
	b := &Batch{
		headers:  make([]messageHeader, n),
		vectors:  make([]unix.Iovec, n),
		names:    make([]Address, n),
		data:     make([]byte, n*max(size, 1)),
		controls: make([]byte, n*control),
		size:     size,
		control:  control,
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

// Received returns what recvmmsg put into message i.
func (b *Batch) Received(i int) []byte { return b.Message(i)[:min(int(b.headers[i].length), b.size)] }

// To gives message i an address, which the caller sets; without one it goes where the socket is connected to.
func (b *Batch) To(i int) *Address {
	name := &b.names[i]
	b.headers[i].header.Name = (*byte)(unsafe.Pointer(name))
	return name
}

// Name returns the address of message i.
func (b *Batch) Name(i int) *Address { return &b.names[i] }

// Send sends messages from to end and returns how many went. A short count without an error
// means that the next one will meet one.
func (b *Batch) Send(fd int32, from, end int) (int, unix.Errno) {
	for i := from; i < end; i++ {
		if h := &b.headers[i].header; h.Name != nil {
			h.Namelen = b.names[i].size
		}
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[from])), uintptr(end-from),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Receive takes what is there, up to the size of the batch.
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
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[0])), uintptr(len(b.headers)),
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	for i := range int(n) {
		b.names[i].size = b.headers[i].header.Namelen
	}
	return int(n), 0
}

// Answer makes message i, as received, one to be sent back to where it came from, from the
// address that it came to.
func (b *Batch) Answer(i int) {
	b.vectors[i].SetLen(len(b.Received(i)))
	h := &b.headers[i].header
	if b.control == 0 {
		return
	}
	forgetInterface(b.controls[i*b.control : i*b.control+int(h.Controllen)])
	if h.Controllen == 0 {
		h.Control = nil
	}
}

// forgetInterface takes the interface out of received packet information, so that the answer's
// source is the address that it says, and its way is the routing table's.
func forgetInterface(control []byte) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return // truncated by the kernel: the answer then leaves by its choice
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			clear(m.Data[:4])
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			if m.Data[0] != 0xfe || m.Data[1]&0xc0 != 0x80 { // a link-local address needs its interface
				clear(m.Data[16:20])
			}
		}
	}
}

// ErrorControl is room for what a socket's error queue tells of a datagram.
const ErrorControl = 128

// ReceiveError takes one ICMP error from a socket's error queue: what is left of the datagram that it is for,
// and what it says, 0 where that is not told. It reports whether there may be more.
func (b *Batch) ReceiveError(fd int32) (data []byte, told unix.Errno, more bool) {
	h := &b.headers[0].header
	b.vectors[0].SetLen(b.size)
	h.Name, h.Namelen = nil, 0
	h.Control = &b.controls[0]
	h.SetControllen(b.control)
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if errno != 0 {
		return nil, 0, false
	}
	messages, err := unix.ParseSocketControlMessage(b.controls[:h.Controllen])
	if err != nil {
		return nil, 0, true
	}
	for _, m := range messages {
		if len(m.Data) >= 4 && (m.Header.Type == unix.IP_RECVERR || m.Header.Type == unix.IPV6_RECVERR) {
			told = unix.Errno(binary.NativeEndian.Uint32(m.Data)) // the first field of sock_extended_err
		}
	}
	return b.Message(0)[:min(int(n), b.size)], told, true
}

// Message is a copy of a received message and of where it came from.
type Message struct {
	from          Address
	data, control []byte
}

// Clone returns a copy of message i, as received and made one to be sent back.
func (b *Batch) Clone(i int) Message {
	control := b.controls[i*b.control : i*b.control+int(b.headers[i].header.Controllen)]
	return Message{from: b.names[i], data: bytes.Clone(b.Received(i)), control: bytes.Clone(control)}
}

// Restore makes a copy message 0 again.
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
