package tuning

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/ctload/ctload/internal/rules"
	"github.com/ctload/ctload/results"
)

// RuleCounts returns the rules and policies that matched packets between two readings, the busiest
// first, and of equally busy ones those with an effect. The last ones have an effect but no
// counter. A rule that was replaced meanwhile counts from zero.
func RuleCounts(before, after State) []results.RuleCount {
	earlier := map[ruleKey]int64{}
	eachRule(before, func(key ruleKey, c results.RuleCount) { earlier[key] = c.After })
	var list []results.RuleCount
	eachRule(after, func(key ruleKey, c results.RuleCount) {
		if was := earlier[key]; was <= c.After {
			c.Before = was
		}
		if c.Packets() > 0 || c.Uncounted {
			list = append(list, c)
		}
	})
	slices.SortStableFunc(list, func(a, b results.RuleCount) int {
		return cmp.Or(cmp.Compare(b.Packets(), a.Packets()), -cmp.Compare(a.Effect, b.Effect))
	})
	return list
}

// ruleKey names a rule; place distinguishes equal rules of a chain.
type ruleKey struct {
	family, table, chain, rule string
	place                      int
}

// eachRule passes on all rules and policies of a reading that have a counter, or an effect.
func eachRule(state State, each func(ruleKey, results.RuleCount)) {
	seen := map[ruleKey]bool{}
	add := func(t *rules.Table, c *rules.Chain, count rules.Counter, of results.RuleCount) {
		if !count.Known && of.Effect == "" {
			return
		}
		key := ruleKey{family: t.Family, table: t.Name, chain: c.Name, rule: of.Text}
		for seen[key] {
			key.place++
		}
		seen[key] = true
		of.Family, of.Table, of.Chain = t.Family, t.Name, c.Name
		of.After, of.Uncounted = count.Packets, !count.Known
		each(key, of)
	}
	for _, t := range state.ruleset().Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				add(t, c, r.Count, results.RuleCount{
					Text: r.Text, Effect: effectOf(r), About: matchOf(r),
				})
			}
			policy := results.RuleCount{Text: "policy " + c.Policy}
			if c.Policy == "DROP" {
				policy.Effect = results.Drops
			}
			add(t, c, c.Count, policy)
		}
	}
}

func effectOf(r *rules.Rule) results.RuleEffect {
	switch translates := r.Translates(); {
	case r.Refuses():
		return results.Drops
	case r.Notrack:
		return results.Untracks
	case translates == "dnat":
		return results.Redirects
	case translates == "snat":
		return results.Translates
	}
	return ""
}

func matchOf(r *rules.Rule) results.RuleMatch {
	switch {
	case r.MidStream():
		return results.MidStream
	case r.OutOfState():
		return results.OutOfState
	}
	return ""
}

// NAT returns what the chains of destination NAT were asked between two readings, or nil where that
// is not known.
func NAT(before, after State) *results.NAT {
	now, known := after.ruleset().Lookups()
	if !known {
		return nil
	}
	was, _ := before.ruleset().Lookups()
	if was > now { // replaced meanwhile
		was = 0
	}
	return &results.NAT{Lookups: now - was}
}

// NewerRule returns the rule of destination NAT that would lead a new flow elsewhere than the
// entries of f, which are older: the state before the load lacked it. It is empty without such a
// rule.
func (s State) NewerRule(before State, f results.FlowCount) string {
	flow, to, ok := flowOf(f)
	if !ok || f.Leads != "" {
		return ""
	}
	now := s.ruleset().DestinationNAT(flow, to.Addr())
	if now == nil || before.ruleset().DestinationNAT(flow, to.Addr()) != nil {
		return ""
	}
	return now.Text
}

// flowOf returns the first packet of the flows of f.
func flowOf(f results.FlowCount) (flow rules.Flow, to netip.AddrPort, ok bool) {
	to, err := netip.ParseAddrPort(f.Destination)
	flow = rules.Flow{Family: rules.IPv4, Protocol: f.Protocol, Port: to.Port()}
	if to.Addr().Is6() {
		flow.Family = rules.IPv6
	}
	return flow, to, err == nil
}
