package generators

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls here are made raw, without telling Go's scheduler: each returns at once (the sockets
// are non-blocking), and at some 50,000 connections a second the hand-over that the scheduler
// makes around every call costs more than it is worth. They report an errno, not an error, since
// the caller counts causes and must not allocate.

// sockaddr is a socket address in the kernel's form, IPv4 or IPv6.
type sockaddr struct {
	bytes [unix.SizeofSockaddrInet6]byte
	size  uint32
}

// set makes a the address of ap.
func (a *sockaddr) set(ap netip.AddrPort) {
	addr := ap.Addr()
	if addr.Is4() {
		binary.NativeEndian.PutUint16(a.bytes[:], unix.AF_INET)
		binary.BigEndian.PutUint16(a.bytes[2:], ap.Port())
		v4 := addr.As4()
		copy(a.bytes[4:], v4[:])
		a.size = unix.SizeofSockaddrInet4
		return
	}
	binary.NativeEndian.PutUint16(a.bytes[:], unix.AF_INET6)
	binary.BigEndian.PutUint16(a.bytes[2:], ap.Port())
	v6 := addr.As16()
	copy(a.bytes[8:], v6[:])
	a.size = unix.SizeofSockaddrInet6
}

func family(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// newSocket opens a non-blocking socket.
func newSocket(family, kind, protocol int) (int32, unix.Errno) {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), uintptr(kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC), uintptr(protocol))
	return int32(fd), errno
}

func connectSocket(fd int32, to *sockaddr) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), uintptr(to.size))
	return errno
}

func bindSocket(fd int32, to *sockaddr) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(to)), uintptr(to.size))
	return errno
}

// sendBytes sends on a connected socket; a closed peer makes EPIPE, not a signal.
func sendBytes(fd int32, data []byte, flags int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)),
		uintptr(flags|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT), 0, 0)
	return int(n), errno
}

func sendTo(fd int32, data []byte, to *sockaddr) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)),
		uintptr(unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT), uintptr(unsafe.Pointer(to)), uintptr(to.size))
	return errno
}

func receiveBytes(fd int32, buffer []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buffer))), uintptr(len(buffer)),
		unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func setOption(fd int32, level, option int, value int32) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return errno
}

// socketError takes the pending error of a socket.
func socketError(fd int32) unix.Errno {
	var value int32
	size := uint32(unsafe.Sizeof(value))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return unix.Errno(value)
}

// closeSocket frees the descriptor. Linux frees it whatever close returns, so there is no error
// that a caller could act on.
func closeSocket(fd int32) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// resetOnClose makes close send RST instead of FIN (SO_LINGER with a time of zero).
func resetOnClose(fd int32) unix.Errno {
	linger := unix.Linger{Onoff: 1}
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
	return errno
}

// vanishOnClose makes close send nothing at all: in repair mode a socket is taken away without a
// packet. Needs CAP_NET_ADMIN in the user namespace that owns the network namespace (Linux 3.5).
func vanishOnClose(fd int32) unix.Errno {
	return setOption(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
}

// disconnectSocket makes a TCP socket one that was never connected: connect to an address of family AF_UNSPEC.
// If it still is, the peer gets RST, as with resetOnClose.
func disconnectSocket(fd int32) unix.Errno {
	var nobody sockaddr
	nobody.size = unix.SizeofSockaddrInet6
	return connectSocket(fd, &nobody)
}

// tcpInfo is the state of a TCP socket and its options, from the start of struct tcp_info; zeros where the
// kernel does not tell.
func tcpInfo(fd int32) (state, options uint8) {
	var info [6]uint8 // state, congestion state, retransmits, probes, backoff, options
	size := uint32(len(info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || size < uint32(len(info)) {
		return 0, 0
	}
	return info[0], info[5]
}

func shutdownWrite(fd int32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return errno
}

func receiveMessage(fd int32, header *unix.Msghdr, flags int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(header)), uintptr(flags))
	return int(n), errno
}
