package scenarios

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/rules"
)

// firewall is the rules of a DUT, with where each table was read.
type firewall struct {
	rules.Ruleset
	from map[*rules.Table]*node
}

// firewallOf reads the rules of a configuration, whose tree is n.
func firewallOf(n *node, c *Configuration, topology Topology) firewall {
	all := firewall{from: map[*rules.Table]*node{}}
	add := func(t *rules.Table, from *node) {
		all.Tables = append(all.Tables, t)
		all.from[t] = from
	}
	for _, key := range rulesKeys {
		for _, t := range rulesOf(n.get(key)) {
			add(t.Table, t.from)
		}
		family := familyOf(key)
		nat := rules.Iptables(ruleFamilies[family], natTable(c.NAT, topology, family))
		for _, t := range nat.Tables {
			add(t, nil)
		}
	}
	if nft := n.scalar("nft"); nft != nil && c.NFT != "" {
		for _, t := range rules.NFT(nft.text).Tables {
			add(t, nft)
		}
	}
	return all
}

// at returns the position of a place in the rules; otherwise for rules that the language writes.
func (f firewall) at(place rules.Place, otherwise Position) Position {
	if from := f.from[place.Table]; from != nil {
		return from.placeOf(place.At())
	}
	return otherwise
}

// flows returns the first packets of an entry, as the DUT's rules see them: one for each family and
// port.
func (e Entry) flows(topology Topology, c *Configuration) (list []rules.Flow) {
	ports := e.Ports.Expand()
	if e.Port != 0 {
		ports = []uint16{uint16(e.Port)}
	}
	if len(ports) == 0 {
		ports = []uint16{0} // a protocol without ports
	}
	for _, family := range topology.Families {
		for i := range min(len(ports), mostPorts) {
			port := ports[i*len(ports)/min(len(ports), mostPorts)]
			list = append(list, e.Flow(topology, c, family, port))
		}
	}
	return list
}

// Flow returns the first packet of an entry to a port, as the rules of a DUT see it.
func (e Entry) Flow(topology Topology, c *Configuration, family Family, port uint16) rules.Flow {
	names := c.Interfaces(topology)
	in := func(link string) []string { return []string{names[link], "${" + link + ".interface}"} }
	flow := rules.Flow{
		Family: ruleFamilies[family], Protocol: e.Transport(), Port: port,
		SYN: e.Generator == SYN, In: in(nodeClient),
	}
	if flow.Protocol == "icmp" && family == IPv6 {
		flow.Protocol = "icmpv6"
	}
	flow.Lab = topology.LabValues()
	six := family.suffix()
	switch {
	case e.Crafted || e.Probe == "" && e.Generator.Fact().Crafted: // from addresses of no host
	case e.Sources.Count > 1:
		flow.From = flow.Lab[nodeClient+".network"+six]
	default:
		flow.From = flow.Lab[cmp.Or(e.From, nodeClient)+".address"+six]
	}
	translated := c.NAT == DNAT || c.NAT == Redirect // to the DUT, for the rules to lead on
	flow.To = flow.Lab["dut.client.address"+six]
	switch {
	case e.From == nodeDUT && e.Target == nodeDUT:
		flow.Local, flow.Loopback = true, true
		own := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if family == IPv6 {
			own = netip.IPv6Loopback()
		}
		flow.To = netip.PrefixFrom(own, own.BitLen())
		flow.From = flow.To
	case e.From == nodeDUT:
		flow.Local, flow.In, flow.Out, flow.To = true, nil, in(nodeServer), netip.Prefix{}
	case topology.Kind == Router && e.Target != nodeDUT && !translated:
		flow.Through, flow.Out = true, in(nodeServer)
		flow.To = flow.Lab[e.Target+".address"+six]
	}
	return flow
}

// guideRules warns of rules that the kernel accepts but that do not do what their author expects.
func guideRules(p *problems, n *node, r *Resolved, topology Topology) {
	f := firewallOf(n, &r.DUT, topology)
	at := n.at
	for _, key := range []string{"nft", "rules6", "rules"} {
		if n.has(key) {
			at = n.place(key)
		}
	}
	guideDirections(p, f, r, topology)
	guideLoad(p, f, r, topology, at)
	guideInterfaces(p, n, f, r, topology)
	guideElsewhere(p, f, r, topology)
	guideLeads(p, f, r, topology, at)
	guideExemptNAT(p, f, r, topology)
	guideNothingTracked(p, n, &r.DUT)
}

