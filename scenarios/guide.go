package scenarios

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/rules"
)

// guide warns of common mistakes in guides: settings that the kernel accepts but that do not do
// what their author expects.
func guide(p *problems, n *node, c *Configuration, topology Topology) {
	guideHash(p, n, c)
	for _, key := range rulesKeys {
		tables := rulesOf(n.get(key))
		guideDirections(p, tables, topology)
		guideUntracked(p, tables, topology)
	}
	guideNothingTracked(p, n, c)
}

// guideHash warns of a table that is much larger than its hash. Each entry is in the hash twice, so
// that a chain holds 2 x entries / buckets on average.
func guideHash(p *problems, n *node, c *Configuration) {
	value, ok := c.Sysctl.Get(kernels.KeyMax)
	if !ok {
		return
	}
	at := n.get("sysctl").at
	if given := n.get("sysctl").get(kernels.KeyMax); given != nil {
		at = given.at
	}
	most, err := strconv.ParseInt(value, 10, 64)
	if err != nil || most < 0 {
		p.errorf(at, "%s is not a number of entries", quote(value))
		return
	}
	if most == 0 {
		p.warnf(at, "%s 0 means no limit up to Linux %s, and is refused by later kernels", kernels.KeyMax, kernels.LastUnlimited)
		return
	}
	buckets, whose := hashSize(c)
	if most <= 8*buckets {
		return
	}
	suffers := "lookups get slow"
	if kernels.Named(c.Kernel).LimitsChains() {
		suffers = "lookups get slow, and inserts fail (chain_toolong, no log line) well before max"
	}
	p.warnf(at, "max is raised but not the hash: %d entries in %s %d buckets make chains of %d entries on average when the table is full; %s. Give buckets too, between max/4 and max",
		most, whose, buckets, 2*most/buckets, suffers)
}

// hashSize returns how many buckets the DUT's kernel will have, and words where that number comes
// from.
func hashSize(c *Configuration) (buckets int64, whose string) {
	if c.Buckets > 0 {
		return int64(c.Buckets), "the"
	}
	for _, module := range slices.Backward(c.Modules.Load) {
		if size, ok := kernels.LoadedSize(module); ok && size.Buckets > 0 {
			return size.Buckets, "the module's"
		}
	}
	own := kernels.DefaultSize(kernels.Named(c.Kernel), kernels.VisibleMemory(int64(c.Memory)))
	return own.Buckets, "the kernel's own (about)"
}

// guideDirections warns of a notrack rule without its counterpart: on a server the replies leave
// through OUTPUT, through a router they come in through PREROUTING with the ports exchanged.
func guideDirections(p *problems, tables []table, topology Topology) {
	type side struct {
		chain string
		reply bool // matches the ports of replies
	}
	found := map[side]Position{}
	for _, t := range tables {
		for _, line := range t.lines {
			rule := line.Rule
			if rule == nil || !rule.Notrack || rule.SYN {
				continue // SYNs alone: SYNPROXY makes the entry when the handshake is complete
			}
			for _, reply := range []bool{false, true} {
				if reply && rule.Destinations.Any() || !reply && rule.Sources.Any() {
					if _, ok := found[side{rule.Chain, reply}]; !ok {
						found[side{rule.Chain, reply}] = line.at
					}
				}
			}
		}
	}
	replies := side{"OUTPUT", true}
	if topology.Kind == Router {
		replies = side{"PREROUTING", true}
	}
	at, there := found[side{"PREROUTING", false}]
	replyAt, back := found[replies]
	switch {
	case there && !back:
		p.warnf(at, "notrack in one direction only: the replies (%s, --sport) are still tracked, and with nf_conntrack_tcp_loose=1, the kernel's default, they make entries all the same", replies.chain)
	case back && !there:
		p.warnf(replyAt, "notrack in one direction only: what comes in (PREROUTING, --dport) is still tracked, and every SYN makes an entry that never sees its reply")
	}
}

// guideUntracked warns when untracked packets reach a filter that accepts by state only.
func guideUntracked(p *problems, tables []table, topology Topology) {
	chain := "INPUT"
	if topology.Kind == Router {
		chain = "FORWARD"
	}
	var notrack Position
	refuses, accepts, byState := false, false, false
	for _, t := range tables {
		if c := t.Chain(chain); t.Name == "filter" && c != nil && c.Policy == "DROP" {
			refuses = true
		}
		for _, line := range t.lines {
			rule := line.Rule
			if rule == nil {
				continue
			}
			elsewhere := rule.Chain != chain && slices.Contains([]string{"INPUT", "FORWARD", "OUTPUT"}, rule.Chain)
			untracked := slices.Contains(rule.States, "UNTRACKED")
			switch {
			case rule.Notrack && notrack.Line == 0 && !rule.In.Has("lo") && !rule.Out.Has("lo"):
				notrack = line.at
			case t.Name != "filter" || elsewhere:
			case rule.Always && rule.Refuses():
				refuses = true
			case rule.Verdict == "SYNPROXY":
				accepts = accepts || untracked
			case rule.Verdict == "ACCEPT":
				local := rule.In.Has("lo") || slices.ContainsFunc([]string{"icmp", "icmpv6", "ipv6-icmp"}, rule.Protocols.Has)
				byState = byState || len(rule.States) > 0
				accepts = accepts || untracked || len(rule.States) == 0 && !local
			}
		}
	}
	if notrack.Line > 0 && refuses && byState && !accepts {
		p.warnf(notrack, "the filter table accepts by state only, and packets that are not tracked are neither NEW nor ESTABLISHED: it refuses them. Accept UNTRACKED in %s", chain)
	}
}

// Ruleset returns the rules of the configuration.
func (c Configuration) Ruleset() rules.Ruleset {
	return rules.Read(rules.Texts{IPv4: c.Rules, IPv6: c.Rules6, NFT: c.NFT})
}

// Tracks reports whether anything makes the kernel track the connections of a family: since Linux
// 4.14 it does so only where a rule, or an object of nft, needs it, or where a module parameter
// says so.
func (c Configuration) Tracks(family Family) bool {
	return c.Ruleset().Tracks(ruleFamily(family)) != nil ||
		slices.ContainsFunc(c.Modules.Load, func(module string) bool {
			return slices.Contains(strings.Fields(module), "enable_hooks=1")
		})
}

// guideNothingTracked warns when a dut has rules and none of them turns tracking on. A scenario
// with "rules: none" means it.
func guideNothingTracked(p *problems, n *node, c *Configuration) {
	if c.Tracks(IPv4) || c.Tracks(IPv6) || n.get("modules").get("remove") != nil {
		return
	}
	at := n.at
	for _, key := range []string{"rules6", "rules"} {
		if text := n.get(key); text != nil {
			if strings.TrimSpace(text.text) == noRules {
				return
			}
			at = text.at
		}
	}
	p.warnf(at, "no rule needs connection tracking, so that the kernel (since 4.14) tracks nothing, whatever modules are loaded; a rule with -m conntrack --ctstate turns it on")
}
