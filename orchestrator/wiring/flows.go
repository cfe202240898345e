package wiring

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/tuples"
)

// Countable returns the flows by which the DUT can count what it receives of an entry, by the
// entry's name: each attempt is one packet without an answer, and no other entry has its tuples.
func Countable(list []Assignment) map[string][]agent.Flows {
	byEntry, excluded := map[string][]agent.Flows{}, map[string]bool{}
	for i, a := range list {
		shares := func(b Assignment) bool { return b.Name != a.Name && a.shares(b) }
		flows, ok := a.flows()
		if !ok || slices.ContainsFunc(list[:i], shares) || slices.ContainsFunc(list[i+1:], shares) {
			excluded[a.Entry.Name] = true
			continue
		}
		byEntry[a.Entry.Name] = append(byEntry[a.Entry.Name], flows)
	}
	for name := range excluded {
		delete(byEntry, name)
	}
	return byEntry
}

// flows returns the tuples of an assignment whose every attempt is one packet to the DUT's cards;
// false for another one.
func (a Assignment) flows() (agent.Flows, bool) {
	s := a.Spec
	target, err := netip.ParseAddr(s.Target)
	f := agent.Flows{
		Protocol: unix.IPPROTO_UDP, Source: a.Source(), Target: target,
		SourcePorts: s.SourcePorts, TargetPorts: tuples.FormatPorts(s.Ports),
	}
	if a.Transport() == generators.ProtocolTCP {
		f.Protocol = unix.IPPROTO_TCP
	}
	one := s.OneWay() && s.Lifetime.None() && max(s.Exchanges, s.AtOnce) <= 1
	return f, one && a.Node != DUT && err == nil && f.Source.IsValid() && f.SourcePorts != "" &&
		a.Transport() != generators.ProtocolICMP
}

// shares reports whether packets of an assignment may have the tuples of another one's.
func (a Assignment) shares(other Assignment) bool {
	if other.Node == DUT || a.Transport() != other.Transport() ||
		a.Spec.Target != other.Spec.Target || !a.Source().Overlaps(other.Source()) {
		return false
	}
	return meet(a.Spec.Ports, other.Spec.Ports) && meet(a.sourcePorts(), other.sourcePorts())
}

// meet reports whether two lists of ports have one in common; an empty list means any port.
func meet(these, those []uint16) bool {
	var listed [1 << 16]bool
	for _, port := range these {
		listed[port] = true
	}
	return len(these) == 0 || len(those) == 0 ||
		slices.ContainsFunc(those, func(port uint16) bool { return listed[port] })
}

// sourcePorts returns the source ports of an assignment; none where the kernel chooses.
func (a Assignment) sourcePorts() []uint16 {
	ports, err := tuples.ParsePorts(a.Spec.SourcePorts)
	if err != nil {
		return nil // the generator reports it
	}
	return ports
}
