package results

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/kernels"
)

// This file finds failures of which the state of connection tracking is the cause although the
// kernel refused and evicted nothing: an entry that was gone, or one that should have been.

// stateLoss is one such cause.
type stateLoss struct {
	failures int64 // at most
	words    string
}

// lossOf returns a cause in words.
func lossOf(failures int64, format string, args ...any) *stateLoss {
	return &stateLoss{failures, fmt.Sprintf(format, args...)}
}

// lostState returns the causes, the one with the most failures first; unexplained is the number of
// failures without another cause in connection tracking.
func lostState(t *Trial, unexplained int64) (list []stateLoss) {
	if unexplained <= 0 || !t.Conntrack.Tracked {
		return nil
	}
	for _, find := range []func(*Trial, int64) *stateLoss{
		goneEntries, goneTranslations, olderThanRule, removedByFix, joinedEntries,
	} {
		if loss := find(t, unexplained); loss != nil && loss.failures > 0 {
			loss.failures = min(loss.failures, unexplained)
			list = append(list, *loss)
		}
	}
	slices.SortStableFunc(list, func(a, b stateLoss) int {
		return cmp.Compare(b.failures, a.failures)
	})
	return list
}

// goneEntries finds packets of connections whose entries had expired or were removed: a rule drops
// them as beginning nothing, or as invalid.
func goneEntries(t *Trial, unexplained int64) *stateLoss {
	why, known := t.whyGone()
	for _, r := range t.Rules {
		gone := r.About == MidStream || r.About == OutOfState && known
		if r.Effect != Drops || !gone || r.Packets() == 0 {
			continue
		}
		return lossOf(unexplained, "%s dropped %s of connections that had no entry "+
			"any more%s", r.named(), plural(r.Packets(), "packet"), around(": ", why, ""))
	}
	return nil
}

// goneTranslations finds answers that met no entry of source NAT, so that the DUT took them for its
// own, which has no socket for them.
func goneTranslations(t *Trial, unexplained int64) *stateLoss {
	translates := slices.ContainsFunc(t.Rules, func(r RuleCount) bool {
		return r.Effect == Translates && r.Packets() > 0
	})
	if !translates || t.Stack == nil {
		return nil
	}
	why, known := t.whyGone()
	udp, tcp := t.Stack.UDPNoPorts, max(t.Stack.OutRsts, t.Stack.DropReasons["NO_SOCKET"])
	if !known {
		tcp = 0 // its own listeners may reset too
	}
	if udp+tcp == 0 {
		return nil
	}
	return lossOf(unexplained, "%s of NAT found no entry any more and no socket of "+
		"the DUT%s", plural(udp+tcp, "answer"), around(": ", why, ""))
}

// whyGone words why entries of the load were gone, if the trial's figures tell.
func (t *Trial) whyGone() (words string, known bool) {
	for _, s := range t.Silences {
		names := []string{"tcp_timeout_established"}
		if s.Protocol == "udp" {
			names = []string{"udp_timeout_stream", "udp_timeout"}
		}
		for _, name := range names {
			if limit, ok := t.Timeouts[name]; ok && float64(limit) < s.Seconds {
				return fmt.Sprintf("%s is silent for %s s, and an entry lives for %d s (%s)",
					s.Entry, Figure(s.Seconds), limit, name), true
			}
		}
	}
	for _, a := range t.Actions {
		if a.Begun != nil && !a.Fix && a.removesEntries() {
			return a.Name + " had removed their entries", true
		}
	}
	return "", false
}

// removesEntries reports whether an action empties the table, or a part of it.
func (a Action) removesEntries() bool {
	return slices.Contains([]actions.Kind{actions.Flush, actions.Delete, actions.Reset},
		actions.Kind(a.Kind))
}

// olderThanRule finds entries that a rule of destination NAT would lead elsewhere, had they not
// been there before it.
func olderThanRule(t *Trial, unexplained int64) *stateLoss {
	if t.Contents == nil {
		return nil
	}
	for _, f := range t.Contents.Flows {
		if f.NewerRule == "" {
			continue
		}
		failures := unexplained
		if came := t.rulesCame(); came != nil {
			failures = came.LaterFailures
		}
		return lossOf(failures, "%s to %s (%s %s) %s older than the rule %s, which "+
			"%s never met", Entries(f.Entries), f.Destination, f.Protocol, f.State,
			isAre(f.Entries), f.NewerRule, itThey(f.Entries))
	}
	return nil
}

// rulesCame returns the last action that loaded rules, or nil.
func (t *Trial) rulesCame() (last *Action) {
	for i, a := range t.Actions {
		if a.Begun != nil && actions.Kind(a.Kind) == actions.RulesLoad {
			last = &t.Actions[i]
		}
	}
	return last
}

// removedByFix finds entries that were older than rules until a fix removed them, after which
// nothing failed.
func removedByFix(t *Trial, _ int64) *stateLoss {
	came := t.rulesCame()
	if came == nil {
		return nil
	}
	for _, a := range t.Actions {
		if !a.Fix || a.Begun == nil || *a.Begun < *came.Begun || !a.removesEntries() {
			continue
		}
		removed := a.removed()
		if removed > 0 && a.LaterFailures == 0 && came.LaterFailures > 0 {
			return lossOf(came.LaterFailures, "%s failed after %s and until %s removed "+
				"%s from before it", plural(came.LaterFailures, "attempt"), came.Name, a.Name,
				Entries(removed))
		}
	}
	return nil
}

