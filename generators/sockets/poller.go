package sockets

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poller is an epoll instance of one worker thread. A slot and a generation identify each
// descriptor, so that a queued event of a closed connection is not taken for one of its successor.
type Poller struct {
	fd     int
	wake   int // an eventfd that ends a wait from outside
	events []unix.EpollEvent
	full   bool // the last Wait filled events

	// mu guards wake against a close while a cancelled context writes to it.
	mu     sync.Mutex
	closed bool
}

// WakeSlot is the slot of the poller's own eventfd, whose events Wait keeps to itself.
const WakeSlot = -1

// NewPoller opens an epoll instance that watches only its own eventfd.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating an epoll instance: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("creating an eventfd: %w", err), unix.Close(fd))
	}
	p := &Poller{fd: fd, wake: wake, events: make([]unix.EpollEvent, 128)}
	if errno := p.Add(int32(wake), unix.EPOLLIN, WakeSlot, 0); errno != 0 {
		return nil, errors.Join(fmt.Errorf("watching an eventfd: %w", errno), p.Close())
	}
	return p, nil
}

// Add watches a descriptor until it is closed.
func (p *Poller) Add(fd int32, events uint32, slot int32, generation uint32) unix.Errno {
	event := unix.EpollEvent{Events: events, Fd: slot, Pad: int32(generation)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), unix.EPOLL_CTL_ADD,
		uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
	return errno
}

// Wait returns the pending events, or waits for some up to timeout (negative: forever). It first
// polls without waiting, which needs no hand-over to Go's scheduler.
func (p *Poller) Wait(timeout time.Duration) ([]unix.EpollEvent, error) {
	n, errno := call(unix.SYS_EPOLL_PWAIT, int32(p.fd), unsafe.Pointer(&p.events[0]), len(p.events),
		0, nil, 0)
	if errno == 0 && n == 0 && timeout != 0 {
		n, errno = p.block(timeout)
	}
	p.full = errno == 0 && n == len(p.events)
	switch errno {
	case 0:
		return p.roused(p.events[:n]), nil
	case unix.EINTR:
		return nil, nil
	}
	return nil, fmt.Errorf("waiting for events: %w", errno)
}

// roused consumes and leaves out the event of a rouse.
func (p *Poller) roused(events []unix.EpollEvent) []unix.EpollEvent {
	for i := range events {
		if events[i].Fd == WakeSlot {
			var count [8]byte
			_, _ = unix.Read(p.wake, count[:])
			return slices.Delete(events, i, i+1)
		}
	}
	return events
}

// All reports whether Wait returned all pending events.
func (p *Poller) All() bool { return !p.full }

// block waits with nanosecond precision where the kernel can (epoll_pwait2, Linux 5.11). Older
// kernels wait in milliseconds, rounded down, so that rounding never makes a send late.
func (p *Poller) block(timeout time.Duration) (int, unix.Errno) {
	var limit *unix.Timespec
	milliseconds := int64(-1)
	if timeout >= 0 {
		ts := unix.NsecToTimespec(int64(timeout))
		limit, milliseconds = &ts, timeout.Milliseconds()
	}
	events, size := unsafe.Pointer(&p.events[0]), uintptr(len(p.events))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(events), size,
		uintptr(unsafe.Pointer(limit)), 0, 0)
	if errno == unix.ENOSYS {
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(events), size,
			uintptr(milliseconds), 0, 0)
	}
	return int(n), errno
}

// Rouse ends the current or the next wait. Any goroutine may call it, also after Close.
func (p *Poller) Rouse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := [8]byte{7: 1}; !p.closed {
		// The write fails only when the counter is full, and then the wait ends anyway.
		_, _ = unix.Write(p.wake, one[:])
	}
}

// Close frees the instance.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return errors.Join(unix.Close(p.wake), unix.Close(p.fd))
}

// WatchedEvents selects all events, edge-triggered.
const WatchedEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
