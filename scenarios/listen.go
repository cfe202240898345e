package scenarios

import (
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/rules"
)

// listener is an item of listen: ports of a node at which something listens.
type listener struct {
	PortRange
	node, transport string
}

// listenForm matches 15006, 8000-8063, 53/udp and server2:8080/tcp.
var listenForm = regexp.MustCompile(`^(?:([a-z]+\d*):)?([0-9-]+)(?:/(tcp|udp))?$`)

// parseListen parses an item of listen; ok is false where it is none.
func parseListen(text string) (l listener, ok bool) {
	m := listenForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return listener{}, false
	}
	l.node, l.transport = nodeDUT, "tcp"
	if m[1] != "" {
		l.node = nodeNamed(m[1])
	}
	if m[3] != "" {
		l.transport = m[3]
	}
	err := l.UnmarshalText([]byte(m[2]))
	return l, err == nil
}

// checkListen checks the items of listen.
func checkListen(p *problems, n *node, listen []string, topology Topology) {
	for i, text := range listen {
		at := n.at
		if n.kind == list && i < len(n.items) {
			at = n.items[i].at
		}
		l, ok := parseListen(text)
		if !ok {
			p.errorf(at, "%s is not a port at which something listens, such as 15006, 53/udp or "+
				"server:8080", quote(text))
			continue
		}
		checkNode(p, at, l.node, topology)
		p.refuse(strings.HasPrefix(l.node, nodeClient), at, "nothing listens on a client")
	}
}

// lead is a destination that rules give packets: a port of a node of the lab, or of an address that
// no node has.
type lead struct {
	node, address string // of which one is empty
	port          uint16
}

// leads returns where rules of destination NAT may lead the packets of an entry, and whether they
// surely lead all of them somewhere in the lab. Those that the language writes for nat are left
// out.
func (f firewall) leads(topology Topology, e Entry, c *Configuration) (list []lead, surely bool) {
	if c.NAT == DNAT || c.NAT == Redirect || !f.translatesDestinations() {
		return nil, false
	}
	surely = true
	for _, flow := range e.flows(topology, c) {
		fate := f.Fate(flow)
		surely = surely && fate.Target != "" && leadOf(fate.Target, flow.Port).node != ""
		for _, target := range fate.Targets {
			to := leadOf(target, flow.Port)
			if !slices.Contains(list, to) {
				list = append(list, to)
			}
		}
	}
	return list, surely
}

func (f firewall) translatesDestinations() bool {
	for _, t := range f.Tables {
		for _, c := range t.Chains {
			if slices.ContainsFunc(c.Rules, func(r *rules.Rule) bool { return r.Target != "" }) {
				return true
			}
		}
	}
	return false
}

// leadOf returns where a target of destination NAT leads a packet to a port.
func leadOf(target string, port uint16) lead {
	address, port := rules.Destination(target, port)
	if address == "" {
		return lead{node: nodeDUT, port: port}
	}
	if m := ownAddress.FindStringSubmatch(address); m != nil {
		return lead{node: nodeNamed(m[1]), port: port}
	}
	return lead{address: address, port: port}
}

// ownAddress matches the placeholder of a node's address.
var ownAddress = regexp.MustCompile(`^\$\{([a-z]+\d*)(?:\.[a-z]+)?\.address6?\}$`)
