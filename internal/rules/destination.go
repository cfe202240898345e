package rules

import (
	"net/netip"
	"slices"
	"strings"
)

// DestinationNAT returns the first rule that translates the destination of flows to an address, or
// nil. Conditions on other things than protocol, ports, interfaces and that address are taken to
// hold; a rule with an address that the text does not tell, as that of a set, is left out.
func (s Ruleset) DestinationNAT(f Flow, to netip.Addr) *Rule {
	within := func(given string) Fit { return sure(contains(given, to)) }
	w := walker{flow: f, hook: "prerouting"}
	for t, r := range s.rules() {
		if r.Target != "" && !r.Partial && t.handles(f.Family) &&
			r.targets.fit(within) == Surely && w.fit(t, r) > Never {
			return r
		}
	}
	return nil
}

// Service is an address and a port to which packets come that rules lead on to another node.
type Service struct {
	Address netip.Addr // invalid: any of the node with the rules
	Port    uint16     // 0: the rules name none
}

// Services returns the services of tables with destination NAT, in the order of the rules, and the
// addresses that they lead to.
func (s Ruleset) Services() (services []Service, targets []netip.Addr) {
	for _, t := range s.Tables {
		before := len(targets)
		var own []Service
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				address, _ := Destination(r.Target, 0)
				to, err := netip.ParseAddr(address)
				if err == nil && !slices.Contains(targets, to) {
					targets = append(targets, to)
				}
				leads := err == nil || t.byName[r.Verdict] != nil
				if port, ok := r.Destinations.Port(); ok && leads {
					own = append(own, Service{single(r.targets), port})
				}
			}
		}
		for _, o := range t.Objects {
			for i, element := range o.elements {
				if address := single(Values{List: []string{element}}); i < len(o.jumps) &&
					address.IsValid() {
					own = append(own, Service{address, o.ports[element]})
				}
			}
		}
		if len(targets) > before {
			services = append(services, own...)
		}
	}
	return services, targets
}

// single returns the one address that a condition names; an invalid one for any other condition.
func single(v Values) netip.Addr {
	if len(v.List) != 1 || v.Negated || v.Unknown {
		return netip.Addr{}
	}
	if network, err := netip.ParsePrefix(v.List[0]); err == nil && network.IsSingleIP() {
		return network.Addr()
	}
	address, _ := netip.ParseAddr(v.List[0]) // invalid beside an error
	return address
}

// contains reports whether an address is in ADDRESS, ADDRESS/BITS or ADDRESS-ADDRESS.
func contains(given string, address netip.Addr) bool {
	if prefix, err := netip.ParsePrefix(given); err == nil {
		return prefix.Contains(address)
	}
	first, last, ranged := strings.Cut(given, "-")
	if !ranged {
		last = first
	}
	low, errLow := netip.ParseAddr(first)
	high, errHigh := netip.ParseAddr(last)
	return errLow == nil && errHigh == nil && !address.Less(low) && !high.Less(address)
}

// Translates names how the rule changes addresses: dnat, snat, or "" where it does not.
func (r *Rule) Translates() string {
	switch {
	case r.Target != "":
		return "dnat"
	case r.SourceNAT != nil:
		return "snat"
	}
	return ""
}

// MidStream reports whether the rule is about packets that no entry knows and that do not begin a
// connection of TCP: those of connections whose entries are gone, as in
// "! --syn -m conntrack --ctstate NEW".
func (r *Rule) MidStream() bool { return r.notSYN && r.about("NEW", "INVALID") }

// OutOfState reports whether the rule is about packets alone that connection tracking calls
// invalid.
func (r *Rule) OutOfState() bool { return r.about("INVALID") }

// about reports whether the rule names states of connection tracking, and no others than these.
func (r *Rule) about(states ...string) bool {
	other := func(state string) bool { return !slices.Contains(states, state) }
	return len(r.States.List) > 0 && !r.States.Negated && !slices.ContainsFunc(r.States.List, other)
}

// Lookups returns how many packets have asked the chains of destination NAT: the first of each flow
// that is tracked, since the kernel keeps the answer in the entry. known is false without such
// chains, and where a rule or a policy in them has no counter.
func (s Ruleset) Lookups() (packets int64, known bool) {
	for _, t := range s.Tables {
		for _, c := range t.Chains {
			if c.Type != "nat" || c.Hook != "prerouting" && c.Hook != "output" {
				continue
			}
			known = true
			n, counted := t.lookups(c, map[*Chain]bool{})
			if !counted || !c.Count.Known {
				return 0, false
			}
			packets += n + c.Count.Packets
		}
	}
	return packets, known
}

// lookups returns how many packets ended their way in a chain, or in those that it jumps to.
func (t *Table) lookups(c *Chain, seen map[*Chain]bool) (packets int64, counted bool) {
	if seen[c] {
		return 0, true
	}
	seen[c] = true
	for _, r := range c.Rules {
		next := t.Chain(r.Verdict)
		switch {
		case next != nil:
			n, counted := t.lookups(next, seen)
			if !counted {
				return 0, false
			}
			packets += n
		case r.Translates() == "" && r.Verdict != "ACCEPT" && !r.Refuses():
		case !r.Count.Known:
			return 0, false
		default:
			packets += r.Count.Packets
		}
	}
	return packets, true
}
