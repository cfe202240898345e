package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

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

// ErrUplink means that crafted packets, or the answers to them, could leave by a default route.
var ErrUplink = errors.New("this network namespace has a default route, as a container's uplink, " +
	"by which crafted packets could leave")

// NoUplink returns [ErrUplink] where the calling thread's network namespace has a default route.
func NoUplink() error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			return fmt.Errorf("listing the routes: %w", err)
		}
		for _, r := range routes {
			whole := r.Dst == nil
			if !whole {
				ones, _ := r.Dst.Mask.Size()
				whole = ones == 0
			}
			// An unreachable or a blackhole route leads nowhere.
			if whole && r.Type == unix.RTN_UNICAST {
				return ErrUplink
			}
		}
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

// ErrNoNeighbour means that no answer came from a neighbour.
var ErrNoNeighbour = errors.New("no answer")

// neighbourTimeout limits the wait for a neighbour's hardware address. The kernel itself asks three
// times, a second apart.
const neighbourTimeout = 4 * time.Second

// Neighbour returns the hardware address of a neighbour on an Ethernet interface. It makes the
// kernel ask for it (NTF_USE), so that no other packet is sent. It needs CAP_NET_ADMIN in the
// network namespace.
func Neighbour(ctx context.Context, index int, hop netip.Addr) (net.HardwareAddr, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, neighbourTimeout, ErrNoNeighbour)
	defer cancel()
	address, err := neighbour(ctx, index, hop)
	if err != nil {
		err = fmt.Errorf("asking for the hardware address of %s: %w", hop, err)
	}
	return address, err
}

func neighbour(ctx context.Context, index int, hop netip.Addr) (net.HardwareAddr, error) {
	const valid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE |
		netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE
	family, ip := Family(hop), hop.AsSlice()
	ask := netlink.Neigh{LinkIndex: index, Family: family, IP: ip, Flags: netlink.NTF_USE}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for asked := false; ; asked = true {
		known, err := netlink.NeighList(index, family)
		if err != nil {
			return nil, err
		}
		for _, n := range known {
			if n.IP.Equal(ip) && n.State&valid != 0 && len(n.HardwareAddr) == hardwareLength {
				return n.HardwareAddr, nil
			}
		}
		if !asked {
			if err := netlink.NeighSet(&ask); err != nil {
				return nil, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// hardwareLength is the length of an Ethernet address in bytes.
const hardwareLength = 6
