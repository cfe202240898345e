package rules

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// fit returns how surely the packet meets the conditions of a rule.
func (w *walker) fit(t *Table, r *Rule) Fit {
	f := w.flow
	whole := Surely
	if r.other || r.Partial || r.opaque && len(r.cases) == 0 {
		whole = Maybe
	}
	if r.SYN && (f.Reply || f.Protocol != "tcp") {
		return Never
	}
	port := func(given string) Fit { return portFit(given, f.Port, f.Protocol) }
	there, here := r.Destinations, r.Sources
	if f.Reply {
		there, here = here, there
	}
	protocol := func(given string) Fit { return sure(sameProtocol(given, f.Protocol)) }
	comes := slices.Contains([]string{"prerouting", "input", "forward"}, w.hook)
	leaves := slices.Contains([]string{"output", "forward", "postrouting"}, w.hook)
	return min(whole,
		w.interfaces(r.In, f.In, comes), w.interfaces(r.Out, f.Out, leaves),
		r.targets.fit(func(given string) Fit { return t.element(given, f.within(f.To)) }),
		r.sources.fit(func(given string) Fit { return t.element(given, f.within(f.From)) }),
		w.marked(r),
		r.families.fit(func(family string) Fit {
			name := strings.TrimSuffix(strings.Replace(family, "ipv", "ip", 1), "4")
			return sure(name == f.Family)
		}),
		r.Protocols.fit(func(given string) Fit { return t.element(given, protocol) }),
		there.fit(func(given string) Fit { return t.element(given, port) }),
		here.fit(func(given string) Fit { return t.element(given, clientPort) }),
		r.either.fit(func(given string) Fit {
			return max(t.element(given, port), t.element(given, clientPort))
		}),
		r.kinds.fit(func(given string) Fit { return t.element(given, f.message) }),
		r.States.fit(w.state))
}

// message judges a kind of ICMP messages that a rule names, as echo-request, 8 or 8/0: a flow of
// ICMP is an echo request, and its answer an echo reply, both of code 0. Other names are those of
// other messages.
func (f Flow) message(given string) Fit {
	numbers, echoes := echoNumbers[f.Protocol]
	if !echoes {
		return Never
	}
	own := 0
	if f.Reply {
		own = 1
	}
	kind, code, coded := strings.Cut(strings.ToLower(given), "/")
	named := slices.ContainsFunc(echoNames[own], func(name string) bool {
		return strings.HasPrefix(name, kind) // iptables takes names cut short
	})
	switch number, err := strconv.ParseUint(kind, 0, 8); {
	case kind == "any", err == nil && number == 255 && f.Protocol == "icmp":
		return Surely
	case named || err == nil && number == numbers[own]:
		return sure(!coded || code == "0")
	case err == nil || kind != "" && 'a' <= kind[0] && kind[0] <= 'z':
		return Never
	default: // a range, or a variable
		return Maybe
	}
}

// echoNumbers and echoNames are the types of echo requests and of echo replies.
var (
	echoNumbers = map[string][2]uint64{"icmp": {8, 0}, "icmpv6": {128, 129}}
	echoNames   = [2][]string{{"echo-request", "ping"}, {"echo-reply", "pong"}}
)

// within returns how to judge an address, or a network, that a rule names: whether it holds one of
// the flow's addresses.
func (f Flow) within(own netip.Prefix) func(given string) Fit {
	return func(given string) Fit {
		network, known := f.network(given)
		switch {
		case slices.Contains(anywhere, given):
			return Surely
		case !own.IsValid() || !known:
			return Maybe
		case !network.Overlaps(own):
			return Never
		case network.Bits() > own.Bits():
			return Maybe
		}
		return Surely
	}
}

// network reads ADDRESS, ADDRESS/BITS, or the same with a placeholder.
func (f Flow) network(given string) (network netip.Prefix, known bool) {
	host, bits, masked := strings.Cut(given, "/")
	word, isWord := strings.CutPrefix(host, "${")
	if isWord {
		network, known = f.Lab[strings.TrimSuffix(word, "}")]
	} else if address, err := netip.ParseAddr(host); err == nil {
		network, known = netip.PrefixFrom(address, address.BitLen()), true
	}
	if masked && known {
		length, err := strconv.Atoi(bits)
		if err != nil {
			return netip.Prefix{}, false
		}
		network, err = network.Addr().Prefix(length)
		known = err == nil
	}
	return network, known
}

// anywhere are networks with every address.
var anywhere = []string{"0.0.0.0/0", "0/0", "::/0"}

