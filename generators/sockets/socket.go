// Package sockets makes the system calls of the load: sockets, epoll, batches of messages
// (sendmmsg, recvmmsg), and frames by AF_XDP or AF_PACKET. Linux only.
package sockets

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The functions below make raw system calls, without telling Go's scheduler: each returns at once,
// since the sockets are non-blocking, and at some 50,000 connections a second the scheduler's
// hand-over around every call would cost too much. They return an errno, not an error, since the
// caller counts causes and must not allocate.

// call makes a system call on a descriptor and memory, and returns 0 where it fails.
func call(
	trap uintptr, fd int32, data unsafe.Pointer, size, flags int, to unsafe.Pointer, toSize uint32,
) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(data), uintptr(size),
		uintptr(flags), uintptr(to), uintptr(toSize))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Address is a socket address in the kernel's form, IPv4 or IPv6.
type Address struct {
	bytes [unix.SizeofSockaddrInet6]byte
	size  uint32
}

// Set makes a the address of ap.
func (a *Address) Set(ap netip.AddrPort) {
	addr := ap.Addr()
	binary.NativeEndian.PutUint16(a.bytes[:], uint16(Family(addr)))
	binary.BigEndian.PutUint16(a.bytes[2:], ap.Port())
	if addr.Is4() {
		v4 := addr.As4()
		copy(a.bytes[4:], v4[:])
		a.size = unix.SizeofSockaddrInet4
		return
	}
	v6 := addr.As16()
	copy(a.bytes[8:], v6[:])
	a.size = unix.SizeofSockaddrInet6
}

// Family returns the address family of an address.
func Family(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Open opens a non-blocking socket.
func Open(family, kind, protocol int) (int32, unix.Errno) {
	kind |= unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	fd, _, errno := unix.RawSyscall(
		unix.SYS_SOCKET, uintptr(family), uintptr(kind), uintptr(protocol))
	return int32(fd), errno
}

// Accept accepts a connection from a listener.
func Accept(fd int32) (int32, unix.Errno) {
	n, errno := call(unix.SYS_ACCEPT4, fd, nil, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, nil, 0)
	return int32(n), errno
}

// Connect connects a socket.
func Connect(fd int32, to *Address) unix.Errno {
	_, errno := call(unix.SYS_CONNECT, fd, unsafe.Pointer(to), int(to.size), 0, nil, 0)
	return errno
}

// Bind binds a socket.
func Bind(fd int32, to *Address) unix.Errno {
	_, errno := call(unix.SYS_BIND, fd, unsafe.Pointer(to), int(to.size), 0, nil, 0)
	return errno
}

// LocalPort returns the port to which a socket is bound.
func LocalPort(fd int32) (uint16, unix.Errno) {
	local := Address{size: unix.SizeofSockaddrInet6}
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd),
		uintptr(unsafe.Pointer(&local)), uintptr(unsafe.Pointer(&local.size)))
	return binary.BigEndian.Uint16(local.bytes[2:]), errno
}

// Send sends on a connected socket. A closed peer causes EPIPE, not a signal.
func Send(fd int32, data []byte, flags int) (int, unix.Errno) {
	return call(unix.SYS_SENDTO, fd, unsafe.Pointer(unsafe.SliceData(data)), len(data),
		flags|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, nil, 0)
}

// SendTo sends a datagram.
func SendTo(fd int32, data []byte, to *Address) unix.Errno {
	_, errno := call(unix.SYS_SENDTO, fd, unsafe.Pointer(unsafe.SliceData(data)), len(data),
		unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, unsafe.Pointer(to), to.size)
	return errno
}

// Receive receives bytes from a connected socket.
func Receive(fd int32, buffer []byte) (int, unix.Errno) {
	return call(unix.SYS_RECVFROM, fd, unsafe.Pointer(unsafe.SliceData(buffer)), len(buffer),
		unix.MSG_DONTWAIT, nil, 0)
}

// SetOption sets an integer option of a socket.
func SetOption(fd int32, level, option int, value int32) unix.Errno {
	return setOption(fd, level, option, &value)
}

func setOption[T any](fd int32, level, option int, value *T) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level),
		uintptr(option), uintptr(unsafe.Pointer(value)), unsafe.Sizeof(*value), 0)
	return errno
}

// getOption reads an option into value and returns how many bytes of it the kernel has.
func getOption[T any](fd int32, level, option int, value *T) (uint32, unix.Errno) {
	size := uint32(unsafe.Sizeof(*value))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level),
		uintptr(option), uintptr(unsafe.Pointer(value)), uintptr(unsafe.Pointer(&size)), 0)
	return size, errno
}

// PendingError takes the pending error of a socket.
func PendingError(fd int32) unix.Errno {
	var pending int32
	_, errno := getOption(fd, unix.SOL_SOCKET, unix.SO_ERROR, &pending)
	return cmp.Or(errno, unix.Errno(pending))
}

