package wiring

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/generators/tuples"
	"github.com/ctload/ctload/scenarios"
)

// portRange is a range of source ports, both ends included.
type portRange struct{ first, last int }

func (r portRange) String() string { return fmt.Sprintf("%d-%d", r.first, r.last) }

// part returns the ith of n parts that make up the range.
func (r portRange) part(i, n int) portRange {
	whole := r.last - r.first + 1
	return portRange{r.first + whole*i/n, r.first + whole*(i+1)/n - 1}
}

// The source ports of entries that name none: those of loads, of probes and of crafted packets. The
// first two are disjoint: a port that one socket has bound by number is not free for another,
// whatever its destination. Crafted packets have addresses of their own.
var (
	loadPorts    = portRange{1024, 60999}
	probePorts   = portRange{61000, 65535}
	craftedPorts = portRange{1024, 65535} // and identifiers, for icmp
)

// unnamedPorts returns the source ports of an entry that names none; false where there are none to
// choose.
//
// The kernel would draw ports at random, and a port drawn again soon takes over its old entry: of
// 5000 connections some 400 would leave no entry of their own.
func unnamedPorts(e scenarios.Entry) (portRange, bool) {
	switch {
	// The kernel chooses the identifiers of ICMP probes.
	case len(e.SourcePorts) > 0 || e.Probe == scenarios.ProbeICMP:
		return portRange{}, false
	case e.Probe != "":
		return probePorts, true
	case crafted(e) || e.Transport() == "icmp":
		return craftedPorts, true
	default:
		return loadPorts, true
	}
}

// crowd identifies entries that may collide: they take source ports from one range on one node.
type crowd struct {
	node      string
	ports     portRange
	transport generators.Protocol
	four      bool
}

func (a Assignment) crowd() crowd {
	c := crowd{a.Node, a.unnamed, a.Transport(), false}
	if target, err := netip.ParseAddr(a.Spec.Target); err == nil {
		c.four = target.Is4()
	}
	return c
}

// meets reports whether two entries would share a tuple, or bind two datagram sockets to one port.
func (a Assignment) meets(other Assignment) bool {
	if a.Name == other.Name || a.crowd() != other.crowd() {
		return false
	}
	sockets := a.Transport() != generators.ProtocolTCP && !a.Spec.Crafted
	both := func(port uint16) bool { return slices.Contains(other.Spec.Ports, port) }
	return sockets ||
		a.Spec.Target == other.Spec.Target && slices.ContainsFunc(a.Spec.Ports, both)
}

// Sharing tells how much of their tuples two assignments share.
type Sharing int

// The amounts. Those that share all walk through them in one order, since a run has one seed.
const (
	Apart Sharing = iota
	Some
	All
)

// Shares reports how much of its tuples an assignment shares with another one. Only entries that
// name their source ports share any.
func (a Assignment) Shares(other Assignment) Sharing {
	x, y := a.Spec, other.Spec
	if a.Node != other.Node || a.Transport() != other.Transport() || x.Target != y.Target ||
		x.SourcePorts == "" || y.SourcePorts == "" {
		return Apart
	}
	if x.Sources == y.Sources && x.SourcePorts == y.SourcePorts && slices.Equal(x.Ports, y.Ports) &&
		x.Zipf == y.Zipf {
		return All
	}
	overlap := func(x, y []uint16) bool {
		return len(x)+len(y) == 0 ||
			slices.ContainsFunc(x, func(port uint16) bool { return slices.Contains(y, port) })
	}
	from, errFrom := tuples.ParsePorts(x.SourcePorts)
	others, errOthers := tuples.ParsePorts(y.SourcePorts)
	if errFrom != nil || errOthers != nil || !overlap(x.Ports, y.Ports) ||
		!overlap(from, others) || !overlapping(x.Sources, y.Sources) {
		return Apart
	}
	return Some
}

// overlapping reports whether two sets of sources have an address in common; an empty one is the
// node's own address.
func overlapping(x, y string) bool {
	if x == y || x == "" || y == "" {
		return x == y
	}
	a, errA := tuples.ParseAddresses(x)
	b, errB := tuples.ParseAddresses(y)
	if errA != nil || errB != nil {
		return false
	}
	for first, last := range a.Ranges() {
		for from, to := range b.Ranges() {
			if !last.Less(from) && !to.Less(first) {
				return true
			}
		}
	}
	return false
}

// keepApart gives each of the entries that would collide a part of their shared source ports. All
// entries walk through the ports in the same order, so that those of the same rate would be on the
// same port at the same time: of two datagram sockets there the kernel gives one the answers to
// both, and a connection would take over the entry of another.
func keepApart(list []Assignment) {
	crowds := map[crowd][]int{}
	for i, a := range list {
		if a.unnamed != (portRange{}) && slices.ContainsFunc(list, a.meets) {
			crowds[a.crowd()] = append(crowds[a.crowd()], i)
		}
	}
	for _, members := range crowds {
		for i, at := range members {
			list[at].Spec.SourcePorts = list[at].unnamed.part(i, len(members)).String()
		}
	}
}

// spareListeners removes the ports that a node listens on from the source ports of its own entries,
// where those name none: a port with a listener is not free, and about one connection in ten
// thousand would fail on it.
func spareListeners(list []Assignment, responders map[string][]responders.Spec) {
	for i, a := range list {
		listening := map[uint16]bool{}
		for _, r := range responders[a.Node] {
			for _, port := range r.Ports {
				listening[port] = true
			}
		}
		if len(listening) == 0 || a.unnamed == (portRange{}) {
			continue
		}
		ports, err := tuples.ParsePorts(a.Spec.SourcePorts)
		if err != nil {
			continue // the generator reports it
		}
		ports = slices.DeleteFunc(ports, func(port uint16) bool { return listening[port] })
		list[i].Spec.SourcePorts = tuples.FormatPorts(ports)
	}
}