// Elsewhere returns the addresses and networks that keep a flow from meeting a rule, whose other
// conditions it may meet: none of them holds the flow's addresses.
func (s Ruleset) Elsewhere(f Flow, t *Table, c *Chain, r *Rule) (source bool, addresses []string) {
	w := walker{flow: f, hook: c.Hook}
	bare := *r
	bare.sources, bare.targets = Values{}, Values{}
	if w.fit(t, &bare) == Never {
		return false, nil
	}
	for _, side := range []struct {
		own   netip.Prefix
		given Values
	}{{f.To, r.targets}, {f.From, r.sources}} {
		judge := func(given string) Fit { return t.element(given, f.within(side.own)) }
		if !side.given.Negated && side.given.fit(judge) == Never {
			return side.own == f.From, side.given.List
		}
	}
	return false, nil
}

func sure(holds bool) Fit {
	if holds {
		return Surely
	}
	return Never
}

// state judges a state that a rule names. Conntrack gives a packet its state before all chains but
// the early ones.
func (w *walker) state(name string) Fit {
	untracked := name == "UNTRACKED"
	switch known := slices.Contains(trackedStates, name) || untracked; {
	case w.early || !known:
		return Maybe
	case w.fate.Untracked == Maybe:
		return Maybe
	case w.fate.Untracked == Surely:
		return sure(untracked)
	case w.flow.Reply:
		return sure(name == "ESTABLISHED")
	default:
		return sure(name == "NEW")
	}
}

var trackedStates = []string{"NEW", "ESTABLISHED", "RELATED", "INVALID"}

// interfaces judges a condition on an interface: names are those of the packet's, and there says
// whether it has one at this hook.
func (w *walker) interfaces(v Values, names []string, there bool) Fit {
	return v.fit(func(given string) Fit {
		prefix, wild := wildcard(given)
		switch {
		case strings.HasPrefix(given, "@"):
			return Maybe
		case !there:
			return Never
		case w.flow.Loopback:
			return sure(given == loopback || wild && strings.HasPrefix(loopback, prefix))
		case given == loopback:
			return Never
		case len(names) == 0:
			return Surely
		}
		return sure(slices.ContainsFunc(names, func(name string) bool {
			return name == given || wild && strings.HasPrefix(name, prefix)
		}))
	})
}

// wildcard returns the part of an interface's name before a wild card: + of iptables, * of nft.
func wildcard(name string) (prefix string, wild bool) {
	prefix = strings.TrimSuffix(strings.TrimSuffix(name, "*"), "+")
	return prefix, prefix != name
}

// element judges a value by a test; a value as @ports stands for the elements of a set.
func (t *Table) element(value string, test func(string) Fit) Fit {
	name, set := strings.CutPrefix(value, "@")
	if !set {
		return test(value)
	}
	best := Never
	for _, o := range t.Objects {
		if o.Name != name {
			continue
		}
		if len(o.elements) == 0 { // packets may fill it
			return Maybe
		}
		for _, element := range o.elements {
			best = max(best, test(element))
		}
		return best
	}
	return Maybe
}

// protocolNumbers are the numbers of the protocols that a load of ctload uses.
var protocolNumbers = map[string]string{
	"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6", "ipv6-icmp": "icmpv6", "icmp6": "icmpv6",
}

func sameProtocol(given, protocol string) bool {
	given = strings.ToLower(given)
	given = cmp.Or(protocolNumbers[given], given)
	return given == protocol || given == "all" || given == "0"
}

// loopback is the name of the loopback interface.
const loopback = "lo"

// services are names of ports that rules use, as in /etc/services.
var services = map[string]uint16{
	"ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "http": 80, "www": 80,
	"pop3": 110, "ntp": 123, "imap": 143, "imap2": 143, "https": 443, "submission": 587,
	"imaps": 993,
}

// portFit judges a port or a range of ports, as 80, http, 1000:1999, :1023 or 1000-1999.
func portFit(ports string, port uint16, protocol string) Fit {
	low, high, ok := portRange(ports)
	switch {
	case protocol == "icmp" || protocol == "icmpv6":
		return Never
	case !ok:
		return Maybe
	}
	return sure(low <= port && port <= high)
}

// clientPort judges ports of the side that began the flow: the kernel chooses one of tens of
// thousands from 1024 on, so that a range of a few ports counts as never holding it.
func clientPort(ports string) Fit {
	const few = 64
	switch low, high, ok := portRange(ports); {
	case ok && (high < 1024 || high-low < few):
		return Never
	case ok && low <= 1024 && high == 65535:
		return Surely
	}
	return Maybe
}

func portRange(ports string) (low, high uint16, ok bool) {
	if port, named := services[strings.ToLower(ports)]; named {
		return port, port, true
	}
	first, last, ranged := strings.Cut(strings.ReplaceAll(ports, "-", ":"), ":")
	if !ranged {
		last = first
	}
	a, errLow := strconv.ParseUint(cmp.Or(first, "0"), 0, 16)
	b, errHigh := strconv.ParseUint(cmp.Or(last, "65535"), 0, 16)
	return uint16(a), uint16(b), ports != "" && errLow == nil && errHigh == nil
}
