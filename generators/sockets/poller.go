package sockets

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poller is an epoll instance of one worker thread. Each descriptor is known by a slot and a
// generation, so that an event that is still queued for a closed connection is told from one for
// the connection that took its place.
type Poller struct {
	fd     int
	wake   int // an eventfd that ends a wait from outside
	events []unix.EpollEvent

	mu     sync.Mutex // guards wake against being closed while a cancelled context writes to it
	closed bool
}

// WakeSlot is the slot of the poller's own eventfd.
const WakeSlot = -1

// NewPoller opens an epoll instance that nothing but a rouse wakes.
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
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
	return errno
}

// Wait returns the events that are there, or waits for some until timeout has passed (a negative
// one: for ever). It looks once without waiting, which needs no hand-over to Go's scheduler.
func (p *Poller) Wait(timeout time.Duration) ([]unix.EpollEvent, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	if errno == 0 && n == 0 && timeout != 0 {
		n, errno = p.block(timeout)
	}
	switch errno {
	case 0:
		return p.events[:n], nil
	case unix.EINTR:
		return nil, nil
	}
	return nil, fmt.Errorf("waiting for events: %w", errno)
}

// All reports whether these were all events that there were.
func (p *Poller) All(events []unix.EpollEvent) bool { return len(events) < len(p.events) }

// block waits with nanosecond precision where the kernel can (epoll_pwait2, Linux 5.11), else in
// milliseconds rounded down, so that a send is never late because of the rounding.
func (p *Poller) block(timeout time.Duration) (uintptr, unix.Errno) {
	var limit *unix.Timespec
	if timeout >= 0 {
		ts := unix.NsecToTimespec(int64(timeout))
		limit = &ts
	}
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)),
		uintptr(unsafe.Pointer(limit)), 0, 0)
	if errno != unix.ENOSYS {
		return n, errno
	}
	milliseconds := int64(-1)
	if timeout >= 0 {
		milliseconds = timeout.Milliseconds()
	}
	n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)),
		uintptr(milliseconds), 0, 0)
	return n, errno
}

// Rouse ends a wait, now or the next one. Safe to call from any goroutine, also after Close.
func (p *Poller) Rouse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	one := [8]byte{7: 1}
	// The only failure is a counter that is full already, and then the wait ends anyway.
	_, _ = unix.Write(p.wake, one[:])
}

// Roused takes the event of a rouse.
func (p *Poller) Roused() {
	var count [8]byte
	_, _ = unix.Read(p.wake, count[:]) // EAGAIN when another event took it
}

// Close frees the instance.
func (p *Poller) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return errors.Join(unix.Close(p.wake), unix.Close(p.fd))
}

// WatchedEvents is everything, reported when it changes.
const WatchedEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
