package sockets

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// xdpSender sends frames by an AF_XDP socket in copy mode, the kernel's shortest path from user
// space to a device: it reads no message headers, parses no packet headers, passes no queueing
// discipline, and works with any driver. It needs CAP_NET_RAW in the network namespace (Linux 4.18
// with CONFIG_XDP_SOCKETS) and one queue of the device for itself.
//
// The frames lie in memory shared with the kernel (the UMEM). The sender lists outgoing frames in
// the transmit ring, and the kernel lists them in the completion ring when it has finished with
// them.
type xdpSender struct {
	fd        int32
	memory    []byte
	rings     [][]byte // the mappings
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
	if e.memory, err = unix.Mmap(-1, 0, xdpFrames*xdpChunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE); err != nil {
		return nil, fmt.Errorf("allocating frames: %w", err)
	}
	for i := range xdpFrames {
		e.free = append(e.free, uint64(i*xdpChunk))
	}
	if err := e.openRings(); err != nil {
		return nil, err
	}
	address := unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(index), QueueID: uint32(queue)}
	if err := unix.Bind(int(fd), &address); err != nil {
		return nil, fmt.Errorf("binding an AF_XDP socket to queue %d of interface %d: %w", queue, index, err)
	}
	return e, nil
}

// openRings registers the memory and maps the rings for sending. The kernel also insists on a fill
// ring, which stays unused.
func (e *xdpSender) openRings() error {
	registration := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&e.memory[0]))), Len: uint64(len(e.memory)), Size: xdpChunk}
	// Older kernels take the registration only without its last fields.
	errno := setOption(e.fd, unix.SOL_XDP, unix.XDP_UMEM_REG, unsafe.Pointer(&registration), unsafe.Sizeof(registration))
	if errno == unix.EINVAL {
		errno = setOption(e.fd, unix.SOL_XDP, unix.XDP_UMEM_REG, unsafe.Pointer(&registration), 24)
	}
	for _, option := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_TX_RING} {
		if errno == 0 {
			errno = SetOption(e.fd, unix.SOL_XDP, option, xdpFrames)
		}
	}
	if errno != 0 {
		return fmt.Errorf("setting up the rings of an AF_XDP socket: %w", errno)
	}
	var offsets unix.XDPMmapOffsets
	size, errno := getOption(e.fd, unix.SOL_XDP, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&offsets), unsafe.Sizeof(offsets))
	if errno != 0 || size != unsafe.Sizeof(offsets) {
		return fmt.Errorf("asking for the rings of an AF_XDP socket: %w", errno)
	}
	var err error
	if e.transmit, err = mapRing[transmitDescriptor](e, unix.XDP_PGOFF_TX_RING, offsets.Tx); err != nil {
		return err
	}
	e.completed, err = mapRing[uint64](e, unix.XDP_UMEM_PGOFF_COMPLETION_RING, offsets.Cr)
	return err
}

func mapRing[T any](e *xdpSender, offset int64, at unix.XDPRingOffset) (ring[T], error) {
	var entry T
	data, err := unix.Mmap(int(e.fd), offset, int(at.Desc)+xdpFrames*int(unsafe.Sizeof(entry)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return ring[T]{}, fmt.Errorf("mapping a ring of an AF_XDP socket: %w", err)
	}
	e.rings = append(e.rings, data)
	return ring[T]{
		producer: (*atomic.Uint32)(unsafe.Pointer(&data[at.Producer])),
		consumer: (*atomic.Uint32)(unsafe.Pointer(&data[at.Consumer])),
		entries:  unsafe.Slice((*T)(unsafe.Pointer(&data[at.Desc])), xdpFrames),
	}, nil
}

func (e *xdpSender) close() error {
	Close(e.fd)
	var errs []error
	for _, data := range e.rings {
		errs = append(errs, unix.Munmap(data))
	}
	if e.memory != nil {
		errs = append(errs, unix.Munmap(e.memory))
	}
	return errors.Join(errs...)
}

// room implements sender.
func (e *xdpSender) room() int {
	consumed, produced := e.completed.consumer.Load(), e.completed.producer.Load()
	for ; consumed != produced; consumed++ {
		e.free = append(e.free, *e.completed.at(consumed))
	}
	e.completed.consumer.Store(consumed)
	return min(len(e.free), BatchSize)
}

// frame implements sender.
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
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(e.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
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
