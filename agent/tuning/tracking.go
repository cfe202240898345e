package tuning

import (
	"cmp"
	"slices"

	"github.com/ctload/ctload/internal/rules"
)

// Answer is yes, no, or unknown without evidence either way.
type Answer string

// The answers.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// The kinds of evidence for [Tracking], the strongest first.
const (
	evidenceAbsent = "absent" // the kernel has no connection tracking
	evidenceHooks  = "hooks"  // the kernel's own list of hooks
	evidenceCount  = "count"  // the table has entries
	evidenceRules  = "rules"  // requirements of the rules
)

// Tracking says whether packets of this network namespace pass through connection tracking. Since
// Linux 4.14 the module alone tracks nothing: the kernel registers its hooks when the first rule
// needs them, separately for each address family.
type Tracking struct {
	IPv4     Answer `json:"ipv4"`
	IPv6     Answer `json:"ipv6"`
	Source   string `json:"source"`   // one of the kinds of evidence
	Evidence string `json:"evidence"` // a sentence
}

// tracking returns the best available evidence.
func (k Kernel) tracking(state State) Tracking {
	if !state.Loaded {
		return Tracking{IPv4: No, IPv6: No, Source: evidenceAbsent, Evidence: "connection tracking is not loaded"}
	}
	if t, err := hookTracking(); err == nil {
		return t
	}
	return inferTracking(state)
}

// inferTracking judges by the rules read, and by the count where they are inconclusive. Without a
// rule that needs tracking the answer is no only if the rules of all kinds were read;
// enable_hooks=1, a parameter of the module, shows only in the count.
func inferTracking(state State) Tracking {
	t := Tracking{IPv4: No, IPv6: No, Source: evidenceRules, Evidence: "nothing is tracked, because no rule asks for it"}
	read := rules.Read(state.texts())
	for family, answer := range map[string]*Answer{rules.IPv6: &t.IPv6, rules.IPv4: &t.IPv4} {
		if read.Tracks(family) != nil {
			*answer = Yes
		}
	}
	if cause := cmp.Or(read.Tracks(rules.IPv4), read.Tracks(rules.IPv6)); cause != nil {
		t.Evidence = "tracking is on because of the " + cause.Text
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

func sortedUnique(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}
