package wiring

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// The lab's addresses (see [scenarios.LabAddress]). In the upper half of the client link each
// client owns 4096 further source addresses, which the DUT reaches by way of its first address: for
// an IPv6 address of a local route alone, Linux answers no neighbour. Strangers, the sources of
// crafted packets, are in the ranges set apart for measurements (RFC 2544, RFC 5180). Each client
// has a part of these ranges. The DUT sends its answers to that client, whose kernel drops them
// silently, as if the stranger did not exist.
const (
	ClientLink = "client"
	serverLink = "server"
)

const (
	dutHost   = scenarios.DUTHost
	firstHost = scenarios.FirstHost
)

func address(family scenarios.Family, link string, host int) string {
	return scenarios.LabAddress(family, link, host).String()
}

// Source returns the network of the source addresses of an assignment's packets, the smallest that
// has them all; an invalid one where the DUT is the sender.
func (a Assignment) Source() netip.Prefix {
	switch {
	case a.Spec.Sources != "":
		return covering(a.Spec.Sources)
	case a.Node == DUT:
		return netip.Prefix{}
	}
	own := scenarios.LabAddress(a.Family, ClientLink, firstHost+nodeIndex(a.Node))
	return netip.PrefixFrom(own, own.BitLen())
}

// covering returns the smallest network that has ADDRESS, NETWORK/BITS or FIRST-LAST.
func covering(text string) netip.Prefix {
	if network, err := netip.ParsePrefix(text); err == nil {
		return network.Masked()
	}
	low, high, ranged := strings.Cut(text, "-")
	if !ranged {
		high = low
	}
	first, errFirst := netip.ParseAddr(low)
	last, errLast := netip.ParseAddr(high)
	if errFirst != nil || errLast != nil {
		return netip.Prefix{}
	}
	network := netip.PrefixFrom(first, first.BitLen())
	for !network.Contains(last) && network.Bits() > 0 {
		network = netip.PrefixFrom(first, network.Bits()-1).Masked()
	}
	return network
}

// furtherEach is the number of further addresses of a client.
const furtherEach = 1 << 12

// furtherRange returns the further addresses of the ith client, in CIDR notation.
func furtherRange(family scenarios.Family, client int) string {
	bits := "/20"
	if family == scenarios.IPv6 {
		bits = "/116"
	}
	return furtherAddress(family, client, 0) + bits
}

func furtherAddress(family scenarios.Family, client, n int) string {
	return address(family, ClientLink, 1<<15+client*furtherEach+n)
}

// further returns n of a client's further addresses, in the generators' notation.
func further(family scenarios.Family, client, n int) string {
	last := furtherAddress(family, client, min(n, furtherEach)-1)
	return furtherAddress(family, client, 0) + "-" + last
}

// strangerNetworks are the ranges of strangers.
var strangerNetworks = map[scenarios.Family]netip.Prefix{
	scenarios.IPv4: netip.MustParsePrefix("198.18.0.0/15"),
	scenarios.IPv6: netip.MustParsePrefix("2001:2::/48"),
}

// strangerNetwork returns the ith client's part of the strangers: all of them for a single client.
func strangerNetwork(family scenarios.Family, client, clients int) netip.Prefix {
	whole := strangerNetworks[family]
	longer := whole.Bits() + bits.Len(uint(clients-1))
	first := whole.Addr().AsSlice()
	for bit := whole.Bits(); bit < longer; bit++ {
		if client>>(longer-1-bit)&1 == 1 {
			first[bit/8] |= 0x80 >> (bit % 8)
		}
	}
	addr, _ := netip.AddrFromSlice(first)
	return netip.PrefixFrom(addr, longer)
}

// strangers returns n of a client's strangers, in the generators' notation: at most 65,536 for a
// single IPv4 client.
func strangers(family scenarios.Family, client, clients, n int) string {
	network := strangerNetwork(family, client, clients)
	first := network.Addr()
	if family == scenarios.IPv6 { // within the part, the last 64 bits are free
		raw := first.As16()
		raw[13] = 1
		first = netip.AddrFrom16(raw)
	} else {
		n = min(n, 1<<(first.BitLen()-network.Bits()))
	}
	n = min(n, 1<<16) - 1
	last := first.AsSlice()
	last[len(last)-2], last[len(last)-1] = last[len(last)-2]|byte(n>>8), byte(n)
	end, _ := netip.AddrFromSlice(last)
	return first.String() + "-" + end.String()
}

func subnet(family scenarios.Family, link string) string {
	return scenarios.LabNetwork(family, link).String()
}

// port returns where the node with that host number is attached to a link.
func port(topology scenarios.Topology, link string, host int) vm.Port {
	p := vm.Port{Link: link}
	for _, family := range topology.Families {
		bits := 16
		if family == scenarios.IPv6 {
			bits = 64
		}
		p.Addresses = append(p.Addresses, fmt.Sprintf("%s/%d", address(family, link, host), bits))
		route := func(to string, via int) {
			p.Routes = append(p.Routes, agent.Route{To: to, Via: address(family, link, via)})
		}
		if topology.Kind == scenarios.Router && host != dutHost {
			other := serverLink
			if link == serverLink {
				other = ClientLink
			}
			route(subnet(family, other), dutHost)
		}
		switch {
		case link == ClientLink && host == dutHost:
			for i := range topology.Clients {
				route(furtherRange(family, i), firstHost+i)
				route(strangerNetwork(family, i, topology.Clients).String(), firstHost+i)
			}
		case link == serverLink && host != dutHost:
			route(strangerNetworks[family].String(), dutHost)
		}
	}
	return p
}

// DUTPorts returns where the DUT is attached: one link in the server topology, two in the router's.
func DUTPorts(topology scenarios.Topology, dut scenarios.Configuration) []vm.Port {
	list := []vm.Port{port(topology, ClientLink, dutHost)}
	if topology.Kind == scenarios.Router {
		list = append(list, port(topology, serverLink, dutHost))
	}
	for _, card := range dut.Cards {
		for i := range list {
			if list[i].Link == card.Link {
				list[i].Name = card.Name
			}
		}
	}
	return list
}

// Neighbours returns the addresses that nodes meet on their links, by node: each load node meets
// the DUT, and the DUT each of them.
func Neighbours(topology scenarios.Topology) map[string][]string {
	met := map[string][]string{}
	for _, node := range LoadNodes(topology) {
		for _, own := range node.Port.Addresses {
			met[DUT] = append(met[DUT], netip.MustParsePrefix(own).Addr().String())
		}
		for _, family := range topology.Families {
			met[node.Name] = append(met[node.Name], address(family, node.Port.Link, dutHost))
		}
	}
	return met
}
