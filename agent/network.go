package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/internal/link"
)

// network brings the loopback and the node's link up and gives the link its addresses.
func (s *server) network(ctx context.Context, request Network) (nothing, error) {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return nothing{}, fmt.Errorf("look up lo: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return nothing{}, fmt.Errorf("bring lo up: %w", err)
	}
	link, err := s.card(ctx, request.MAC)
	if err != nil {
		return nothing{}, err
	}
	if err := rename(link, request.Name); err != nil {
		return nothing{}, err
	}
	name := link.Attrs().Name
	s.mu.Lock()
	if !slices.Contains(s.cards, name) {
		s.cards = append(s.cards, name)
	}
	s.mu.Unlock()
	// The link is private: no other node could have an address of this one, and to ask takes up to
	// two seconds, in which the card's own address sends no neighbour solicitation.
	err = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // without IPv6 there is none
		return nothing{}, fmt.Errorf("keep %s from detecting duplicate addresses: %w", name, err)
	}
	for _, cidr := range request.Addresses {
		address, err := netlink.ParseAddr(cidr)
		if err != nil {
			return nothing{}, fmt.Errorf("address %q: %w", cidr, err)
		}
		if address.IP.To4() == nil { // where DAD is on for all interfaces
			address.Flags |= unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, address); err != nil {
			return nothing{}, fmt.Errorf("give %s the address %s: %w", name, cidr, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nothing{}, fmt.Errorf("bring %s up: %w", name, err)
	}
	for _, r := range request.Routes {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(r.Via)}
		if err := addRoute(route, r.To); err != nil {
			return nothing{}, fmt.Errorf("route %s by way of %s: %w", r.To, r.Via, err)
		}
	}
	for _, network := range request.Local {
		// The kernel answers ARP and neighbour solicitations on other links for local addresses.
		route := &netlink.Route{
			LinkIndex: loopback.Attrs().Index, Type: unix.RTN_LOCAL,
			Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
		}
		if err := addRoute(route, network); err != nil {
			return nothing{}, fmt.Errorf("make %s local: %w", network, err)
		}
	}
	return nothing{}, nil
}

// rename gives a link a name, if it has not got it. Another link of that name gets one of its own,
// until it is named in its turn.
func rename(link netlink.Link, name string) error {
	if name == "" || link.Attrs().Name == name {
		return nil
	}
	if other, err := netlink.LinkByName(name); err == nil {
		spare := fmt.Sprintf("card%d", other.Attrs().Index)
		err := errors.Join(netlink.LinkSetDown(other), netlink.LinkSetName(other, spare))
		if err != nil {
			return fmt.Errorf("free the name %s: %w", name, err)
		}
	}
	if err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, name)); err != nil {
		return fmt.Errorf("name %s %s: %w", link.Attrs().Name, name, err)
	}
	link.Attrs().Name = name
	return nil
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
	cards, err := faults.Cards(mac)
	if err != nil && s.node.Own && s.node.Kernel.LoadModule != nil {
		if err := s.node.Kernel.LoadModule(ctx, "virtio_net"); err != nil {
			return nil, err
		}
		cards, err = faults.Cards(mac)
	}
	if err != nil {
		return nil, fmt.Errorf("%w (its virtio_net module may be missing)", err)
	}
	return cards[0], nil
}

// meet asks for the hardware addresses of neighbours, all at once, and returns those that did not
// answer.
func (s *server) meet(ctx context.Context, request meetRequest) (silent []string, _ error) {
	silences := make([]string, len(request.Addresses))
	var asking errgroup.Group
	for i, text := range request.Addresses {
		asking.Go(func() error {
			err := meet(ctx, text, request.Keep)
			if errors.Is(err, sockets.ErrNoNeighbour) {
				silences[i], err = text, nil
			}
			return err
		})
	}
	err := asking.Wait()
	return slices.DeleteFunc(silences, func(text string) bool { return text == "" }), err
}

func meet(ctx context.Context, text string, keep bool) error {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return err
	}
	routes, err := netlink.RouteGet(address.AsSlice())
	if err != nil { // the scenario may have turned the address family off
		return fmt.Errorf("find a route to %s: %w: %w", address, sockets.ErrNoNeighbour, err)
	}
	index := routes[0].LinkIndex
	hardware, err := sockets.Neighbour(ctx, index, address)
	if err != nil || !keep {
		return err
	}
	err = netlink.NeighSet(&netlink.Neigh{
		LinkIndex: index, Family: sockets.Family(address), IP: address.AsSlice(),
		HardwareAddr: hardware, State: netlink.NUD_PERMANENT,
	})
	if err != nil {
		return fmt.Errorf("keep the hardware address of %s: %w", address, err)
	}
	return nil
}

// countCards reads the counters of the node's links.
func (s *server) countCards(context.Context, nothing) ([]Card, error) {
	s.mu.Lock()
	names := slices.Clone(s.cards)
	s.mu.Unlock()
	list := make([]Card, len(names))
	for i, name := range names {
		device, err := netlink.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", name, err)
		}
		c := &list[i]
		c.Name = name
		if n := device.Attrs().Statistics; n != nil {
			c.Received, c.Sent = int64(n.RxPackets), int64(n.TxPackets)
			c.Dropped = int64(n.TxDropped)
		}
		queued, err := link.QueueDrops(device)
		if err != nil {
			return nil, err
		}
		c.Dropped += queued
		if c.ShapedSent, c.ShapedReceived, err = s.Shaped(name); err != nil {
			return nil, err
		}
	}
	return list, nil
}
