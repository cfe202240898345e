package generators

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// bindSource gives a socket its source. Without a port the kernel chooses one when it knows the
// destination (IP_BIND_ADDRESS_NO_PORT, Linux 4.2), so that one source has its ports for each
// destination anew; with a port that is shared, SO_REUSEADDR lets other destinations use the same one.
func bindSource(fd int32, source netip.AddrPort, target netip.Addr, free, shared bool, scratch *sockaddr) unix.Errno {
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
		errno = setOption(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	case shared:
		errno = setOption(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if errno == 0 && free {
		level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
		if target.Is6() {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		}
		errno = setOption(fd, level, option, 1)
	}
	if errno != 0 {
		return errno
	}
	scratch.set(source)
	return bindSocket(fd, scratch)
}
