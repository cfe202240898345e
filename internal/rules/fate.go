package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// This file follows a packet through the rules, from hook to hook, as far as texts tell.

// Fit says how surely something holds for a packet: texts leave open what addresses, marks, sets
// and limits decide.
type Fit int

// The degrees, the least first.
const (
	Never Fit = iota
	Maybe
	Surely
)

// Flow is the first packet of a connection, or of a flow of datagrams, or an answer to it.
type Flow struct {
	Family   string // IPv4 or IPv6
	Protocol string // tcp, udp, icmp or icmpv6
	Port     uint16 // of the destination; of an answer, of the source
	SYN      bool   // no other packet follows
	Local    bool   // the node with the rules sends it
	Loopback bool   // it stays on that node
	Through  bool   // that node forwards it
	Reply    bool   // it is an answer
	Tracked  bool   // no rule exempts it, whatever rules say
	// In and Out are the names of the interfaces where it comes in and leaves, each by all of its
	// names; empty where they are not known: any name then fits but lo.
	In, Out []string
	// From and To hold its addresses: a network where one flow has this and one that; invalid where
	// they are not known.
	From, To netip.Prefix
	// Lab holds the values of placeholders for addresses and networks, as client.network.
	Lab map[string]netip.Prefix
}

// Answer returns an answer to a flow that does not leave its node with a route of its own.
func (f Flow) Answer() Flow {
	f.Reply, f.In, f.Out = !f.Reply, f.Out, f.In
	f.From, f.To = f.To, f.From
	if f.Through { // they may be translated
		f.From, f.To = netip.Prefix{}, netip.Prefix{}
	}
	if !f.Through && !f.Loopback {
		f.Local = !f.Local
	}
	return f
}

// Place is a rule of a chain, or its policy where Rule is nil.
type Place struct {
	Table *Table
	Chain *Chain
	Rule  *Rule
}

// At returns where the place is in its text.
func (p Place) At() Position {
	if p.Rule != nil {
		return p.Rule.At
	}
	return p.Chain.At
}

// String names the place for a sentence.
func (p Place) String() string {
	where := fmt.Sprintf("chain %s of table %s", p.Chain.Name, p.Table.ID())
	if p.Rule == nil {
		return fmt.Sprintf("the policy %s of %s", strings.ToUpper(p.Chain.Policy), where)
	}
	return fmt.Sprintf("the rule %q in %s", p.Rule.Text, where)
}

// Fate tells what the rules make of a packet.
type Fate struct {
	Untracked Fit   // rules take it out of tracking
	Exempting Place // the first of them; without a table where Untracked is Never
	Refused   Fit   // rules drop or reject it
	Refusing  Place // likewise
	Unseen    bool  // they do so before connection tracking sees it
	// Target is the new destination, from the first rule of destination NAT that the packet surely
	// meets; see [Rule.Target].
	Target  string
	Leading Place
	Targets []string // of all rules of destination NAT that it may meet
	Met     bool     // it may match some rule

	source *Rule // the first rule of source NAT that it surely meets
}

// Untracked reports whether the rules surely take a flow out of tracking.
func (s Ruleset) Untracked(f Flow) bool { return s.Fate(f).Untracked == Surely }

// Directions follows the first packet of a flow and the answer to it. Packets that loop back keep
// what was decided when they left.
func (s Ruleset) Directions(f Flow) (there, back Fate) {
	there = s.Fate(f)
	if f.Loopback {
		return there, there
	}
	return there, s.Fate(f.Answer())
}

// Fate follows a packet through the rules, up to where it is refused or another node's.
func (s Ruleset) Fate(f Flow) Fate { return s.follow(f, false) }

