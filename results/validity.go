package results

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Evidence is what is known of how a trial was measured. A zero field was not observed and gives no
// reason; what was observed is judged by [Validate].
type Evidence struct {
	// Asked, Before and After are settings by name: those asked for, and as read back before and after
	// the load. Before and After nil: not read back, which is a reason when something was asked for.
	Asked, Before, After map[string]string
	// RulesBefore and RulesAfter are the loaded rules as text without their counters.
	RulesBefore, RulesAfter string
	// OwnTable is by how many entries the generator's own connection-tracking table grew.
	OwnTable int64
	// Steal is the share of the DUT's CPU time that its hypervisor gave to others; GeneratorCPU the
	// share of its CPUs that the generator was busy.
	Steal, GeneratorCPU float64
	// LostCPU is the share of its time that the DUT waited for a CPU of its host. It is evidence only where
	// CPU time is what is measured, not under emulation.
	LostCPU float64
	// Interval is the time between two samples that was asked for, in seconds.
	Interval float64
	// Console are lines of the DUT's console that [ConsoleFault] found, in order.
	Console []string
	// Interrupted tells that the trial was cut short.
	Interrupted bool
}

// Limits of validity. Each is where the figures begin to say more about the measurement than about
// the DUT.
const (
	MaxSteal        = 0.05 // share of the DUT's CPU time, stolen or lost
	MaxClockError   = 10.0 // ms between a time of the DUT and one of the client
	MaxGeneratorCPU = 0.95 // share of the generator's CPUs
	MaxOwnTable     = 0.01 // growth of the generator's own table, as a share of what was offered
	MaxGap          = 2.0  // seconds without a sample, or 20 intervals where that is more
	ownTableSlack   = 16   // entries that anything else on the generator's host may make
)

// Validate returns the reasons not to trust a trial, none when there are none, in words. It needs
// the trial's Load and, after [Summarise], its Conntrack; it changes nothing.
func Validate(t *Trial, e Evidence) []string {
	var reasons []string
	add := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	if e.Interrupted {
		add("the trial was interrupted")
	}
	for _, line := range e.Console {
		add("the DUT's console shows %q", line)
	}
	reasons = append(reasons, settingReasons(e)...)
	if e.RulesBefore != e.RulesAfter {
		add("the rules changed during the load: %s", firstDifference(e.RulesBefore, e.RulesAfter))
	}
	for _, r := range t.Refused {
		if r.Status == 0 {
			add("the DUT accepted %q, a command line with a mistake that its tool should refuse", r.Command)
		}
	}
	for _, limit := range t.Load.Limits {
		add("the generator was the limit: %s", limit)
	}
	if e.GeneratorCPU > MaxGeneratorCPU {
		add("the generator was the limit: its CPUs were busy %s of the time", Percent(e.GeneratorCPU))
	}
	if e.OwnTable > ownTableSlack+int64(MaxOwnTable*float64(t.Load.Offered)) {
		add("the generator's own connection-tracking table grew by %s: the load was tracked twice", entries(e.OwnTable))
	}
	if e.Steal > MaxSteal {
		add("the hypervisor took %s of the DUT's CPU time", Percent(e.Steal))
	}
	if e.LostCPU > MaxSteal {
		add("the DUT waited %s of the time for a CPU of its host", Percent(e.LostCPU))
	}
	if c := t.Clock; c != nil && c.ErrorMillis > MaxClockError {
		add("the DUT's times are uncertain by %s ms: its clock ran unevenly, or could not be read in time", Figure(c.ErrorMillis))
	}
	if limit := max(MaxGap, 20*e.Interval); t.Conntrack.LongestGap > limit {
		add("the agent stalled: %s s without a sample", Figure(t.Conntrack.LongestGap))
	}
	if e.Interval > 0 && t.Conntrack.Samples == 0 {
		add("the table was not sampled")
	}
	return reasons
}

// settingReasons compares what was asked for with what was read back, before and after.
func settingReasons(e Evidence) []string {
	var reasons []string
	if len(e.Asked) > 0 && (e.Before == nil || e.After == nil) {
		reasons = append(reasons, "the settings were not read back")
	}
	for _, name := range slices.Sorted(maps.Keys(e.Asked)) {
		if got, ok := e.Before[name]; e.Before != nil && (!ok || !sameSetting(got, e.Asked[name])) {
			reasons = append(reasons, fmt.Sprintf("%s is %s, and %s was asked for", name, shown(got, ok), e.Asked[name]))
		}
	}
	if e.Before == nil || e.After == nil {
		return reasons
	}
	for _, name := range slices.Sorted(maps.Keys(e.Before)) {
		if got, ok := e.After[name]; !ok || !sameSetting(got, e.Before[name]) {
			reasons = append(reasons, fmt.Sprintf("%s changed during the load: %s before, %s after", name, e.Before[name], shown(got, ok)))
		}
	}
	return reasons
}

