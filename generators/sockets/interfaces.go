package sockets

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/tuples"
)

// OwnAddress finds one of the set that this network namespace owns.
func OwnAddress(set tuples.Addresses) (netip.Addr, bool, error) {
	family := unix.AF_INET6
	if set.Is4() {
		family = unix.AF_INET
	}
	own, err := netlink.AddrList(nil, family)
	if err != nil {
		return netip.Addr{}, false, fmt.Errorf("listing the own addresses: %w", err)
	}
	for _, a := range own {
		address, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		if _, inside := set.Index(address.Unmap()); inside {
			return address.Unmap(), true, nil
		}
	}
	return netip.Addr{}, false, nil
}

// InterfaceIndex returns the index of a named interface of the calling thread's network namespace, or of
// the only one besides loopback.
func InterfaceIndex(name string) (int, error) {
	if name != "" {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return 0, fmt.Errorf("finding interface %s: %w", name, err)
		}
		return link.Attrs().Index, nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return 0, fmt.Errorf("listing interfaces: %w", err)
	}
	var found []int
	for _, link := range links {
		if a := link.Attrs(); a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0 {
			found = append(found, a.Index)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d interfaces are up, and none was named", len(found))
	}
	return found[0], nil
}
