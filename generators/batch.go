package generators

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams or packets one call sends or receives at most. Larger ones gain
// nothing more and make a paced load coarser.
const batchSize = 64

// batch is the memory of one sendmmsg or recvmmsg: messages of the same largest size, each with
// room for an address and, if asked for, control data.
type batch struct {
	headers  []messageHeader
	vectors  []unix.Iovec
	names    []sockaddr
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

func newBatch(n, size, control int) *batch {
	b := &batch{
		headers:  make([]messageHeader, n),
		vectors:  make([]unix.Iovec, n),
		names:    make([]sockaddr, n),
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

// message is the memory of message i.
func (b *batch) message(i int) []byte { return b.data[i*b.size : (i+1)*b.size] }

// received is what recvmmsg put into message i.
func (b *batch) received(i int) []byte { return b.message(i)[:min(int(b.headers[i].length), b.size)] }

// to addresses message i; nil for a socket that knows where to send.
func (b *batch) to(i int) *sockaddr {
	name := &b.names[i]
	b.headers[i].header.Name = (*byte)(unsafe.Pointer(name))
	return name
}

// send sends messages from to end and returns how many went. A short count without an error
// means that the next one will meet one.
func (b *batch) send(fd int32, from, end int) (int, unix.Errno) {
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

// receive takes what is there, up to the size of the batch.
func (b *batch) receive(fd int32) (int, unix.Errno) {
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

// answer makes message i, as received, one to be sent back to where it came from, from the
// address that it came to.
func (b *batch) answer(i int) {
	b.vectors[i].SetLen(len(b.received(i)))
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