func shown(value string, ok bool) string {
	if !ok {
		return "missing"
	}
	return value
}

// sameSetting compares values as the kernel does: numbers by value, lists by their fields.
func sameSetting(a, b string) bool {
	af, bf := strings.Fields(a), strings.Fields(b)
	return slices.EqualFunc(af, bf, func(x, y string) bool {
		if x == y {
			return true
		}
		xn, xerr := strconv.ParseInt(x, 0, 64)
		yn, yerr := strconv.ParseInt(y, 0, 64)
		return xerr == nil && yerr == nil && xn == yn
	})
}

// firstDifference names the first line in which two texts differ.
func firstDifference(before, after string) string {
	b, a := strings.Split(before, "\n"), strings.Split(after, "\n")
	for i := range max(len(b), len(a)) {
		switch {
		case i >= len(b):
			return fmt.Sprintf("%q is new", a[i])
		case i >= len(a):
			return fmt.Sprintf("%q is gone", b[i])
		case a[i] != b[i]:
			return fmt.Sprintf("%q became %q", b[i], a[i])
		}
	}
	return "nothing"
}

// Reconcile finds trials that differ though nothing in the experiment asks for that, and makes them
// invalid, since they cannot be compared: in the kernel where the same one was asked for, in the memory
// that this kernel has where it was given the same, in the table where they are of the same scenario.
// Where trials disagree, the most frequent value is right; without a majority all are wrong. It is called
// once when the run has ended.
func Reconcile(run *Run) {
	for _, p := range []struct {
		name  string
		like  func(Configuration) string // trials for which it is equal are to be alike
		alone bool                       // only within a scenario
		value func(*Trial) string
	}{
		{"the kernel", func(c Configuration) string { return c.Kernel }, false,
			func(t *Trial) string { return t.Kernel }},
		{"the memory", func(c Configuration) string { return fmt.Sprint(c.Kernel, c.MemoryBytes, c.VCPUs) }, false,
			func(t *Trial) string { return strconv.FormatInt(t.MemoryBytes>>20, 10) + " MiB" }},
		{"nf_conntrack_max", nil, true, func(t *Trial) string { return strconv.FormatInt(t.Conntrack.Max, 10) }},
		{"nf_conntrack_buckets", nil, true, func(t *Trial) string { return strconv.FormatInt(t.Conntrack.Buckets, 10) }},
	} {
		groups := map[string][]*Scenario{}
		for i := range run.Scenarios {
			s := &run.Scenarios[i]
			key := s.Name
			if !p.alone {
				key = p.like(s.Configuration)
			}
			groups[key] = append(groups[key], s)
		}
		for _, group := range groups {
			reconcile(group, p.name, p.value)
		}
	}
}

func reconcile(group []*Scenario, name string, value func(*Trial) string) {
	votes := map[string]int{}
	for _, s := range group {
		for i := range s.Trials {
			if s.Trials[i].Verdict != Invalid && len(s.Trials[i].Actions) == 0 {
				votes[value(&s.Trials[i])]++
			}
		}
	}
	if len(votes) < 2 {
		return
	}
	values := slices.SortedFunc(maps.Keys(votes), func(a, b string) int {
		return cmp.Or(cmp.Compare(votes[b], votes[a]), cmp.Compare(a, b))
	})
	right, tie := values[0], votes[values[0]] == votes[values[1]]
	for _, s := range group {
		for i := range s.Trials {
			t := &s.Trials[i]
			got := value(t)
			if t.Verdict == Invalid || len(t.Actions) > 0 || !tie && got == right {
				continue
			}
			reason := fmt.Sprintf("%s was %s, and %s in other trials that are to be like it", name, got, right)
			if tie {
				reason = fmt.Sprintf("%s differs between trials that are to be alike: %s", name, strings.Join(values, ", "))
			}
			t.Invalid = append(t.Invalid, reason)
			Judge(t, s.Configuration)
		}
	}
}
