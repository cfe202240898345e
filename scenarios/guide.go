package scenarios

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
)

// guide warns of what guides get wrong: settings that the kernel takes without doing what their
// author expects.
func guide(p *problems, n *node, c *Configuration, topology Topology) {
	guideHash(p, n, c)
	tables := rulesOf(n.get("rules"))
	guideDirections(p, tables, topology)
	guideUntracked(p, tables, topology)
	guideNothingTracked(p, n, c)
}

// guideHash warns of a table that is much larger than its hash. Each entry is in the hash twice,
// so that a chain holds 2 x entries / buckets on average.
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

// hashSize returns how many buckets the DUT's kernel will have, and whose they are, in words.
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

// word says whether a rule has an option with a value, as "-j CT" or "--dport 80".
func word(rule []string, option, value string) bool {
	i := slices.Index(rule, option)
	return i >= 0 && i+1 < len(rule) && (value == "" || rule[i+1] == value)
}

func isNotrack(rule []string) bool { return slices.Contains(rule, "--notrack") }

// guideDirections warns of a notrack rule without its counterpart: on a server the replies leave
// through OUTPUT, through a router they come in through PREROUTING with the ports exchanged.
func guideDirections(p *problems, tables []table, topology Topology) {
	type side struct {
		chain string
		reply bool // matches the ports of replies
	}
	found := map[side]Position{}
	for _, t := range tables {
		if t.name != "raw" {
			continue
		}
		for _, line := range t.lines {
			rule := line.words
			if len(rule) < 2 || rule[0] != "-A" || !isNotrack(rule) || slices.Contains(rule, "--syn") {
				continue // SYNs alone: SYNPROXY makes the entry when the handshake is complete
			}
			destination := word(rule, "--dport", "") || word(rule, "--dports", "")
			source := word(rule, "--sport", "") || word(rule, "--sports", "")
			for _, reply := range []bool{false, true} {
				if reply && !destination || !reply && !source {
					if _, ok := found[side{rule[1], reply}]; !ok {
						found[side{rule[1], reply}] = line.at
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

// guideUntracked warns when packets that are not tracked meet a filter that accepts by state only.
func guideUntracked(p *problems, tables []table, topology Topology) {
	chain := "INPUT"
	if topology.Kind == Router {
		chain = "FORWARD"
	}
	var notrack Position
	refuses, accepts, byState := false, false, false
	for _, t := range tables {
		for _, line := range t.lines {
			rule := line.words
			elsewhere := len(rule) > 1 && rule[1] != chain && slices.Contains([]string{"INPUT", "FORWARD", "OUTPUT"}, rule[1])
			switch {
			case t.name == "raw" && isNotrack(rule) && notrack.Line == 0 && !word(rule, "-i", "lo") && !word(rule, "-o", "lo"):
				notrack = line.at
			case t.name != "filter" || elsewhere:
			case word(rule, ":"+chain, "DROP"), len(rule) >= 4 && rule[0] == "-A" && rule[2] == "-j" && (rule[3] == "DROP" || rule[3] == "REJECT"):
				refuses = true
			case word(rule, "-j", "SYNPROXY"):
				accepts = accepts || strings.Contains(line.text, "UNTRACKED")
			case word(rule, "-j", "ACCEPT"):
				state := slices.Contains(rule, "--state") || slices.Contains(rule, "--ctstate")
				local := word(rule, "-i", "lo") || word(rule, "-p", "icmp")
				byState = byState || state
				accepts = accepts || strings.Contains(line.text, "UNTRACKED") || !state && !local
			}
		}
	}
	if notrack.Line > 0 && refuses && byState && !accepts {
		p.warnf(notrack, "the filter table accepts by state only, and packets that are not tracked are neither NEW nor ESTABLISHED: it refuses them. Accept UNTRACKED in %s", chain)
	}
}

// The words of rules that make the kernel track connections.
var (
	trackingOptions = []string{"--state", "--ctstate", "conntrack", "connlimit", "connbytes", "connmark", "CONNMARK", "connlabel", "helper", "SYNPROXY", "CT"}
	trackingScript  = []string{"ct ", "masquerade", "snat", "dnat", "redirect", "synproxy", "flow add"}
)

// tracks says whether anything makes the kernel track connections: since Linux 4.14 it does so
// only where a rule needs it.
func tracks(n *node, c *Configuration) bool {
	if c.NAT != NoNAT {
		return true
	}
	for _, key := range []string{"rules", "rules6"} {
		for _, t := range rulesOf(n.get(key)) {
			for _, line := range t.lines {
				if strings.HasPrefix(line.text, ":") || isNotrack(line.words) {
					continue
				}
				if t.name == "nat" || slices.ContainsFunc(line.words, func(word string) bool { return slices.Contains(trackingOptions, word) }) {
					return true
				}
			}
		}
	}
	return slices.ContainsFunc(trackingScript, func(word string) bool { return strings.Contains(c.NFT, word) }) ||
		slices.ContainsFunc(c.Modules.Load, func(name string) bool { return strings.Contains(name, "enable_hooks=1") })
}

// guideNothingTracked warns when a dut has rules and none of them turns tracking on. A scenario
// that says "rules: none" means it.
func guideNothingTracked(p *problems, n *node, c *Configuration) {
	if tracks(n, c) || n.get("modules").get("remove") != nil {
		return
	}
	at := n.at
	if rules := n.get("rules"); rules != nil {
		if strings.TrimSpace(rules.text) == noRules {
			return
		}
		at = rules.at
	}
	p.warnf(at, "no rule needs connection tracking, so that the kernel (since 4.14) tracks nothing, whatever modules are loaded; a rule with -m conntrack --ctstate turns it on")
}
