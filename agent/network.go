package agent

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// network brings the loopback and the node's link up and gives the link its addresses.
func (s *server) network(ctx context.Context, request *Network) (*nothing, error) {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("look up lo: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return nil, fmt.Errorf("bring lo up: %w", err)
	}
	link, err := s.card(ctx, request.MAC)
	if err != nil {
		return nil, err
	}
	for _, cidr := range request.Addresses {
		address, err := netlink.ParseAddr(cidr)
		if err != nil {
			return nil, fmt.Errorf("address %q: %w", cidr, err)
		}
		// The link is private: no other node could have the address, and the check costs a second.
		if address.IP.To4() == nil {
			address.Flags |= unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, address); err != nil {
			return nil, fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, cidr, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("bring %s up: %w", link.Attrs().Name, err)
	}
	for _, r := range request.Routes {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(r.Via)}
		if err := addRoute(route, r.To); err != nil {
			return nil, fmt.Errorf("route %s by way of %s: %w", r.To, r.Via, err)
		}
	}
	for _, network := range request.Local {
		// The kernel answers ARP and neighbour solicitations on other links for local addresses.
		route := &netlink.Route{LinkIndex: loopback.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}
		if err := addRoute(route, network); err != nil {
			return nil, fmt.Errorf("make %s local: %w", network, err)
		}
	}
	return &nothing{}, nil
}

func addRoute(route *netlink.Route, to string) error {
	_, network, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	route.Dst = network
	return netlink.RouteReplace(route)
}

// card returns the network card with the given hardware address, or the only one. A guest of
// ctload's own loads the driver of its cards only now, so that it answers sooner.
func (s *server) card(ctx context.Context, mac string) (netlink.Link, error) {
	link, err := findLink(mac)
	if err == nil || !s.own || s.kernel.LoadModule == nil {
		return link, err
	}
	if err := s.kernel.LoadModule(ctx, "virtio_net"); err != nil {
		return nil, err
	}
	return findLink(mac)
}

// findLink finds the network card with the given hardware address, or the only one.
func findLink(mac string) (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the links: %w", err)
	}
	for _, link := range links {
		card := link.Attrs().Flags&net.FlagLoopback == 0 && link.Attrs().EncapType == "ether"
		if card && (mac == "" || link.Attrs().HardwareAddr.String() == mac) {
			return link, nil
		}
	}
	if mac != "" {
		return nil, fmt.Errorf("the node has no network card %s", mac)
	}
	return nil, errors.New("the node has no network card (its virtio_net module may be missing)")
}