// follow follows a packet as Fate does, with beyond also behind destination NAT to another node.
func (s Ruleset) follow(f Flow, beyond bool) Fate {
	w := walker{flow: f, budget: maxSteps, reach: Surely, known: ^uint32(0)}
	for hooks := f.hooks(); len(hooks) > 0; hooks = hooks[1:] {
		w.hook = hooks[0]
		for _, base := range s.bases(f.Family, w.hook) {
			// A packet that comes back from the loopback interface has its entry.
			w.early = base.Chain.Priority < conntrackPriority &&
				!(f.Loopback && w.hook == "prerouting")
			out := w.walk(base, w.reach, 0)
			if out > Never && strings.EqualFold(base.Chain.Policy, "DROP") {
				w.refuse(out, base)
			}
			if w.fate.Refused == Surely {
				return w.fate
			}
			if w.fate.Refused == Maybe {
				w.reach = Maybe
			}
		}
		if w.fate.Target == "" || w.hook != "prerouting" {
			continue
		}
		address, port := Destination(w.fate.Target, f.Port)
		w.flow.Port = port
		switch {
		case address == "":
			w.flow.Through, hooks = false, []string{w.hook, "input"}
		case beyond:
			w.flow.Through, w.flow.Out = true, nil
			w.flow.To, _ = w.flow.network(address)
			hooks = []string{w.hook, "forward", "postrouting"}
		default:
			return w.fate
		}
	}
	return w.fate
}

// Port returns the port that destination NAT leads a packet to, which came for a port; own reports
// whether it is one of the node with the rules, as after a redirect.
func (f Fate) Port(given uint16) (port uint16, own bool) {
	address, port := Destination(f.Target, given)
	return port, address == ""
}

// Destination returns where a target of destination NAT (see [Rule.Target]) leads a packet to a
// port: an address, or "" for the node with the rules (by its loopback addresses too), and a port.
func Destination(target string, given uint16) (address string, port uint16) {
	if target == keptPort {
		return "", given
	}
	address = target
	if at := strings.LastIndexByte(target, ':'); at >= 0 {
		low, _, ok := portRange(target[at+1:])
		bare := strings.Count(target, ":") > 1 && !strings.HasSuffix(target[:at], "]")
		if ok && !bare { // else of an address of IPv6 alone
			address, given = target[:at], low
		}
	}
	address = strings.Trim(address, "[]")
	if own, err := netip.ParseAddr(address); err == nil && own.IsLoopback() {
		return "", given
	}
	return address, given
}

// hooks returns the hooks that a packet passes, in order.
func (f Flow) hooks() []string {
	switch {
	case f.Loopback:
		return []string{"output", "postrouting", "prerouting", "input"}
	case f.Local:
		return []string{"output", "postrouting"}
	case f.Through:
		return []string{"prerouting", "forward", "postrouting"}
	default:
		return []string{"prerouting", "input"}
	}
}

