package sockets

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/tuples"
)

// ErrInitialNamespace means that crafted packets could leave the machine.
var ErrInitialNamespace = errors.New("crafted packets are only made in a lab " +
	"or in a network namespace made for them, and this is the initial one")

// MayCraft refuses raw packets where they could leave the lab: in the initial network namespace.
// Only there does the kernel register the net.core settings that are not kept per namespace, so
// that any other namespace has no netdev_budget (read in 4.19 to 6.18). Inode numbers do not tell:
// they were not fixed before 6.18, and PID 1's namespace in a container is not the initial one.
func MayCraft(inLab bool) error {
	if inLab {
		return nil
	}
	_, err := os.Stat("/proc/sys/net/core/netdev_budget")
	if err == nil {
		return ErrInitialNamespace
	}
	if errors.Is(err, os.ErrNotExist) {
		// The answer holds only where /proc/sys exists.
		_, err = os.Stat("/proc/sys/net/core/somaxconn")
	}
	if err != nil {
		return fmt.Errorf("telling the initial network namespace from others: %w", err)
	}
	return nil
}

// OwnAddress finds an address of the set that this network namespace owns.
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
		address, _ := netip.AddrFromSlice(a.IP) // the kernel's are valid
		if _, inside := set.Index(address.Unmap()); inside {
			return address.Unmap(), true, nil
		}
	}
	return netip.Addr{}, false, nil
}

// InterfaceIndex returns the index of a named interface of the calling thread's network namespace;
// for "" that of the only one besides loopback that is up.
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
