package tuning

import (
	"cmp"
	"slices"

	"github.com/ctload/ctload/internal/rules"
)

// Hit holds the matches of one rule, or of a chain's policy, between two readings.
type Hit struct {
	Family string `json:"family"` // ip, ip6, or the family of an nft table
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	// Rule is in the form of the tool, without counters; "policy DROP" for packets that reached the
	// end.
	Rule string `json:"rule"`
	// Refuses says that the rule, or the policy, ends the way of a packet.
	Refuses bool  `json:"refuses,omitempty"`
	Packets int64 `json:"packets"`
	Bytes   int64 `json:"bytes"`
}

// Hits returns the rules that matched packets between two readings, the busiest first. It
// distinguishes a firewall's drops from those of connection tracking. nft counts only rules with a
// counter, and iptables over nf_tables does not count policies. A rule that was replaced meanwhile
// counts from zero.
func Hits(before, after State) []Hit {
	earlier := map[ruleKey]Hit{}
	for key, hit := range ruleCounters(before) {
		earlier[key] = hit
	}
	var hits []Hit
	for key, hit := range ruleCounters(after) {
		if was, ok := earlier[key]; ok && was.Packets <= hit.Packets {
			hit.Packets -= was.Packets
			hit.Bytes -= was.Bytes
		}
		if hit.Packets > 0 {
			hits = append(hits, hit)
		}
	}
	slices.SortFunc(hits, func(a, b Hit) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Family, b.Family), cmp.Compare(a.Table, b.Table),
			cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Rule, b.Rule))
	})
	return hits
}

// ruleKey names a rule; place distinguishes equal rules of a chain.
type ruleKey struct {
	family, table, chain, rule string
	place                      int
}

// ruleCounters returns the counters of all rules and policies of a reading.
func ruleCounters(state State) map[ruleKey]Hit {
	counters := map[ruleKey]Hit{}
	add := func(t *rules.Table, c *rules.Chain, rule string, refuses bool, count rules.Counter) {
		if !count.Known {
			return
		}
		key := ruleKey{family: t.Family, table: t.Name, chain: c.Name, rule: rule}
		for {
			if _, taken := counters[key]; !taken {
				break
			}
			key.place++
		}
		counters[key] = Hit{
			Family: t.Family, Table: t.Name, Chain: c.Name, Rule: rule, Refuses: refuses,
			Packets: count.Packets, Bytes: count.Bytes,
		}
	}
	for _, t := range rules.Read(state.texts()).Tables {
		for _, c := range t.Chains {
			add(t, c, "policy "+c.Policy, c.Policy == "DROP", c.Count)
			for _, r := range c.Rules {
				add(t, c, r.Text, r.Refuses(), r.Count)
			}
		}
	}
	return counters
}
