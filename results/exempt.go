package results

import "fmt"

// exemption words how rules took the load out of tracking, as their counters tell; "" where they
// did not take a packet for each attempt. oneWay says that the table held most of the load all the
// same, since the other direction made the entries.
func exemption(t *Trial) (words string, oneWay bool) {
	packets, rule := untracked(t.Rules)
	if rule == nil || packets < t.offered() && !rule.Uncounted {
		return "", false
	}
	held := t.Conntrack.Peak - t.Conntrack.Baseline
	if rule.Uncounted {
		if held > t.done()/2 { // it is about other traffic, as far as that is known
			return "", false
		}
		return rule.named() + " takes packets out of tracking, though it does not count them", false
	}
	words = fmt.Sprintf("the rules exempt the load from tracking: %s took out %s", rule.named(),
		plural(packets, "packet"))
	return words, held > t.done()/2
}

// untracked returns how many packets rules took out of tracking, and the first of the rules.
func untracked(counts []RuleCount) (packets int64, first *RuleCount) {
	for i, r := range counts {
		if r.Effect != Untracks {
			continue
		}
		if first == nil {
			first = &counts[i]
		}
		packets += r.Packets()
	}
	return packets, first
}

// exempts reports whether rules took the load of a scenario out of tracking.
func (s *Scenario) exempts() bool {
	for t := range s.ValidTrials() {
		if words, oneWay := exemption(t); words != "" && !oneWay {
			return true
		}
	}
	return false
}

// untracks reports whether the load of a scenario has no entries: rules took it out of tracking, or
// nothing at all was tracked.
func (s *Scenario) untracks() bool {
	for t := range s.ValidTrials() {
		if t.Tracking != nil && t.Tracking.nowhere() {
			return true
		}
	}
	return s.exempts()
}

// untrackedWords words why no sample held an entry.
func untrackedWords(t *Trial) string {
	exempt, _ := exemption(t)
	switch {
	case t.Tracking == nil:
		return "no sample found an entry"
	case t.Tracking.nowhere():
		return "nothing was tracked: no rule of the DUT needs connection tracking, so its kernel " +
			"registers no hook for it"
	case exempt != "":
		return "nothing was tracked: " + exempt
	default:
		return "no sample found an entry, although the kernel tracks connections: an entry " +
			"ends at once with a reset, and is none before its first packet has passed all rules"
	}
}

// trackingNo is the answer of [Tracking] that nothing is tracked.
const trackingNo = "no"

// nowhere reports whether the kernel tracks neither family.
func (t Tracking) nowhere() bool { return t.IPv4 == trackingNo && t.IPv6 == trackingNo }
