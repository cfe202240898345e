package results

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Insights returns sentences about a valid trial beside its own: what a bystander saw, which usual
// alerts would have fired, how it recovered, what the table held at the end, how good the
// prediction was. An uneventful trial has only the last one.
func Insights(t *Trial) []string {
	if t.Verdict == Invalid {
		return nil
	}
	var list []string
	for _, words := range []func(*Trial) string{
		actionWords, healWords, bystanderWords, transitWords, alertWords, recoveryWords,
		contentsWords, predictionWords, cpuWords,
	} {
		if s := words(t); s != "" {
			list = append(list, s)
		}
	}
	return list
}

// troubled reports whether conntrack caused harm.
func troubled(t *Trial) bool { return t.Verdict != Clean && t.Verdict != NotConntrack }

// bystanderWords words what an ssh login would have seen before, during and after the load.
func bystanderWords(t *Trial) string {
	p := t.Probe
	if p == nil || p.During.Sent == 0 || p.Lost == 0 && !troubled(t) {
		return ""
	}
	if len(t.Probes) < 2 {
		return "A bystander's connections: " + p.phaseWords() + "."
	}
	var parts phrases
	for _, name := range slices.Sorted(maps.Keys(t.Probes)) {
		p := t.Probes[name]
		parts.add("Bystander %s: %s.", name, p.phaseWords())
	}
	return strings.Join(parts, " ")
}

// phaseWords words the losses and the times before, during and after the load.
func (p *Probe) phaseWords() string {
	var parts phrases
	for i, phase := range []ProbePhase{p.Before, p.During, p.After} {
		if phase.Sent == 0 {
			continue
		}
		latency := ""
		if l := phase.Latency; l.Count > 0 {
			latency = fmt.Sprintf(" and %s ms at the median, %s ms at most",
				Figure(l.P50), Figure(l.Max))
		}
		parts.add("%s %s lost%s", []string{"before the load", "during it", "after it"}[i],
			Percent(float64(phase.Lost)/float64(phase.Sent)), latency)
	}
	if p.Pending > 0 {
		parts.add("%s had no result when the watch ended", plural(p.Pending, "more attempt"))
	}
	return strings.Join(parts, "; ")
}

func alertWords(t *Trial) string {
	c := t.Conntrack
	if !troubled(t) || c.Max <= 0 {
		return ""
	}
	if len(c.Alerts) == 0 {
		if c.Fill() > AlertShares[0] {
			return "" // without a series, probes have no phases
		}
		most := Percent(c.Fill())
		return "No alert on the table's fill would have fired: the fill was " + most + " at most."
	}
	var parts phrases
	for i, a := range c.Alerts {
		if i == 0 || i == len(c.Alerts)-1 {
			would := ""
			if i == 0 {
				would = " fill would have fired"
			}
			parts.add("at %.0f %%%s %s", a.Share*100, would, alertTime(a))
		}
	}
	s := "An alert " + strings.Join(parts, ", one ")
	if c.Drop == 0 {
		s += "; one on drops would not have fired"
	}
	return s + "."
}

func alertTime(a Alert) string {
	switch {
	case a.Lead == nil:
		return fmt.Sprintf("%s s into the load", Figure(max(0, a.Fired)))
	case *a.Lead < 0:
		return fmt.Sprintf("%s s after the first drop", Figure(-*a.Lead))
	default:
		return fmt.Sprintf("%s s before the first drop", Figure(*a.Lead))
	}
}

func recoveryWords(t *Trial) string {
	c := t.Conntrack
	if !troubled(t) || len(c.Alerts) == 0 {
		return ""
	}
	var parts phrases
	if t.Heal == nil || t.Heal.Deviated == nil { // else it says when connections were well again
		parts = recoveredWords(t)
	}
	switch living := livingEntries(t); {
	case c.SecondsToBelow95 == nil && living >= 0 && fillOf(living, c.Max) < highMark:
		parts.add("the count stayed above 95 %% of max, though all but %s had expired",
			Entries(living))
	case c.SecondsToBelow95 == nil:
		parts.add("the table stayed above 95 %%")
	case c.SecondsToBelow10 == nil:
		parts.add("the table was below 95 %%%s, and stayed above 10 %%",
			after(c.SecondsToBelow95))
	default:
		parts.add("the table was below 95 %%%s and below 10 %%%s",
			after(c.SecondsToBelow95), after(c.SecondsToBelow10))
	}
	s := "After the load "
	if t.Recovery != nil {
		s = fmt.Sprintf("Within the %s s watched after the load, ", Figure(t.Recovery.Watched))
	}
	return s + strings.Join(parts, "; ") + "."
}

// livingEntries returns how many entries a walk found at the end, without those that had expired
// and that the count still has; -1 where nothing walked the table.
func livingEntries(t *Trial) int64 {
	if t.Contents == nil || t.Conntrack.Max <= 0 {
		return -1
	}
	return t.Contents.Entries
}

// recoveredWords words when new connections were reliable again, those of each bystander where they
// differ.
func recoveredWords(t *Trial) (parts phrases) {
	switch {
	case t.Probe == nil:
	case len(t.Probes) < 2:
		parts.add("%s", t.Probe.recoveredWords("", t.Conntrack.SecondsToRecover))
	default:
		for _, name := range slices.Sorted(maps.Keys(t.Probes)) {
			p := t.Probes[name]
			parts.add("%s", p.recoveredWords(" of "+name, p.SecondsToRecover))
		}
	}
	return parts
}

