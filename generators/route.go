package generators

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/ctload/ctload/generators/packets"
	"github.com/ctload/ctload/generators/sockets"
)

// outlet is the interface by which crafted packets leave.
type outlet struct {
	index  int
	link   packets.Link
	source netip.Addr // the address that the kernel would use
}

// findOutlet follows the routes of the calling thread's network namespace to the target, and asks
// the next hop for its hardware address as the kernel would.
func (p *plan) findOutlet(ctx context.Context) (outlet, error) {
	target := p.space.Targets.At(0)
	routes, err := netlink.RouteGet(target.AsSlice())
	if err != nil {
		return outlet{}, fmt.Errorf("finding a route to %s: %w", target, err)
	}
	if len(routes) == 0 {
		return outlet{}, fmt.Errorf("no route to %s", target)
	}
	route := routes[0]
	index := route.LinkIndex
	if p.Interface != "" {
		named, err := netlink.LinkByName(p.Interface)
		if err != nil {
			return outlet{}, fmt.Errorf("finding interface %s: %w", p.Interface, err)
		}
		index = named.Attrs().Index
	}
	device, err := netlink.LinkByIndex(index)
	if err != nil {
		return outlet{}, fmt.Errorf("finding interface %d: %w", index, err)
	}
	o := outlet{index: index}
	if source, ok := netip.AddrFromSlice(route.Src); ok {
		o.source = source.Unmap()
	}
	attributes := device.Attrs()
	if attributes.EncapType != "ether" && attributes.EncapType != "loopback" {
		return outlet{}, fmt.Errorf("interface %s is of type %s: crafted packets need Ethernet", attributes.Name, attributes.EncapType)
	}
	if attributes.EncapType == "loopback" {
		return o, nil // loopback has no hardware addresses and accepts any
	}
	copy(o.link.Source[:], attributes.HardwareAddr)
	if p.Gateway != "" {
		o.link.Target, err = packets.ParseHardwareAddress(p.Gateway)
		return o, err
	}
	hop := target
	if gateway, ok := netip.AddrFromSlice(route.Gw); ok {
		hop = gateway.Unmap()
	}
	o.link.Target, err = neighbour(ctx, index, hop)
	return o, err
}

// neighbourTimeout limits the wait for a next hop's hardware address. The kernel itself asks three
// times, a second apart.
const neighbourTimeout = 4 * time.Second

// neighbour returns the hardware address of a neighbour. It makes the kernel ask for it (NTF_USE),
// so that no other packet is sent. It needs CAP_NET_ADMIN in the network namespace.
func neighbour(ctx context.Context, index int, hop netip.Addr) (packets.HardwareAddress, error) {
	family := sockets.Family(hop)
	ctx, cancel := context.WithTimeout(ctx, neighbourTimeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for asked := false; ; asked = true {
		known, err := netlink.NeighList(index, family)
		if err != nil {
			return packets.HardwareAddress{}, fmt.Errorf("listing neighbours: %w", err)
		}
		for _, n := range known {
			const valid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE
			if n.IP.Equal(hop.AsSlice()) && n.State&valid != 0 && len(n.HardwareAddr) == 6 {
				return packets.HardwareAddress(n.HardwareAddr), nil
			}
		}
		if !asked {
			ask := netlink.Neigh{LinkIndex: index, Family: family, IP: hop.AsSlice(), State: netlink.NUD_NONE, Flags: netlink.NTF_USE}
			if err := netlink.NeighSet(&ask); err != nil {
				return packets.HardwareAddress{}, fmt.Errorf("asking for the hardware address of %s: %w", hop, err)
			}
		}
		select {
		case <-ctx.Done():
			return packets.HardwareAddress{}, fmt.Errorf("asking for the hardware address of %s: %w", hop, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