// removed returns how many entries an action removed, as its effects tell.
func (a Action) removed() (entries int64) {
	for _, e := range a.Effects {
		before, errBefore := strconv.ParseInt(e.Before, 10, 64)
		after, errAfter := strconv.ParseInt(e.After, 10, 64)
		switch {
		case errBefore != nil || errAfter != nil:
		case e.Name == EffectRemoved:
			return after
		case e.Name == kernels.KeyCount:
			entries = max(0, before-after)
		}
	}
	return entries
}

// EffectRemoved is the name of the effect that counts the entries that an action removed.
const EffectRemoved = "entries removed"

// joinedEntries finds flows that used entries of earlier flows and so asked no rule of NAT. Where
// they all failed, and the entries lead to where nothing answers, the entries are stale.
func joinedEntries(t *Trial, unexplained int64) *stateLoss {
	redirects := slices.ContainsFunc(t.Rules, func(r RuleCount) bool {
		return r.Effect == Redirects && r.Packets() > 0
	})
	if t.NAT == nil || !redirects || t.Contents == nil {
		return nil
	}
	begun := t.offered()
	if t.Probe != nil {
		begun += t.Probe.Sent
	}
	joined := begun - t.NAT.Lookups - refusalsOf(t.Conntrack.Counters, t.Meaning).sum()
	if joined < unexplained {
		return nil // those that asked the rules failed too
	}
	for _, f := range t.Contents.Flows {
		if f.Leads != "" && (f.State == "UNREPLIED" || f.State == "SYN_SENT") {
			return lossOf(unexplained, "%s used entries of earlier flows and asked no "+
				"rule of NAT: %s to %s (%s) %s to %s, which does not answer",
				plural(unexplained, "attempt"), Entries(f.Entries), f.Destination, f.Protocol,
				leadLeads(f.Entries), f.Leads)
		}
	}
	return nil
}

// exhaustedPorts finds out whether packets that found their tuple taken had found no free source
// port: NAT then tries many ports for each, and found counts each try; in a race it tries one or
// two. The return value words it; "" for a race.
func exhaustedPorts(t *Trial, clashes int64) string {
	translates := slices.ContainsFunc(t.Rules, func(r RuleCount) bool {
		return r.Effect == Translates && (r.Packets() > 0 || r.Uncounted)
	})
	if clashes == 0 || !translates {
		return ""
	}
	used, to := t.portsUsed()
	tries := int64(16)
	if used > 0 {
		tries = min(tries, used)
	}
	if t.Conntrack.Found < clashes*max(2, tries) {
		return ""
	}
	s := plural(clashes, "packet") + " found no free source port for NAT (insert_failed; " +
		counted(t.Conntrack.Found, "port was", "ports were") + " tried and in use)"
	if used > 0 {
		s += fmt.Sprintf(": %s in use towards %s", Count(used), to)
	}
	return s
}

// portsUsed returns how many source ports NAT held at the end for the destination that took the
// most, and how many it has.
func (t *Trial) portsUsed() (used int64, to string) {
	if t.Contents == nil {
		return 0, ""
	}
	by := map[string]int64{}
	for _, f := range t.Contents.Flows {
		if f.From != "" {
			by[f.Protocol+" "+cmp.Or(f.Leads, f.Destination)] += f.Entries
		}
	}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		if by[name] > used {
			used, to = by[name], name
		}
	}
	return used, to
}

// named names a rule or a policy with its chain, for a sentence.
func (r RuleCount) named() string {
	return fmt.Sprintf("%q (table %s, chain %s)", r.Text, r.Table, r.Chain)
}

// dropsOfRules words the rule that dropped the most packets, and how many others there are; it
// words rules about packets out of state apart, since tracking decides which packets meet them.
func dropsOfRules(t *Trial) string {
	var first *RuleCount
	others := 0
	for i, r := range t.Rules {
		switch {
		case r.Effect != Drops || r.Packets() == 0:
		case first == nil:
			first = &t.Rules[i]
		default:
			others++
		}
	}
	if first == nil {
		return uncountedDrops(t)
	}
	packets := plural(first.Packets(), "packet")
	if first.About == OutOfState {
		packets += " that tracking called invalid"
	}
	s := first.named() + " dropped " + packets
	if others > 0 {
		s += ", " + plural(int64(others), "further rule") + " some more"
	}
	return s + oneWay(t, first)
}

// oneWay words why tracking may call packets invalid: it sees one direction of them.
func oneWay(t *Trial, dropping *RuleCount) string {
	if dropping.About != OutOfState {
		return ""
	}
	for _, r := range t.Rules {
		if r.Effect == Untracks && r.Packets() > 0 {
			return fmt.Sprintf("; %s took %s out of tracking, so that it saw a part of each "+
				"connection", r.named(), plural(r.Packets(), "packet"))
		}
	}
	return ""
}

// uncountedDrops names a rule whose drops the kernel does not count.
func uncountedDrops(t *Trial) string {
	for _, r := range t.Rules {
		if r.Effect == Drops && r.Uncounted {
			return r.named() + " has no counter: it may have dropped packets"
		}
	}
	return ""
}

func isAre(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func itThey(n int64) string {
	if n == 1 {
		return "it"
	}
	return "they"
}

func leadLeads(n int64) string {
	if n == 1 {
		return "leads"
	}
	return "lead"
}
