package results

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Evidence holds observations of the measurement of a trial; a zero field was not observed and
// gives no reason.
type Evidence struct {
	// Limits are the generators' own limits that were hit, each with the code of its kind.
	Limits []Reason
	// OwnTable is the number of entries by which the generator's own connection-tracking table
	// grew.
	OwnTable int64
	// Steal is the share of the DUT's CPU time that its hypervisor gave to others; GeneratorCPU the
	// share of its CPUs that the generator was busy.
	Steal, GeneratorCPU float64
	// LostCPU is the share of its time that the DUT waited for a CPU of its host. It is evidence
	// only where CPU time is measured, not under emulation.
	LostCPU float64
	// Slack bounds the delay of a send of the load, in milliseconds.
	Slack float64
	// Interval is the requested time between two samples, in seconds.
	Interval float64
	// Console are lines of the DUT's console that [ConsoleFault] found, in order.
	Console []string
}

// Reason tells why a trial is INVALID: its kind, and the observation, in words.
type Reason struct {
	Code Code
	Text string
}

// Code names a kind of [Reason].
type Code string

// The kinds of reason. A limit of the generator has the code [GeneratorLimit] of its own.
const (
	CodeInterrupted Code = "interrupted" // the run ended in the middle of the trial
	// CodeBroken: a node or its agent failed, or could not do what it was asked.
	CodeBroken     Code = "broken"
	CodeUnread     Code = "unread"       // a figure could not be read
	CodeNotAsAsked Code = "not-as-asked" // the kernel read back other settings
	CodeChanged    Code = "changed"      // the settings changed during the trial
	CodeNotRefused Code = "not-refused"  // the DUT took a command line that has a mistake
	CodeAction     Code = "action"       // an action could not be performed or undone
	// CodeUnsteady: the trial was not in the steady state before the first action.
	CodeUnsteady   Code = "unsteady"
	CodeConsole    Code = "console"     // the DUT's kernel reported a fault
	CodeOwnTable   Code = "own-table"   // the generator's own table grew
	CodeSteal      Code = "steal"       // the hypervisor took CPU time of the DUT
	CodeLostCPU    Code = "lost-cpu"    // the DUT waited for a CPU of its host
	CodeLostFrames Code = "lost-frames" // the load did not reach the DUT
	CodeOverload   Code = "overload"    // the links carried much less than the load
	CodeClock      Code = "clock"       // the DUT's times are uncertain
	CodeStalled    Code = "stalled"     // no sample came for a long time
	CodeUnsampled  Code = "unsampled"   // no sample came at all
	CodeNoLoad     Code = "no-load"     // nothing was offered
	CodeUnbalanced Code = "unbalanced"  // the load does not add up
	// CodeUnlike: the trial differs from those that it is compared with.
	CodeUnlike  Code = "unlike"
	CodeUnknown Code = "unknown"                 // of a run whose ctload wrote no codes
	CodePacing  Code = generatorLimit + "pacing" // the generator fell behind its schedule
	CodeWorkers Code = generatorLimit + "cpu"    // the generator's CPUs were busy
)

const generatorLimit = "generator-"

// GeneratorLimit returns the code of a generator's own limit, which the generator names itself.
func GeneratorLimit(name string) Code { return Code(generatorLimit + name) }

// OfGenerator reports whether the code is of a limit of the load itself.
func (c Code) OfGenerator() bool { return strings.HasPrefix(string(c), generatorLimit) }

// Invalidate adds reasons not to trust the trial, each once.
func (t *Trial) Invalidate(reasons ...Reason) {
	for _, r := range reasons {
		if slices.Contains(t.Invalid, r.Text) {
			continue
		}
		for len(t.InvalidCodes) < len(t.Invalid) { // a trial of an older ctload
			t.InvalidCodes = append(t.InvalidCodes, CodeUnknown)
		}
		t.Invalid, t.InvalidCodes = append(t.Invalid, r.Text), append(t.InvalidCodes, r.Code)
	}
}

