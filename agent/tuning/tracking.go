package tuning

import (
	"regexp"
	"slices"
	"strings"
)

// Answer is yes, no, or unknown where there is no evidence either way.
type Answer string

// The answers.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// The kinds of evidence for [Tracking], the strongest first.
const (
	evidenceAbsent = "absent" // connection tracking is not in the kernel
	evidenceHooks  = "hooks"  // the kernel's own list of hooks
	evidenceCount  = "count"  // there are entries
	evidenceRules  = "rules"  // what the rules need
)

// Tracking says whether packets of this network namespace pass through connection tracking. Since
// Linux 4.14 the module alone tracks nothing: its hooks are registered when the first rule needs them,
// for each address family apart.
type Tracking struct {
	IPv4     Answer `json:"ipv4"`
	IPv6     Answer `json:"ipv6"`
	Source   string `json:"source"`   // one of the kinds of evidence
	Evidence string `json:"evidence"` // a sentence
}

// tracking finds the best evidence there is.
func (k Kernel) tracking(state State) Tracking {
	if !state.Loaded {
		return Tracking{IPv4: No, IPv6: No, Source: evidenceAbsent, Evidence: "connection tracking is not loaded"}
	}
	if t, err := hookTracking(); err == nil {
		return t
	}
	return inferTracking(state)
}

// inferTracking judges by the rules that were read, and by the count where they say nothing. Without a
// rule that needs it the answer is no only if the rules of all kinds were seen; enable_hooks=1, which
// modprobe can be given, leaves no trace but the count.
func inferTracking(state State) Tracking {
	t := Tracking{IPv4: No, IPv6: No, Source: evidenceRules, Evidence: "nothing is tracked, because no rule asks for it"}
	if rule := iptablesNeed(state.Rules); rule != "" {
		t.IPv4, t.Evidence = Yes, "tracking is on because of the rule "+rule
	}
	if rule := iptablesNeed(state.Rules6); rule != "" {
		t.IPv6, t.Evidence = Yes, "tracking is on because of the rule "+rule
	}
	if families, statement := nftNeedOf(state.NFT); statement != "" {
		t.Evidence = "tracking is on because of the nft rule " + statement
		if slices.Contains(families, "ip") {
			t.IPv4 = Yes
		}
		if slices.Contains(families, "ip6") {
			t.IPv6 = Yes
		}
	}
	for what, answer := range map[string][]*Answer{"rules": {&t.IPv4}, "rules6": {&t.IPv6}, "nft": {&t.IPv4, &t.IPv6}} {
		for _, a := range answer {
			if state.Unread[what] != "" && *a == No {
				*a = Unknown
			}
		}
	}
	if t.IPv4 != Yes && t.IPv6 != Yes && (t.IPv4 == Unknown || t.IPv6 == Unknown) {
		t.Evidence = "no rule that could be listed asks for tracking, but not all could be listed"
	}
	if t.IPv4 == No && t.IPv6 == No && state.Count > 0 {
		return Tracking{IPv4: Unknown, IPv6: Unknown, Source: evidenceCount, Evidence: "the table holds entries, though no rule that was seen asks for tracking"}
	}
	return t
}

// Matches and targets of iptables whose checkentry registers the hooks (nf_ct_netns_get).
var (
	trackingMatches = []string{"state", "conntrack", "connmark", "connbytes", "connlabel", "connlimit", "helper", "cluster"}
	trackingTargets = []string{"CONNMARK", "CONNSECMARK", "SNAT", "DNAT", "MASQUERADE", "REDIRECT", "NETMAP", "SYNPROXY", "CT"}
)

// iptablesNeed is the first rule in a text in the format of iptables-save that switches tracking on, or
// "". NOTRACK and CT --notrack do not, nor does SECMARK.
func iptablesNeed(text string) string {
	for line := range strings.Lines(text) {
		words := splitWords(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		for i, word := range words[:len(words)-1] {
			next := words[i+1]
			switch word {
			case "-m", "--match":
				if slices.Contains(trackingMatches, next) {
					return withoutCounters(line)
				}
			case "-j", "--jump", "-g", "--goto":
				if slices.Contains(trackingTargets, next) && !slices.Contains(words, "--notrack") {
					return withoutCounters(line)
				}
			}
		}
	}
	return ""
}

// withoutCounters is a rule without the counters that iptables-save -c puts before it.
func withoutCounters(line string) string {
	return strings.TrimSpace(savedCounter.ReplaceAllString(line, ""))
}

// nftNeed matches the expressions of nft that register the hooks: ct keys, NAT, flow tables, synproxy.
// Objects (ct helper, ct timeout) register theirs when a rule uses them, which is a ct statement too.
var nftNeed = regexp.MustCompile(`(^|\s)(ct\s+(state|status|mark|label|direction|expiration|helper|original|reply|count|timeout|expectation|event|bytes|packets|avgpkt|zone|id|secmark|l3proto|protocol|proto-src|proto-dst)\b|masquerade\b|snat\b|dnat\b|redirect\b|flow\s+(add|offload)\b|synproxy\b)`)

var nftObject = regexp.MustCompile(`^\s*ct\s+(helper|timeout|expectation)\s+\S+\s*\{`)

// nftNeedOf is the first rule in the text of nft list ruleset (or a script that is written like it) that
// switches tracking on, or "", and the families for which it does: ip, ip6 or both.
func nftNeedOf(text string) (families []string, rule string) {
	family := ""
	for line := range strings.Lines(withoutComments(text)) {
		if match := nftTable.FindStringSubmatch(strings.TrimSpace(line)); match != nil {
			family = match[2]
			if family == "" {
				family = "ip"
			}
		}
		if rule != "" && len(families) > 1 {
			break
		}
		if nftObject.MatchString(line) || !nftNeed.MatchString(line) {
			continue
		}
		if rule == "" {
			rule = strings.TrimSpace(nftRuleCounters.ReplaceAllString(line, ""))
		}
		switch family {
		case "ip", "ip6":
			if !slices.Contains(families, family) {
				families = append(families, family)
			}
		case "inet", "bridge":
			families = []string{"ip", "ip6"}
		}
	}
	return families, rule
}

func sortedUnique(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}
