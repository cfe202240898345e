package faults

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// tcpStates lists the states by number, as the kernel spells them in /proc/net/nf_conntrack
// (tcp_conntrack_names).
var tcpStates = []string{"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

var protocolNumbers = map[string]uint8{
	"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "icmpv6": 58, "sctp": 132, "udplite": 136,
}

// matcher is a filter in the terms of an entry.
type matcher struct {
	protocol            int // -1: any
	state               int // -1: any
	source, destination netip.Prefix
	port, sourcePort    uint16
	unassured           bool
}

// compile checks a filter and translates its words.
func compile(f Filter) (matcher, error) {
	m := matcher{protocol: -1, state: -1, port: f.Port, sourcePort: f.SourcePort, unassured: f.Unassured}
	if f.Protocol != "" {
		number, known := protocolNumbers[strings.ToLower(f.Protocol)]
		if !known {
			n, err := strconv.ParseUint(f.Protocol, 10, 8)
			if err != nil {
				return m, fmt.Errorf("protocol %q: neither a number nor one of tcp, udp, icmp, icmpv6, sctp, dccp, gre, udplite", f.Protocol)
			}
			number = uint8(n)
		}
		m.protocol = int(number)
	}
	if f.State != "" {
		if m.state = slices.Index(tcpStates, strings.ToUpper(f.State)); m.state < 0 {
			return m, fmt.Errorf("state %q: none of tcp's %s", f.State, strings.Join(tcpStates, ", "))
		}
		if m.protocol >= 0 && m.protocol != int(protocolNumbers["tcp"]) {
			return m, fmt.Errorf("state %s: of tcp alone, not of %s", f.State, f.Protocol)
		}
		m.protocol = int(protocolNumbers["tcp"])
	}
	var err error
	if m.source, err = network(f.Source); err != nil {
		return m, fmt.Errorf("source %w", err)
	}
	if m.destination, err = network(f.Destination); err != nil {
		return m, fmt.Errorf("destination %w", err)
	}
	return m, nil
}

// network parses an address or a network; empty is the zero prefix, which matches all.
func network(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return prefix, fmt.Errorf("%q: neither an address nor a network", text)
	}
	return prefix, nil
}

// matches reports whether the filter selects an entry.
func (m matcher) matches(e entry) bool {
	within := func(p netip.Prefix, a netip.Addr) bool { return !p.IsValid() || p.Contains(a) }
	switch {
	case m.protocol >= 0 && m.protocol != int(e.protocol),
		m.state >= 0 && m.state != int(e.state),
		m.port != 0 && m.port != e.destinationPort,
		m.sourcePort != 0 && m.sourcePort != e.sourcePort,
		m.unassured && e.assured:
		return false
	}
	return within(m.source, e.source) && within(m.destination, e.destination)
}