// Limits of validity. Beyond each, the figures say more about the measurement than about the DUT.
const (
	maxSteal        = 0.05 // share of the DUT's CPU time, stolen or lost
	maxClockError   = 10.0 // ms between a time of the DUT and one of the client
	maxStartSkew    = 50.0 // ms between the instant of a load and its beginning
	maxGeneratorCPU = 0.95 // share of the generator's CPUs
	maxOwnTable     = 0.01 // growth of the generator's own table, as a share of what was offered
	maxGap          = 1.0  // seconds without a sample, or 10 intervals where that is more
	ownTableSlack   = 16   // entries that other programs on the generator's host may make
)

// Validate returns the reasons not to trust a trial. It needs the trial's Entries and,
// after [Summarise], its Conntrack.
func Validate(t *Trial, e Evidence) []Reason {
	var reasons []Reason
	add := func(code Code, format string, args ...any) {
		reasons = append(reasons, Reason{code, fmt.Sprintf(format, args...)})
	}
	for _, line := range e.Console {
		add(CodeConsole, "the DUT's console shows %q", line)
	}
	for _, r := range t.Refused {
		if r.Status == 0 {
			add(CodeNotRefused, "the DUT accepted %q, a command line with a mistake that its tool "+
				"should refuse", r.Command)
		}
	}
	limits := e.Limits
	if e.GeneratorCPU > maxGeneratorCPU {
		busy := fmt.Sprintf("its CPUs were busy %s of the time", Percent(e.GeneratorCPU))
		limits = append(slices.Clone(limits), Reason{CodeWorkers, busy})
	}
	for _, limit := range limits {
		add(limit.Code, "the generator was the limit: %s", limit.Text)
	}
	if e.OwnTable > ownTableSlack+int64(maxOwnTable*float64(t.offered())) {
		add(CodeOwnTable, "the generator's own connection-tracking table grew by %s: the load was "+
			"tracked twice", Entries(e.OwnTable))
	}
	if e.Steal > maxSteal {
		add(CodeSteal, "the hypervisor took %s of the DUT's CPU time", Percent(e.Steal))
	}
	if e.LostCPU > maxSteal {
		add(CodeLostCPU, "the DUT waited %s of the time for a CPU of its host", Percent(e.LostCPU))
	}
	if c := t.Clock; c != nil && c.ErrorMillis > maxClockError {
		add(CodeClock, "the DUT's times are uncertain by %s ms: its clock ran unevenly, or could "+
			"not be read in time", Figure(c.ErrorMillis))
	}
	if most := max(maxStartSkew, e.Slack); t.Clock != nil && t.Clock.StartSkewMillis > most {
		add(CodePacing, "a load began %s ms beside its instant of the axis",
			Figure(t.Clock.StartSkewMillis))
	}
	limit := max(maxGap, 10*e.Interval)
	if slowed(t.Actions) {
		limit *= 2
	}
	if t.Conntrack.LongestGap > limit {
		add(CodeStalled, "the DUT stood still: no sample for %s s", Figure(t.Conntrack.LongestGap))
	}
	if e.Interval > 0 && t.Conntrack.Samples == 0 {
		add(CodeUnsampled, "the table was not sampled")
	}
	return append(reasons, lostOnTheWay(t)...)
}

// Reconcile invalidates trials that differ though the experiment does not ask for it: in the kernel
// where the same one was requested, in its memory where it was given the same, and in the table of
// a scenario. The most frequent value is right; without a majority all are wrong.
func Reconcile(run *Run) {
	// Scenarios for which like is equal must be alike.
	check := func(name string, like func(*Scenario) string, value func(*Trial) any) {
		groups := map[string][]*Scenario{}
		for i := range run.Scenarios {
			key := like(&run.Scenarios[i])
			groups[key] = append(groups[key], &run.Scenarios[i])
		}
		for _, group := range groups {
			reconcile(group, name, value)
		}
	}
	kernel := func(s *Scenario) string { return s.Configuration.Kernel }
	memory := func(s *Scenario) string {
		return fmt.Sprint(kernel(s), s.Configuration.MemoryBytes, s.Configuration.VCPUs)
	}
	itself := func(s *Scenario) string { return s.Name }
	check("the kernel", kernel, func(t *Trial) any { return t.Kernel })
	check("the memory", memory, func(t *Trial) any { return fmt.Sprint(t.MemoryBytes>>20, " MiB") })
	check("nf_conntrack_max", itself, func(t *Trial) any { return t.Conntrack.Max })
	check("nf_conntrack_buckets", itself, func(t *Trial) any { return t.Conntrack.Buckets })
}

