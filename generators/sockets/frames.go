package sockets

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"golang.org/x/net/bpf"
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
	// Each queue takes one xdpSender. Interfaces of namespaces usually have a single queue.
	fast, fastErr := newXDPSender(index, worker)
	if fastErr == nil {
		return &FrameBatch{sender: fast, lost: lost}, nil
	}
	plain, err := newPacketSender(index)
	if err != nil {
		return nil, errors.Join(err, fastErr)
	}
	return &FrameBatch{sender: plain, lost: lost}, nil
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
// only drop frames for which the interface's queue has no room (PACKET_QDISC_BYPASS, Linux 3.14).
type packetSender struct {
	fd    int32
	batch *Batch
}

func newPacketSender(index int) (*packetSender, error) {
	fd, err := packetSocket(index)
	if err != nil {
		return nil, err
	}
	if errno := SetOption(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); errno != 0 {
		Close(fd)
		return nil, fmt.Errorf("bypassing the queueing discipline: %w", errno)
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
		if errno == 0 {
			tries = 0
			continue
		}
		// The interface's queue drains by itself. Only a persistent error belongs to this frame.
		if tries++; tries <= Retries(errno, false) {
			Pause()
			continue
		}
		tries = 0
		lost(i, errno)
		i++
	}
}

// packetSocket opens a packet socket that only sends on an interface.
func packetSocket(index int) (int32, error) {
	fd, errno := Open(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if errno != 0 {
		return -1, fmt.Errorf("opening a packet socket (it needs CAP_NET_RAW): %w", errno)
	}
	if err := bindPackets(fd, index, 0); err != nil {
		Close(fd)
		return -1, err
	}
	return fd, nil
}

// bindPackets binds a packet socket to an interface. With a protocol of 0 it receives nothing.
func bindPackets(fd int32, index int, protocol uint16) error {
	networkOrder := bits.ReverseBytes16(protocol)
	address := unix.SockaddrLinklayer{Protocol: networkOrder, Ifindex: index}
	if err := unix.Bind(int(fd), &address); err != nil {
		return fmt.Errorf("binding a packet socket to interface %d: %w", index, err)
	}
	return nil
}

// Enlarge sets a buffer to size bytes, past the host's limit where the process may, else up to it.
func Enlarge(fd int32, force, plain int, size int32) {
	if SetOption(fd, unix.SOL_SOCKET, force, size) != 0 {
		_ = SetOption(fd, unix.SOL_SOCKET, plain, size) // never fails: the kernel caps it
	}
}

// receiveQueue is the receive buffer of a packet socket in bytes.
const receiveQueue = 16 << 20

// ListenPackets opens a packet socket that receives ICMP and the TCP segments with any of flags. It
// needs CAP_NET_RAW in the network namespace.
func ListenPackets(index int, six bool, flags packets.Flags) (int32, error) {
	fd, err := OpenPackets(index, six)
	if err == nil {
		if err = AdmitPackets(fd, six, flags); err != nil {
			Close(fd)
		}
	}
	return fd, err
}

// OpenPackets opens a packet socket that receives nothing before AdmitPackets.
func OpenPackets(index int, six bool) (int32, error) {
	fd, err := packetSocket(index)
	if err != nil {
		return -1, err
	}
	Enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveQueue)
	protocol := uint16(unix.ETH_P_IP)
	if six {
		protocol = unix.ETH_P_IPV6
	}
	// The filter comes before the protocol. Otherwise unrelated frames would get in between.
	if err = attachFilter(fd, bpf.RetConstant{Val: 0}); err == nil {
		err = bindPackets(fd, index, protocol)
	}
	if err != nil {
		Close(fd)
		return -1, err
	}
	return fd, nil
}

// AdmitPackets lets in only ICMP and TCP segments with any of the wanted flags. It excludes frames
// that this host sends.
func AdmitPackets(fd int32, six bool, wanted packets.Flags) error {
	const accept = 1 << 16
	protocolAt, icmp := uint32(14+9), uint32(unix.IPPROTO_ICMP)
	flags := []bpf.Instruction{bpf.LoadMemShift{Off: 14}, bpf.LoadIndirect{Off: 14 + 13, Size: 1}}
	if six {
		protocolAt, icmp = 14+6, unix.IPPROTO_ICMPV6
		flags = []bpf.Instruction{bpf.LoadAbsolute{Off: 14 + 40 + 13, Size: 1}}
	}
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipTrue: uint8(len(flags) + 5)},
		bpf.LoadAbsolute{Off: protocolAt, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp, SkipTrue: uint8(len(flags) + 2)},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: uint8(len(flags) + 2)},
	}
	return attachFilter(fd, append(append(program, flags...),
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: uint32(wanted), SkipTrue: 1},
		bpf.RetConstant{Val: accept},
		bpf.RetConstant{Val: 0},
	)...)
}