// bases returns the chains that the kernel calls at a hook, in order. Frames that a bridge forwards
// are no packets of the node.
func (s Ruleset) bases(family, hook string) []Place {
	var list []Place
	for _, t := range s.Tables {
		if t.Family != family && t.Family != "inet" {
			continue
		}
		for _, c := range t.Chains {
			if c.Hook == hook {
				list = append(list, Place{Table: t, Chain: c})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Place) int {
		return cmp.Compare(a.Chain.Priority, b.Chain.Priority)
	})
	return list
}

// conntrackPriority is NF_IP_PRI_CONNTRACK: a chain at it, or after it, exempts nothing.
const conntrackPriority = -200

// The bounds of a walk: the kernel allows 16 jumps in each other, and a chain may be reached by
// many.
const (
	maxJumps = 16
	maxSteps = 1 << 18
)

// walker is a packet on its way.
type walker struct {
	flow   Flow
	hook   string
	early  bool // conntrack has not seen the packet yet
	reach  Fit  // how surely the packet gets to a hook
	budget int
	ended  int // how often the way of a packet ended, at least maybe
	fate   Fate
	// mark is the packet's mark, of which the bits in known are known: packets come without.
	mark, known uint32
}

func (w *walker) refuse(fit Fit, by Place) {
	if fit > w.fate.Refused {
		w.fate.Refused, w.fate.Refusing, w.fate.Unseen = fit, by, w.early
	}
}

// walk passes a packet, which gets to a chain as surely as reach says, through its rules. It
// returns how surely the packet leaves at the end, or by a return.
func (w *walker) walk(at Place, reach Fit, depth int) (out Fit) {
	for _, r := range at.Chain.Rules {
		if w.budget--; w.budget < 0 || depth > maxJumps {
			w.ended++
			return min(reach, Maybe)
		}
		at.Rule = r
		fit := min(reach, w.fit(at.Table, r))
		if fit == Never {
			continue
		}
		w.fate.Met = true
		before := w.ended
		left, returned := fit, Never // of those packets that meet the rule, those that go on
		for _, one := range r.cases {
			met, before := min(left, w.fit(at.Table, one)), w.ended
			stay, back := w.apply(Place{at.Table, at.Chain, one}, met, depth)
			returned = max(returned, back)
			left = remaining(left, met, stay, w.ended > before)
		}
		if len(r.cases) == 0 {
			left, returned = w.apply(at, fit, depth)
		}
		out = max(out, returned)
		if reach = remaining(reach, fit, left, w.ended > before); reach == Never {
			return out
		}
	}
	return max(out, reach)
}

// remaining returns how surely a packet goes on behind a rule, which it reached and met as surely
// as the first two say, and leaves for the next one as surely as the third says. The rule keeps
// packets where some end their way in it.
func remaining(reach, met, left Fit, keeps bool) Fit {
	switch {
	case !keeps:
		return reach
	case met == Surely:
		return left
	default:
		return min(reach, Maybe)
	}
}

// apply does what a rule does with a packet that meets it. It returns how surely the packet goes on
// to the next rule, and how surely it returns to the chain that jumped here.
func (w *walker) apply(at Place, fit Fit, depth int) (on, back Fit) {
	r := at.Rule
	if fit == Never {
		return Never, Never
	}
	if r.Notrack && w.early && !w.flow.Tracked {
		exempt := fit
		if r.Partial || r.SYN && !w.flow.SYN {
			exempt = min(exempt, Maybe)
		}
		if exempt > w.fate.Untracked {
			w.fate.Untracked, w.fate.Exempting = exempt, at
		}
	}
	w.remark(r, fit)
	target := at.Table.byName[r.Verdict]
	if target != nil && target != at.Chain {
		out := w.walk(Place{Table: at.Table, Chain: target}, fit, depth+1)
		if !r.leaves {
			return out, Never
		}
		w.ended++
		return Never, out
	}
	w.ended++
	switch {
	case r.Refuses():
		w.refuse(fit, at)
		return Never, Never
	case r.Verdict == "RETURN":
		return Never, fit
	case r.Target != "":
		if w.fate.Untracked != Surely && !slices.Contains(w.fate.Targets, r.Target) {
			w.fate.Targets = append(w.fate.Targets, r.Target)
		}
		if fit == Surely && w.fate.Target == "" && w.fate.Untracked != Surely {
			w.fate.Target, w.fate.Leading = r.Target, at
		}
		return Never, Never
	case r.SourceNAT != nil:
		if fit == Surely && w.fate.source == nil && w.fate.Untracked != Surely {
			w.fate.source = r
		}
		return Never, Never
	case slices.Contains(finalTargets, r.Verdict):
		return Never, Never
	case r.opaque:
		for _, name := range at.Table.chainsOf(r.jumps) {
			if c := at.Table.byName[name]; c != nil && c != at.Chain {
				w.walk(Place{Table: at.Table, Chain: c}, Maybe, depth+1)
			}
		}
		return Maybe, Maybe
	}
	w.ended--
	return fit, Never
}

// chainsOf returns names of chains, with the chains of maps of verdicts, as @services, in their
// place.
func (t *Table) chainsOf(jumps []string) (names []string) {
	for _, jump := range jumps {
		name, isMap := strings.CutPrefix(jump, "@")
		if !isMap {
			names = append(names, jump)
		}
		for _, o := range t.Objects {
			if isMap && o.Name == name {
				names = append(names, o.jumps...)
			}
		}
	}
	return names
}

// finalTargets end the way of a packet through a chain, and do not refuse it. A packet in a queue
// is in the hands of a program.
var finalTargets = strings.Fields("ACCEPT SNAT DNAT MASQUERADE REDIRECT NETMAP NFQUEUE QUEUE " +
	"TPROXY SYNPROXY STOLEN")
