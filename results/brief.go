package results

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Typical returns the trial that represents the scenario: of those with its worst verdict, the one
// whose number of failures is nearest to their median; nil without a valid trial.
func (s *Scenario) Typical() *Trial {
	var of []*Trial
	for t := range s.ValidTrials() {
		if t.Verdict == s.Worst() {
			of = append(of, t)
		}
	}
	if len(of) == 0 {
		return nil
	}
	failed := make([]float64, len(of))
	for i, t := range of {
		failed[i] = float64(t.Accounting.Failed)
	}
	middle := median(failed)
	off := func(t *Trial) float64 { return math.Abs(float64(t.Accounting.Failed) - middle) }
	return slices.MinFunc(of, func(a, b *Trial) int { return cmp.Compare(off(a), off(b)) })
}

// median returns the median of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Brief words what happened in a valid trial, in parts of a few words, the most important first:
// what became of the load, why, and what else was harmed.
func Brief(t *Trial) []string {
	var parts phrases
	if len(t.Actions) > 0 && t.Heal != nil {
		one := Scenario{Trials: []Trial{*t}}
		if f, ok := fixOf(&one); ok {
			parts.add("%s", f.HealWords())
			if f.Broken > 0 {
				parts.add("%s", f.BrokenWords())
			}
		}
	}
	if t.Verdict == DutDied {
		return append(parts, "the DUT ran out of memory and died")
	}
	parts = append(parts, briefLoad(t)...)
	for _, v := range findings(t) {
		if words := briefCause(t, v); words != "" {
			parts = append(parts, words)
		}
	}
	if p := t.Probe; p != nil && p.Lost > 0 && p.Sent > 0 {
		parts.add("bystander lost %s", Percent(float64(p.Lost)/float64(p.Sent)))
	}
	return parts
}

// briefLoad words what became of the load: of its sum, or of each entry that failed where there is
// no sum.
func briefLoad(t *Trial) (parts phrases) {
	if t.Load != nil {
		return phrases{briefAttempts(t.Load.Attempts, "")}
	}
	for _, name := range own(t.Entries) {
		if e := t.Entries[name]; e.Failed > 0 {
			parts = append(parts, briefAttempts(e.Attempts, " of "+name))
		}
	}
	if len(parts) == 0 && len(own(t.Entries)) > 0 {
		parts.add("nothing failed")
	}
	return parts
}

func briefAttempts(a Attempts, of string) string {
	unit := cmp.Or(a.Unit, "requests") + of
	if a.Failed == 0 {
		return fmt.Sprintf("all %s %s %s", Count(a.Offered), unit, a.DoneWord())
	}
	return fmt.Sprintf("%s of %s %s failed", Count(a.Failed), Count(a.Offered), unit)
}

// briefCause words a finding.
func briefCause(t *Trial, v Verdict) string {
	c, refused := t.Conntrack, t.refusedPackets()
	switch v {
	case TableFull:
		return plural(refusedAtMax(t), "packet") + " refused"
	case ChainTooLong:
		return plural(refused.chain, "insert") + " refused on long chains"
	case NATExhausted:
		return "no free source port for " + plural(refused.clash, "packet")
	case StateLost:
		return plural(t.Accounting.StateLost, "failure") + " since entries were gone or stale"
	case Clash:
		return plural(refused.clash, "packet") + " lost a race for a tuple"
	case Evicting:
		return Entries(c.EarlyDrop) + " evicted"
	case NotConntrack:
		return plural(t.Accounting.Unexplained, "failure") + " without a cause in conntrack"
	}
	switch {
	case !c.Tracked:
		return "nothing tracked"
	case c.Max <= 0:
		return "peak " + Count(c.Peak)
	default:
		return fmt.Sprintf("peak %s of %s", Count(c.Peak), Count(c.Max))
	}
}