// Close frees the descriptor. Linux frees it even when close fails.
func Close(fd int32) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// ResetOnClose makes close send RST instead of FIN (SO_LINGER with a time of zero).
func ResetOnClose(fd int32) unix.Errno {
	return setOption(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// VanishOnClose makes close send nothing: the kernel removes a socket in repair mode without a
// packet. It needs CAP_NET_ADMIN in the user namespace that owns the network namespace (Linux 3.5).
func VanishOnClose(fd int32) unix.Errno {
	return SetOption(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
}

// Disconnect returns a TCP socket to its unconnected state: it connects to an address of family
// AF_UNSPEC. If the socket is still connected, the peer gets RST, as with ResetOnClose.
func Disconnect(fd int32) unix.Errno {
	unspecified := Address{size: unix.SizeofSockaddrInet6}
	return Connect(fd, &unspecified)
}

// TCPInfo returns the state of a TCP socket and its options, from the start of struct tcp_info. It
// returns zeros where the kernel does not report them.
func TCPInfo(fd int32) (state, options uint8) {
	var info [6]uint8 // state, congestion state, retransmits, probes, backoff, options
	size, errno := getOption(fd, unix.IPPROTO_TCP, unix.TCP_INFO, &info)
	if errno != 0 || int(size) < len(info) {
		return 0, 0
	}
	return info[0], info[5]
}

// HalfClose closes the sending direction of a connection.
func HalfClose(fd int32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return errno
}

// BindSource binds a socket to its source. Without a port the kernel chooses one at connect
// (IP_BIND_ADDRESS_NO_PORT, Linux 4.2), so that a source has all its ports for each destination.
// With a shared port, SO_REUSEADDR lets sockets to other destinations use the same port.
func BindSource(
	fd int32, source netip.AddrPort, target netip.Addr, free, shared bool, scratch *Address,
) unix.Errno {
	if !source.Addr().IsValid() {
		unspecified := netip.IPv6Unspecified()
		if target.Is4() {
			unspecified = netip.IPv4Unspecified()
		}
		source = netip.AddrPortFrom(unspecified, source.Port())
	}
	var errno unix.Errno
	switch {
	case source.Port() == 0:
		errno = SetOption(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	case shared:
		errno = SetOption(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	case target.Is6():
		// The port is free for a socket of IPv4 all the same.
		errno = SetOption(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if errno == 0 && free {
		level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
		if target.Is6() {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		}
		errno = SetOption(fd, level, option, 1)
	}
	if errno != 0 {
		return errno
	}
	scratch.Set(source)
	return Bind(fd, scratch)
}

// AskErrors makes a socket queue ICMP errors with the datagram that caused each.
func AskErrors(fd int32, six bool) unix.Errno {
	if six {
		return SetOption(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	}
	return SetOption(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
}

// States and options of TCPInfo.
const (
	TCPClosed     = 7 // TCP_CLOSE: the socket has no connection
	TCPTimestamps = 1 // TCPI_OPT_TIMESTAMPS
)

// Eagerness decides whether to check right after connect if the connection is established. On one
// machine the handshake is often over when connect returns, and the check then saves two calls.
// Over a wire the check is wasted, so after eight misses only every 256th call checks.
type Eagerness struct{ misses, skipped int }

// Try reports whether to check this time.
func (e *Eagerness) Try() bool {
	if e.misses < 8 {
		return true
	}
	e.skipped = (e.skipped + 1) % 256
	return e.skipped == 0
}

// Learn records whether a check was successful.
func (e *Eagerness) Learn(hit bool) {
	if e.misses++; hit {
		e.misses = 0
	}
}

// Retries returns how often to repeat a failed send.
func Retries(errno unix.Errno, awaited bool) int {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS:
		return 100
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EPROTO, unix.ENOPROTOOPT,
		unix.EACCES:
		if awaited {
			return 2
		}
	}
	return 0
}

// Pause waits 100 µs for a full queue to drain.
func Pause() {
	ts := unix.NsecToTimespec(int64(100 * time.Microsecond))
	_ = unix.Nanosleep(&ts, nil) // a signal may shorten it, which does no harm
}

// PlentyDescriptors is the usual fs.nr_open, which caps the limit of open files.
const PlentyDescriptors = 1 << 20

// RaiseDescriptors raises this process's limit of open files to needed where it may, and returns
// the resulting limit. It never lowers it.
func RaiseDescriptors(needed uint64) (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading the limit of open files: %w", err)
	}
	if limit.Cur >= needed {
		return limit.Cur, nil
	}
	// To exceed the hard limit, the process needs CAP_SYS_RESOURCE in the initial user namespace.
	// The limit then becomes PlentyDescriptors, since other loads of this process need some too.
	plenty := max(needed, PlentyDescriptors)
	for _, want := range []unix.Rlimit{
		{Cur: plenty, Max: max(plenty, limit.Max)},
		{Cur: needed, Max: max(needed, limit.Max)},
		{Cur: min(needed, limit.Max), Max: limit.Max},
	} {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
			return want.Cur, nil
		}
	}
	return limit.Cur, nil
}