// aboutRule returns flows to a port that a rule names, as they come to the DUT and as it makes them
// itself.
func aboutRule(r *rules.Rule, topology Topology, c *Configuration) (list []rules.Flow) {
	for _, ports := range []rules.Values{r.Destinations, r.Sources} {
		e := Entry{Generator: TCP, Ports: Ports{{defaultPort, defaultPort}}}
		if port, ok := ports.Port(); ok {
			e.Ports = Ports{{Port(port), Port(port)}}
		}
		if r.Protocols.Has("udp") || r.Protocols.Has("17") {
			e.Generator = UDP
		}
		e.From, e.Target = nodeClient, nodeServer
		list = append(list, e.flows(topology, c)...)
		other := e
		if other.From = nodeDUT; topology.Kind == Router {
			other.From, other.Target = nodeClient, nodeDUT
		}
		list = append(list, other.flows(topology, c)...)
	}
	for i := range list { // whatever addresses the rule names
		list[i].From, list[i].To = netip.Prefix{}, netip.Prefix{}
	}
	return list
}

// guideDirections warns of a notrack rule without its counterpart: on a server the replies leave
// through OUTPUT, through a router they come in through PREROUTING with the ports exchanged.
func guideDirections(p *problems, f firewall, r *Resolved, topology Topology) {
	var load []rules.Flow
	for _, e := range r.Workload {
		load = append(load, e.flows(topology, &r.DUT)...)
	}
	for _, t := range f.Tables {
		for _, c := range t.Chains {
			for _, rule := range c.Rules {
				if !rule.Notrack || rule.SYN {
					continue // SYNs alone: SYNPROXY makes the entry after the handshake
				}
				flow, there, odd, _ := f.oneWay(rule, load)
				if !odd || rule.Partial {
					var paired bool
					flow, there, odd, paired = f.oneWay(rule, aboutRule(rule, topology, &r.DUT))
					odd = odd && !paired // it is about the other flows
				}
				if odd {
					at := f.at(rules.Place{Table: t, Chain: c, Rule: rule}, Position{})
					guideDirection(p, at, flow, there)
				}
			}
		}
	}
}

// oneWay returns the first flow of which a rule exempts one direction, and no rule the other; there
// says that it is the first packet's. paired reports whether both directions of another are exempt.
func (f firewall) oneWay(
	rule *rules.Rule, flows []rules.Flow,
) (flow rules.Flow, there, odd, paired bool) {
	for _, one := range flows {
		first, answer := f.Directions(one)
		a, b := first.Untracked > rules.Never, answer.Untracked > rules.Never
		by := first.Exempting.Rule == rule || answer.Exempting.Rule == rule
		paired = paired || by && a && b
		if by && a != b && !odd {
			flow, there, odd = one, a, true
		}
	}
	return flow, there, odd, paired
}

// guideDirection warns that one direction of a flow is exempt: the packets to it, or the answers.
func guideDirection(p *problems, at Position, flow rules.Flow, there bool) {
	chains := map[bool]string{false: "PREROUTING", true: "OUTPUT"}
	if there {
		p.warnf(at, "notrack in one direction only: the replies (%s, --sport) are still tracked, "+
			"and with nf_conntrack_tcp_loose=1, the kernel's default, they still make entries",
			chains[flow.Answer().Local])
		return
	}
	begins := "what comes in"
	if flow.Local {
		begins = "what goes out"
	}
	p.warnf(at, "notrack in one direction only: %s (%s, --dport) is still tracked, and every SYN "+
		"makes an entry that never sees its reply", begins, chains[flow.Local])
}

// guideLoad warns where rules refuse all of an entry of the workload, and where no rule is about
// the load.
func guideLoad(p *problems, f firewall, r *Resolved, topology Topology, at Position) {
	met, some, loads := false, false, 0
	for _, t := range f.Tables {
		for _, c := range t.Chains {
			some = some || slices.ContainsFunc(c.Rules, (*rules.Rule).Specific)
		}
	}
	told := map[rules.Place]bool{}
	for _, e := range r.Workload {
		if e.Probe != "" || e.Listener == ListenerClosed {
			met = true
			continue
		}
		loads++
		for _, flow := range e.flows(topology, &r.DUT) {
			there, back := f.Directions(flow)
			met = met || there.Met || back.Met
			if there.Refused == rules.Surely && !told[there.Refusing] {
				told[there.Refusing] = true
				guideRefused(p, f, e, flow, there, at)
			}
		}
	}
	tracks := r.DUT.Tracks(IPv4) || r.DUT.Tracks(IPv6) // else guideNothingTracked warns
	if some && tracks && !met && loads > 0 && len(told) == 0 {
		p.warnf(at, "no rule of the DUT is about the load: none matches its packets")
	}
}

