package responders

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/sockets"
)

// openListener opens a listening socket. Each worker thread may open a shared one on the same
// address. An unspecified IPv6 address takes IPv4 as well; where the host has no IPv6, openListener
// uses the unspecified IPv4 address.
func openListener(network Network, at netip.AddrPort, backlog int, shared bool) (int32, error) {
	kind, number := unix.SOCK_STREAM, unix.IPPROTO_TCP
	if network == UDP {
		kind, number = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	}
	fd, errno := sockets.Open(sockets.Family(at.Addr()), kind, number)
	if errno == unix.EAFNOSUPPORT && at.Addr() == netip.IPv6Unspecified() {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
		fd, errno = sockets.Open(unix.AF_INET, kind, number)
	}
	if errno != 0 {
		return -1, fmt.Errorf("opening a %s socket: %w", network, errno)
	}
	if network == TCP {
		// A connection in TIME_WAIT must not block the port.
		errno = sockets.SetOption(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if shared {
		errno = cmp.Or(errno, sockets.SetOption(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	}
	if at.Addr() == netip.IPv6Unspecified() {
		errno = cmp.Or(errno, sockets.SetOption(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0))
	}
	var local sockets.Address
	local.Set(at)
	errno = cmp.Or(errno, sockets.Bind(fd, &local))
	if errno == 0 && network == TCP {
		_, _, errno = unix.RawSyscall(unix.SYS_LISTEN, uintptr(fd), uintptr(backlog), 0)
	}
	if errno != 0 {
		sockets.Close(fd)
		return -1, fmt.Errorf("listening on %s: %w", at, errno)
	}
	return fd, nil
}

// localPort returns the port to which a socket is bound.
func localPort(fd int32) (uint16, error) {
	address, err := unix.Getsockname(int(fd))
	if err != nil {
		return 0, fmt.Errorf("reading a socket's address: %w", err)
	}
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port), nil
	case *unix.SockaddrInet6:
		return uint16(a.Port), nil
	}
	return 0, fmt.Errorf("reading a socket's address: it is %T", address)
}

// listeners opens all sockets of a worker. It replaces a port of 0 in spec.Ports by the one that
// the kernel chose, for the other workers to share. first says that no other worker has opened
// them.
func listeners(spec *Spec, addresses []netip.Addr, first bool) (fds []int32, err error) {
	defer func() {
		if err != nil {
			for _, fd := range fds {
				sockets.Close(fd)
			}
		}
	}()
	for p, port := range spec.Ports {
		for _, address := range addresses {
			at := netip.AddrPortFrom(address, spec.Ports[p])
			if first && spec.Workers > 1 && at.Port() != 0 {
				// SO_REUSEPORT would let two responders share a port unnoticed.
				fd, err := openListener(spec.Network, at, spec.Backlog, false)
				if err != nil {
					return fds, err
				}
				sockets.Close(fd)
			}
			fd, err := openListener(spec.Network, at, spec.Backlog, spec.Workers > 1)
			if err != nil {
				return fds, err
			}
			fds = append(fds, fd)
			if port == 0 && spec.Ports[p] == 0 {
				if spec.Ports[p], err = localPort(fd); err != nil {
					return fds, err
				}
			}
		}
	}
	return fds, nil
}

// acceptSocket accepts a connection from a listener.
func acceptSocket(fd int32) (int32, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int32(n), errno
}

// cappedBacklog returns a backlog as the calling thread's network namespace caps it.
func cappedBacklog(backlog int) (int, error) {
	text, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		return 0, fmt.Errorf("reading the cap of accept queues: %w", err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("reading the cap of accept queues: %w", err)
	}
	return min(backlog, most), nil
}