// attachFilter gives a packet socket a filter in place of an earlier one.
func attachFilter(fd int32, program ...bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assembling the filter: %w", err)
	}
	var filter []unix.SockFilter
	for _, r := range raw {
		filter = append(filter, unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K})
	}
	attached := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	errno := setOption(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &attached)
	if errno != 0 {
		return fmt.Errorf("attaching the filter: %w", errno)
	}
	return nil
}

// ShareAmong makes the sockets of several workers a group. Each worker gets a part of the frames,
// and all frames of a tuple go to the same one. Worker 0 creates the group and the others join it.
func ShareAmong(fd int32, number int, group *int32) error {
	mode := int32(unix.PACKET_FANOUT_HASH|unix.PACKET_FANOUT_FLAG_UNIQUEID) << 16
	if number > 0 {
		mode = unix.PACKET_FANOUT_HASH<<16 | *group
	}
	if errno := SetOption(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, mode); errno != 0 {
		return fmt.Errorf("making or joining a group of packet sockets: %w", errno)
	}
	var joined int32
	if _, errno := getOption(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, &joined); errno != 0 {
		return fmt.Errorf("reading the group of packet sockets: %w", errno)
	}
	*group = joined & 0xffff
	return nil
}

// DroppedFrames returns how many frames found the receive queue full since the last call.
func DroppedFrames(fd int32) int64 {
	var stats unix.TpacketStats // stays zero on an error
	_, _ = getOption(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS, &stats)
	return int64(stats.Drops)
}

// AnswerSize is the number of bytes read of an answer: more than headers, options and the quote in
// an ICMP error.
const AnswerSize = 128

// xdpSender sends frames by an AF_XDP socket in copy mode, the kernel's shortest path from user
// space to a device: no message headers, no parsing, no queueing discipline, any driver. It needs
// CAP_NET_RAW in the network namespace (Linux 4.18 with CONFIG_XDP_SOCKETS) and one queue of the
// device for itself.
//
// The frames lie in memory shared with the kernel (the UMEM). The sender lists outgoing frames in
// the transmit ring, and the kernel those that it has finished with in the completion ring.
type xdpSender struct {
	fd        int32
	memory    []byte
	mappings  [][]byte // the memory and the rings
	transmit  ring[transmitDescriptor]
	completed ring[uint64]
	free      []uint64 // addresses of frames that the kernel does not hold
	batch     [BatchSize]transmitDescriptor
}

// transmitDescriptor is the kernel's struct xdp_desc.
type transmitDescriptor struct {
	address uint64
	length  uint32
	_       uint32 // options
}

// ring is a ring of entries shared with the kernel. One side produces entries and the other
// consumes them.
type ring[T any] struct {
	producer, consumer *atomic.Uint32
	entries            []T
}

func (r *ring[T]) at(i uint32) *T { return &r.entries[i&uint32(len(r.entries)-1)] }

const (
	xdpFrames = 1024 // a power of two; 2 MiB
	xdpChunk  = 2048 // bytes for each frame, the kernel's minimum
	readWrite = unix.PROT_READ | unix.PROT_WRITE
)

// newXDPSender opens a sender on a queue of an interface.
func newXDPSender(index, queue int) (_ *xdpSender, err error) {
	fd, errno := Open(unix.AF_XDP, unix.SOCK_RAW, 0)
	if errno != 0 {
		return nil, fmt.Errorf("opening an AF_XDP socket: %w", errno)
	}
	e := &xdpSender{fd: fd}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_POPULATE
	if e.memory, err = unix.Mmap(-1, 0, xdpFrames*xdpChunk, readWrite, flags); err != nil {
		return nil, fmt.Errorf("allocating frames: %w", err)
	}
	e.mappings = append(e.mappings, e.memory)
	for i := range xdpFrames {
		e.free = append(e.free, uint64(i*xdpChunk))
	}
	if err := e.openRings(); err != nil {
		return nil, err
	}
	at := unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(index), QueueID: uint32(queue)}
	if err := unix.Bind(int(fd), &at); err != nil {
		return nil, fmt.Errorf("binding to queue %d of interface %d: %w", queue, index, err)
	}
	return e, nil
}