// guideRefused warns that rules refuse the first packet of a flow, and why where they do so because
// it is not tracked.
func guideRefused(
	p *problems, f firewall, e Entry, flow rules.Flow, there rules.Fate, at Position,
) {
	what := flow.Protocol
	if flow.Port != 0 {
		what = fmt.Sprintf("%s to port %d", flow.Protocol, flow.Port)
	}
	if there.Untracked > rules.Never {
		flow.Tracked = true
		if f.Fate(flow).Refused != rules.Surely {
			p.warnf(f.at(there.Exempting, at), "%s refuses untracked packets (%s): they are "+
				"neither NEW nor ESTABLISHED. Accept UNTRACKED in %s",
				there.Refusing, what, there.Refusing.Chain.Name)
			return
		}
	}
	p.warnf(f.at(there.Refusing, at), "%s refuses the load %s (%s) before an entry of it is made",
		there.Refusing, quote(e.Name), what)
}

// guideInterfaces warns of rules and sysctls about interfaces that the DUT does not have.
func guideInterfaces(p *problems, n *node, f firewall, r *Resolved, topology Topology) {
	names := r.DUT.Interfaces(topology)
	known, words := []string{"lo"}, []string{}
	for _, card := range ownCards {
		if name := names[card.link]; name != "" {
			known = append(known, name, "${"+card.link+".interface}")
			words = append(words, fmt.Sprintf("%s (%s)", name, card.link))
		}
	}
	told := map[string]bool{}
	for _, s := range r.DUT.Sysctl {
		name := kernels.InterfaceOf(s.Key)
		setup := len(r.DUT.Setup) > 0 // it may make one
		if name == "" || s.Optional || setup || told[name] || slices.Contains(known, name) {
			continue
		}
		told[name] = true
		p.warnf(n.get("sysctl").keyPlace(s.Key), "the DUT has no interface %s: it has %s; its "+
			"kernel has no %s. interfaces: {%s: client} gives its card that name",
			quote(name), strings.Join(words, " and "), s.Key, name)
	}
	for _, t := range f.Tables {
		for _, c := range t.Chains {
			for _, rule := range c.Rules {
				for _, name := range rule.Names {
					opposite := rule.In.Negated && slices.Contains(rule.In.List, name.Text) ||
						rule.Out.Negated && slices.Contains(rule.Out.List, name.Text)
					if name.Kind != rules.Interface || opposite || told[name.Text] ||
						slices.ContainsFunc(known, name.Matches) {
						continue
					}
					told[name.Text] = true
					place := rules.Place{Table: t, Chain: c, Rule: &rules.Rule{At: name.At}}
					p.warnf(f.at(place, r.Position), "the DUT has no interface %s: it has %s; no "+
						"packet can match. interfaces: {%s: client} gives its card that name",
						quote(name.Text), strings.Join(words, " and "), name.Text)
				}
				if client := names[nodeClient]; topology.Kind == Router && rule.SourceNAT != nil &&
					rule.Out.Has(client) {
					p.warnf(f.at(rules.Place{Table: t, Chain: c, Rule: rule}, r.Position), "the "+
						"rule translates what leaves through %s, which leads to the clients; "+
						"interfaces: {%s: server, %s: client} exchanges the cards",
						client, client, names[nodeServer])
				}
			}
		}
	}
}

// guideElsewhere warns of rules that would accept or lead on the load, but are about addresses that
// no node of the lab has.
func guideElsewhere(p *problems, f firewall, r *Resolved, topology Topology) {
	told := map[string]bool{}
	for _, e := range r.Workload {
		for _, flow := range e.flows(topology, &r.DUT) {
			there := f.Fate(flow)
			for _, t := range f.Tables {
				for _, c := range t.Chains {
					for _, rule := range c.Rules {
						passes := rule.Verdict == "ACCEPT" || t.Chain(rule.Verdict) != nil
						accepts := passes && there.Refused == rules.Surely
						leads := rule.Target != "" && there.Target == ""
						if !accepts && !leads || f.from[t] == nil {
							continue
						}
						source, list := f.Elsewhere(flow, t, c, rule)
						if len(list) == 0 || told[list[0]] || strings.HasPrefix(list[0], "@") {
							continue
						}
						told[list[0]] = true
						owner := nodeDUT
						if source {
							owner = nodeClient
						}
						at := f.at(rules.Place{Table: t, Chain: c, Rule: rule}, r.Position)
						p.warnf(at, "the rule is about %s, and no node of the lab has that "+
							"address: the load %s does not match; addresses: {%s: %s} gives it to "+
							"one",
							list[0], quote(e.Name), strings.TrimSuffix(list[0], "/32"), owner)
					}
				}
			}
		}
	}
}

// guideNothingTracked warns when a dut has rules and none of them turns tracking on. A scenario
// with "rules: none" means it.
func guideNothingTracked(p *problems, n *node, c *Configuration) {
	if c.Tracks(IPv4) || c.Tracks(IPv6) || n.get("modules").get("remove") != nil {
		return
	}
	at := n.at
	for _, key := range slices.Backward(rulesKeys) {
		if text := n.get(key); text != nil {
			if strings.TrimSpace(text.text) == noRules {
				return
			}
			at = text.at
		}
	}
	p.warnf(at, "no rule needs connection tracking, so that the kernel (since 4.14) tracks "+
		"nothing, whatever modules are loaded; a rule with -m conntrack --ctstate turns it on")
}