// recoveredWords words when new connections were reliable again. A watch may be too short to tell.
func (p *Probe) recoveredWords(of string, seconds *float64) string {
	switch {
	case seconds != nil && p.Lost == 0:
		return "no new connection" + of + " failed"
	case seconds != nil:
		return "new connections" + of + " succeeded again" + after(seconds)
	case p.After.Lost > 0 || p.Pending > 0:
		return "new connections" + of + " did not become reliable"
	case p.After.Sent == 0:
		return "no new connection" + of + " was tried"
	default:
		return "no new connection" + of + " failed, in a watch too short to call that reliable"
	}
}

// predictionWords words the prediction beside what was measured, always both, with the range where
// the kernel's garbage collector, chance or the pace of the load decides.
func predictionWords(t *Trial) string {
	p, c := t.Prediction, t.Conntrack
	if p == nil {
		return ""
	}
	parts := phrases{"Predicted peak " + Count(p.Peak)}
	if p.uncertain() {
		parts[0] += fmt.Sprintf(" (%s to %s)", Count(p.PeakLow), Count(p.PeakHigh))
	}
	switch {
	case c.Peak == p.Peak:
		parts[0] += ", as measured"
	case p.PeakError == nil:
		parts[0] += ", measured " + Count(c.Peak)
	default:
		parts[0] += fmt.Sprintf(", measured %s (%+.1f %%)", Count(c.Peak), *p.PeakError*100)
	}
	measured := "measured: never"
	if c.SecondsToFull != nil {
		measured = "measured" + after(c.SecondsToFull)
	}
	switch {
	case p.SecondsToFull != nil || p.FullEarly != nil:
		parts.add("full%s%s, %s", after(p.SecondsToFull), fullRange(p), measured)
	case c.SecondsToFull != nil && p.Overflow > 0:
		parts.add("full at an unknown time, %s", measured)
	case c.SecondsToFull != nil:
		parts.add("never full, but measured full%s", after(c.SecondsToFull))
	}
	if p.Rate > 0 && p.Drop+p.DropHigh+c.Drop > 0 {
		bounds := ""
		if p.DropHigh > p.DropLow {
			bounds = fmt.Sprintf(" (%s to %s)", Count(p.DropLow), Count(p.DropHigh))
		}
		parts.add("drop %s%s, measured %s", Count(p.Drop), bounds, Count(c.Drop))
	}
	if p.NATRefused > 0 {
		parts.add("%s without a free one of NAT's %s", plural(p.NATRefused, "new connection"),
			plural(p.NATPorts, "source port"))
	}
	return strings.Join(parts, "; ") + "."
}

// fullRange words when a table may be full; empty where that is one time.
func fullRange(p *Prediction) string {
	switch {
	case p.FullEarly == nil || p.FullLate != nil && *p.FullLate-*p.FullEarly < 0.02*(*p.FullLate):
		return ""
	case p.FullLate == nil:
		return fmt.Sprintf(" (from %s s, or never)", Figure(*p.FullEarly))
	default:
		return fmt.Sprintf(" (%s to %s s)", Figure(*p.FullEarly), Figure(*p.FullLate))
	}
}

// busyCPU is the share of the time from which the DUT's CPUs count as saturated.
const busyCPU = 0.9

// cpuWords says that the DUT's CPUs were the limit, or that their host had no time for them.
func cpuWords(t *Trial) string {
	var parts phrases
	if c := orIdle(t.CPU); 1-c.share(c.Idle) > busyCPU {
		parts.add("were busy %s of the time, %s of it in softirq",
			Percent(1-c.share(c.Idle)), Percent(c.SoftIRQShare()/(1-c.share(c.Idle))))
	}
	if t.Steal > maxSteal {
		parts.add("lost %s of the time to a hypervisor", Percent(t.Steal))
	}
	if t.LostCPU > maxSteal {
		parts.add("waited %s of the load's time for a CPU of the host", Percent(t.LostCPU))
	}
	if len(parts) == 0 {
		return ""
	}
	return "The DUT's CPUs " + list(parts) + ", which affects rates and times."
}

// orIdle returns the CPU time, or that of an idle CPU where it was not read.
func orIdle(c *CPU) CPU {
	if c == nil {
		return CPU{Idle: 1}
	}
	return *c
}

// contentsWords words the states and the address of the most entries that a troubled trial left.
func contentsWords(t *Trial) string {
	c := t.Contents
	if c == nil || !troubled(t) || c.Entries == 0 {
		return ""
	}
	s := fmt.Sprintf("At the end the table held %s, %s of them ASSURED",
		Entries(c.Entries), Count(c.Assured))
	for i, state := range c.States[:min(2, len(c.States))] {
		if i > 0 && 20*state.Entries < c.Entries {
			break
		}
		s += fmt.Sprintf(", %s %s %s", Count(state.Entries), state.Protocol, state.State)
	}
	if len(c.Sources) > 0 {
		n, from := Count(c.Sources[0].Entries), c.Sources[0].Address
		s += fmt.Sprintf("; the busiest source had %s (%s)", n, from)
	}
	if c.SlabBytes > 0 {
		s += fmt.Sprintf("; they took %s of slab memory, and the hash %s",
			Bytes(c.SlabBytes), Bytes(c.HashBytes))
	}
	return s + "."
}
