package tuning

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Hit is what one rule, or the policy of a chain, matched between two readings.
type Hit struct {
	Family string `json:"family"` // ip, ip6, or the family of an nft table
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	// Rule is as the tool lists it, without its counters; "policy DROP" for what reached the end.
	Rule    string `json:"rule"`
	Packets int64  `json:"packets"`
	Bytes   int64  `json:"bytes"`
}

// Hits are the rules that matched anything between two readings, the busiest first. It tells a firewall's
// drops from those of connection tracking. Rules of nft are counted only where they have a counter, and
// iptables over nf_tables does not count policies. A rule that was replaced meanwhile counts from zero.
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

// ruleKey names a rule; place tells the same rule written twice in a chain apart.
type ruleKey struct {
	family, table, chain, rule string
	place                      int
}

// ruleCounters are the counters of all rules of a reading.
func ruleCounters(state State) map[ruleKey]Hit {
	counters := map[ruleKey]Hit{}
	add := func(hit Hit) {
		key := ruleKey{family: hit.Family, table: hit.Table, chain: hit.Chain, rule: hit.Rule}
		for {
			if _, taken := counters[key]; !taken {
				counters[key] = hit
				return
			}
			key.place++
		}
	}
	iptablesCounters("ip", state.Rules, add)
	iptablesCounters("ip6", state.Rules6, add)
	nftCounters(state.NFT, add)
	return counters
}

var bracketed = regexp.MustCompile(`^\[(\d+):(\d+)\]$`)

// iptablesCounters reads the output of iptables-save -c.
func iptablesCounters(family, text string, add func(Hit)) {
	table := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch {
		case strings.HasPrefix(words[0], "*"):
			table = words[0][1:]
		case strings.HasPrefix(words[0], ":") && len(words) > 2 && words[1] != "-":
			if packets, bytes, ok := counterPair(words[2]); ok {
				add(Hit{Family: family, Table: table, Chain: words[0][1:], Rule: "policy " + words[1], Packets: packets, Bytes: bytes})
			}
		case len(words) > 2 && words[1] == "-A":
			if packets, bytes, ok := counterPair(words[0]); ok {
				add(Hit{Family: family, Table: table, Chain: words[2], Rule: strings.Join(words[1:], " "), Packets: packets, Bytes: bytes})
			}
		}
	}
}

func counterPair(word string) (packets, bytes int64, ok bool) {
	match := bracketed.FindStringSubmatch(word)
	if match == nil {
		return 0, 0, false
	}
	packets, errP := strconv.ParseInt(match[1], 10, 64)
	bytes, errB := strconv.ParseInt(match[2], 10, 64)
	return packets, bytes, errP == nil && errB == nil
}

var (
	nftChain        = regexp.MustCompile(`^chain\s+(\S+)\s*\{`)
	nftRuleCounters = regexp.MustCompile(`counter packets (\d+) bytes (\d+)\s*`)
)

// nftCounters reads the output of nft list ruleset.
func nftCounters(text string, add func(Hit)) {
	family, table, chain := "", "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if match := nftTable.FindStringSubmatch(line); match != nil {
			family, table, chain = cmp.Or(match[2], "ip"), match[3], ""
			continue
		}
		if match := nftChain.FindStringSubmatch(line); match != nil {
			chain = match[1]
			continue
		}
		match := nftRuleCounters.FindStringSubmatch(line)
		if match == nil || chain == "" {
			continue
		}
		packets, errP := strconv.ParseInt(match[1], 10, 64)
		bytes, errB := strconv.ParseInt(match[2], 10, 64)
		if errP != nil || errB != nil {
			continue
		}
		rule := strings.TrimSpace(nftRuleCounters.ReplaceAllString(line, ""))
		add(Hit{Family: family, Table: table, Chain: chain, Rule: rule, Packets: packets, Bytes: bytes})
	}
}