// checkObjects refuses rules of iptables that name sets and objects which do not exist: other tools
// make those.
func checkObjects(p *problems, f firewall, c *Configuration) {
	sets := map[string]bool{}
	for line := range strings.Lines(c.IPSet) {
		words := strings.Fields(line)
		if len(words) > 1 && slices.Contains([]string{"create", "-N", "n"}, words[0]) {
			sets[words[1]] = true
		}
	}
	made := func(name string) bool { // a command names it
		return slices.ContainsFunc(c.Setup, func(line string) bool {
			return slices.Contains(strings.Fields(line), name)
		})
	}
	for _, t := range f.Tables {
		if !t.Iptables() || f.from[t] == nil {
			continue
		}
		for _, chain := range t.Chains {
			for _, rule := range chain.Rules {
				for _, name := range rule.Names {
					known := made(name.Text) || sets[name.Text]
					object := name.Kind == rules.Set || name.Kind == rules.Account ||
						name.Kind == rules.Stateful
					if known || !object {
						continue
					}
					at := f.from[t].placeOf(name.At)
					switch {
					case name.Kind == rules.Set:
						p.errorf(at, "there is no set %s: ipset: with a line create %s hash:ip "+
							"makes it", quote(name.Text), name.Text)
					case name.Kind == rules.Account:
						p.errorf(at, "there is no object %s, which nfacct makes: setup: "+
							"[nfacct add %s]", quote(name.Text), name.Text)
					case name.Kind == rules.Stateful:
						p.errorf(at, "there is no object %s, which nfct makes: setup: [nfct add "+
							"timeout %s inet tcp established 600]", quote(name.Text), name.Text)
					}
				}
			}
		}
	}
}

// guideLeads warns of rules that lead the load to an address that no node of the lab has.
func guideLeads(p *problems, f firewall, r *Resolved, topology Topology, at Position) {
	told := map[*rules.Rule]bool{}
	for _, e := range r.Workload {
		for _, flow := range e.flows(topology, &r.DUT) {
			fate := f.Fate(flow)
			to, rule := leadOf(fate.Target, flow.Port), fate.Leading.Rule
			_, err := netip.ParseAddr(to.address)
			if fate.Target == "" || err != nil || told[rule] || f.from[fate.Leading.Table] == nil {
				continue
			}
			told[rule] = true
			p.warnf(f.at(fate.Leading, at), "the rule leads the load %s to %s, and no node of the "+
				"lab has that address; addresses: {%s: server} gives it to one", quote(e.Name),
				to.address, to.address)
		}
	}
}

// guideExemptNAT warns of notrack rules for packets that rules of destination NAT are about: those
// translate nothing that is not tracked.
func guideExemptNAT(p *problems, f firewall, r *Resolved, topology Topology) {
	if !f.translatesDestinations() {
		return
	}
	for _, t := range f.Tables {
		for _, c := range t.Chains {
			for _, rule := range c.Rules {
				if !rule.Notrack || rule.SYN {
					continue
				}
				for _, flow := range aboutRule(rule, topology, &r.DUT) {
					if flow.Local {
						continue
					}
					flow.Through, flow.Out = false, nil
					flow.To = flow.Lab["dut.client.address"]
					if flow.Family == rules.IPv6 {
						flow.To = flow.Lab["dut.client.address6"]
					}
					exempt := f.Fate(flow)
					flow.Tracked = true
					led := f.Fate(flow)
					if exempt.Exempting.Rule != rule || exempt.Untracked != rules.Surely ||
						led.Target == "" {
						continue
					}
					p.warnf(f.at(exempt.Exempting, Position{}), "notrack keeps these packets from "+
						"%s: what is not tracked is not translated", led.Leading)
					break
				}
			}
		}
	}
}

// placesOf returns where the lines of a DUT's texts are written.
func placesOf(dut *node) places {
	all := places{}
	for _, key := range rulesKeys {
		var lines []Position // of rulesText
		for _, t := range rulesOf(dut.get(key)) {
			lines = append(lines, t.place(t.At))
			for _, line := range t.Lines {
				lines = append(lines, t.place(line.At))
			}
			lines = append(lines, t.place(t.At))
		}
		whole := dut.place(key)
		all[key] = func(line, _ int) Position {
			if line < 1 || line > len(lines) {
				return whole
			}
			return lines[line-1]
		}
	}
	for _, key := range []string{"nft", "ipset"} {
		if text := dut.scalar(key); text != nil {
			all[key] = func(line, column int) Position {
				if line < 1 {
					return text.at
				}
				return text.placeOf(rules.Position{Line: line, Column: max(1, column)})
			}
		}
	}
	return all
}
