package scenarios

import (
	"fmt"
	"net/netip"
)

// This file has the lab's addresses, for which placeholders stand. Each link is a /16 and a /64 of
// its own; nothing routes them elsewhere.

// The hosts of a link: the DUT, and the load nodes from FirstHost on.
const (
	DUTHost   = 1
	FirstHost = DUTHost + 1
)

var linkNumber = map[string]int{nodeClient: 77, nodeServer: 78}

// LabAddress returns the address of a host of a link, of which there are 65,535.
func LabAddress(family Family, link string, host int) netip.Addr {
	number, low, high := linkNumber[link], byte(host), byte(host>>8)
	if family == IPv6 {
		prefix := netip.MustParseAddr(fmt.Sprintf("fd00:%d::", number)).As16()
		prefix[14], prefix[15] = high, low
		return netip.AddrFrom16(prefix)
	}
	return netip.AddrFrom4([4]byte{10, byte(number), high, low})
}

// LabNetwork returns the network of a link.
func LabNetwork(family Family, link string) netip.Prefix {
	bits := 16
	if family == IPv6 {
		bits = 64
	}
	return netip.PrefixFrom(LabAddress(family, link, 0), bits)
}

// LabValues returns the values of placeholders for addresses and networks.
func (t Topology) LabValues() map[string]netip.Prefix {
	values := map[string]netip.Prefix{}
	nodes := map[string]int{nodeClient: t.Clients}
	if t.Kind == Router {
		nodes[nodeServer] = t.Servers
	}
	for link, number := range nodes {
		for _, family := range t.Families {
			give := func(word string, host int) {
				own := LabAddress(family, link, host)
				values[word+".address"+family.suffix()] = netip.PrefixFrom(own, own.BitLen())
			}
			values[link+".network"+family.suffix()] = LabNetwork(family, link)
			give(nodeDUT+"."+link, DUTHost)
			for i := range max(1, number) {
				give(nodeNamed(fmt.Sprint(link, i+1)), FirstHost+i)
			}
		}
	}
	return values
}