// openRings registers the memory and maps the rings for sending. The kernel also insists on a fill
// ring, which stays unused.
func (e *xdpSender) openRings() error {
	start := uint64(uintptr(unsafe.Pointer(&e.memory[0])))
	memory := unix.XDPUmemReg{Addr: start, Len: uint64(len(e.memory)), Size: xdpChunk}
	errno := setOption(e.fd, unix.SOL_XDP, unix.XDP_UMEM_REG, &memory)
	if errno == unix.EINVAL { // older kernels take it only without its last fields
		old := (*[24]byte)(unsafe.Pointer(&memory))
		errno = setOption(e.fd, unix.SOL_XDP, unix.XDP_UMEM_REG, old)
	}
	const fill, completion = unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING
	for _, option := range []int{fill, completion, unix.XDP_TX_RING} {
		if errno == 0 {
			errno = SetOption(e.fd, unix.SOL_XDP, option, xdpFrames)
		}
	}
	if errno != 0 {
		return fmt.Errorf("setting up the rings of an AF_XDP socket: %w", errno)
	}
	var offsets unix.XDPMmapOffsets
	size, errno := getOption(e.fd, unix.SOL_XDP, unix.XDP_MMAP_OFFSETS, &offsets)
	if errno != 0 || uintptr(size) != unsafe.Sizeof(offsets) {
		return fmt.Errorf("asking for the rings of an AF_XDP socket: %w", errno)
	}
	return errors.Join(
		mapRing(e, &e.transmit, unix.XDP_PGOFF_TX_RING, offsets.Tx),
		mapRing(e, &e.completed, unix.XDP_UMEM_PGOFF_COMPLETION_RING, offsets.Cr))
}

func mapRing[T any](e *xdpSender, r *ring[T], offset int64, at unix.XDPRingOffset) error {
	var entry T
	size := int(at.Desc) + xdpFrames*int(unsafe.Sizeof(entry))
	const flags = unix.MAP_SHARED | unix.MAP_POPULATE
	data, err := unix.Mmap(int(e.fd), offset, size, readWrite, flags)
	if err != nil {
		return fmt.Errorf("mapping a ring of an AF_XDP socket: %w", err)
	}
	e.mappings = append(e.mappings, data)
	r.producer = (*atomic.Uint32)(unsafe.Pointer(&data[at.Producer]))
	r.consumer = (*atomic.Uint32)(unsafe.Pointer(&data[at.Consumer]))
	r.entries = unsafe.Slice((*T)(unsafe.Pointer(&data[at.Desc])), xdpFrames)
	return nil
}

func (e *xdpSender) close() error {
	Close(e.fd)
	var errs []error
	for _, data := range e.mappings {
		errs = append(errs, unix.Munmap(data))
	}
	return errors.Join(errs...)
}

func (e *xdpSender) room() int {
	consumed, produced := e.completed.consumer.Load(), e.completed.producer.Load()
	for ; consumed != produced; consumed++ {
		e.free = append(e.free, *e.completed.at(consumed))
	}
	e.completed.consumer.Store(consumed)
	return min(len(e.free), BatchSize)
}

func (e *xdpSender) frame(i, size int) []byte {
	address := e.free[len(e.free)-1-i]
	e.batch[i] = transmitDescriptor{address: address, length: uint32(size)}
	return e.memory[address : address+uint64(size) : address+uint64(size)]
}

// send implements sender. In copy mode the kernel sends only during the calls here, so that send
// can take back what the kernel has not taken after them.
func (e *xdpSender) send(n int, lost func(i int, errno unix.Errno)) {
	start := e.transmit.producer.Load()
	for i := range n {
		*e.transmit.at(start + uint32(i)) = e.batch[i]
	}
	e.free = e.free[:len(e.free)-n]
	e.transmit.producer.Store(start + uint32(n))
	for tries := 0; ; {
		before := e.transmit.consumer.Load()
		if before == start+uint32(n) {
			return
		}
		_, errno := call(unix.SYS_SENDTO, e.fd, nil, 0, unix.MSG_DONTWAIT, nil, 0)
		after := e.transmit.consumer.Load()
		switch {
		case errno == unix.EBUSY && after != before:
			lost(int(after-1-start), unix.ENOBUFS) // the device dropped the last frame taken
		case after != before || errno == 0: // EAGAIN with progress: more frames are left to send
			tries = 0
		default:
			if tries++; tries <= Retries(errno, false) {
				Pause()
				continue
			}
			e.transmit.producer.Store(after)
			for i := int(after - start); i < n; i++ {
				e.free = append(e.free, e.batch[i].address)
				lost(i, errno)
			}
			return
		}
	}
}