func reconcile(group []*Scenario, name string, value func(*Trial) any) {
	votes := map[string]int{}
	for _, s := range group {
		for t := range s.ValidTrials() {
			if len(t.Actions) == 0 {
				votes[fmt.Sprint(value(t))]++
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
		for t := range s.ValidTrials() {
			got := fmt.Sprint(value(t))
			if len(t.Actions) > 0 || !tie && got == right {
				continue
			}
			reason := fmt.Sprintf("%s was %s, and %s in other trials that should be like it",
				name, got, right)
			if tie {
				reason = name + " differs between trials that should be alike: " +
					strings.Join(values, ", ")
			}
			t.Invalidate(Reason{CodeUnlike, reason})
			Judge(t)
		}
	}
}

// exhausted matches messages about exhausted memory.
const exhausted = `[Oo]ut of memory: |invoked oom-killer|oom-kill:|` +
	`page allocation failure|SLUB: Unable to allocate memory|` +
	`nf_conntrack: .*(unable to|can't) allocate|`

// faults matches lines that a kernel prints to its console when a fault spoils a measurement. The
// list follows the kernel's own messages; "table full" is none of them.
var faults = regexp.MustCompile(exhausted + `Kernel panic - not syncing|NETDEV WATCHDOG: |` +
	`\bBUG: |` + // unable to handle, soft lockup, scheduling while atomic, KASAN
	`\bOops: |Oops\[#|general protection fault|` +
	`(Internal error|Unhandled fault): |` +
	`\bWARNING: (CPU: |\S+:\d+ at )|` + // the second form from 6.19 on
	`watchdog: .* (lockup|stuck)|` +
	`rcu: INFO: .* (self-detected stall|detected stalls)|rcu_(sched|preempt|bh) (self-)?detected|` +
	`INFO: task .* blocked for more than|` +
	`Memory cgroup out of memory|EXT4-fs error|I/O error, dev |` +
	`clocksource: .* (unstable|skew)|Marking clocksource .* unstable`)

// memoryFaults matches messages of a kernel that ran out of memory and knows it. A trace follows a
// failed allocation; an oops has lines of its own.
var memoryFaults = regexp.MustCompile(exhausted + `Call Trace:`)

// MemoryFault reports whether a line tells of exhausted memory, which some trials have on purpose.
func MemoryFault(line string) bool { return memoryFaults.MatchString(line) }

// DiedOfMemory returns the line of a console by which a kernel ended, or the first one that tells
// of exhausted memory where it does not say; empty without such a line.
func DiedOfMemory(console string) (line string) {
	for text := range strings.Lines(console) {
		text = strings.TrimSpace(uptime.ReplaceAllString(text, ""))
		switch {
		case line != "" && strings.Contains(text, "Kernel panic - not syncing"):
			return text
		case line == "" && outOfMemory.MatchString(text):
			line = text
		}
	}
	return line
}

var (
	outOfMemory = regexp.MustCompile(strings.TrimSuffix(exhausted, "|"))
	uptime      = regexp.MustCompile(`^\[ *[0-9.]+\] `) // before each line of a console
)

// ConsoleFault reports whether a line of the DUT's console tells of a fault that spoils a trial: an
// oops, a panic, a lockup, a stall, a hung task, a failed allocation, an unstable clock.
func ConsoleFault(line string) bool { return faults.MatchString(line) }
