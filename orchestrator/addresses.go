package orchestrator

import (
	"fmt"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// The lab's addresses. Each link is a /16 and a /64 of its own; nothing routes them anywhere. The DUT
// is host 1, load nodes follow from 2; a load node's further source addresses are in 10.77.1.0 and up.
const (
	clientLink = "client"
	serverLink = "server"
)

var linkNumber = map[string]int{clientLink: 77, serverLink: 78}

func address(family scenarios.Family, link string, host int) string {
	if family == scenarios.IPv6 {
		return fmt.Sprintf("fd00:%d::%x", linkNumber[link], host)
	}
	return fmt.Sprintf("10.%d.0.%d", linkNumber[link], host)
}

// sourceAddress is the nth further source address on the client link.
func sourceAddress(family scenarios.Family, n int) string {
	n += 1 << 8
	if family == scenarios.IPv6 {
		return fmt.Sprintf("fd00:%d::%x", linkNumber[clientLink], n)
	}
	return fmt.Sprintf("10.%d.%d.%d", linkNumber[clientLink], n>>8&0xff, n&0xff)
}

func subnet(family scenarios.Family, link string) string {
	if family == scenarios.IPv6 {
		return fmt.Sprintf("fd00:%d::/64", linkNumber[link])
	}
	return fmt.Sprintf("10.%d.0.0/16", linkNumber[link])
}

func prefix(family scenarios.Family) int {
	if family == scenarios.IPv6 {
		return 64
	}
	return 16
}

// port is where a node with that host number sits on a link.
func port(topology scenarios.Topology, link string, host int) vm.Port {
	p := vm.Port{Link: link}
	for _, family := range topology.Families {
		p.Addresses = append(p.Addresses, fmt.Sprintf("%s/%d", address(family, link, host), prefix(family)))
		if topology.Kind == scenarios.Router && host != dutHost {
			other := serverLink
			if link == serverLink {
				other = clientLink
			}
			p.Routes = append(p.Routes, agent.Route{To: subnet(family, other), Via: address(family, link, dutHost)})
		}
	}
	return p
}

const dutHost = 1

// ports are the DUT's: one link in the server topology, two in the router's.
func ports(topology scenarios.Topology) []vm.Port {
	list := []vm.Port{port(topology, clientLink, dutHost)}
	if topology.Kind == scenarios.Router {
		list = append(list, port(topology, serverLink, dutHost))
	}
	return list
}
