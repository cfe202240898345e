package results

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
)

// Recommend names in one sentence the scenario that met all its thresholds with the smallest change
// from the first one, and the cost of that change; it returns "" without a choice. A scenario
// without thresholds meets them when all its valid trials were clean.
//
// A change is smaller when it leaves traffic tracked, then when it changes fewer settings, then
// with a smaller table.
func Recommend(run *Run) string {
	if len(run.Scenarios) < 2 || run.Part("") != nil || slices.ContainsFunc(run.Scenarios, acted) {
		return "" // the effect of an action is no configuration to choose
	}
	first, best := &run.Scenarios[0], Best(run)
	switch best {
	case nil:
		which := ""
		if slices.ContainsFunc(run.Scenarios, func(s Scenario) bool { return s.Workload != "" }) {
			which = " with the load of " + first.Name
		}
		return "No scenario" + which + " met its thresholds or, without any, stayed clean."
	case first:
		return fmt.Sprintf("No change is needed: %s %s.", first.Name, achievement(first))
	default:
		changed := strings.Join(changes(first, best), ", ")
		return fmt.Sprintf("The smallest change that %s is %s (%s); %s.",
			achievement(best), best.Name, changed, costs(first, best))
	}
}

// acted reports whether a scenario had faults or fixes.
func acted(s Scenario) bool {
	return slices.ContainsFunc(s.Trials, func(t Trial) bool { return len(t.Actions) > 0 })
}

// Best returns the scenario that [Recommend] names, or nil: the first one if it met its thresholds,
// and none with another load than the first.
func Best(run *Run) *Scenario {
	var met, clean []*Scenario
	for i := range run.Scenarios {
		if s := &run.Scenarios[i]; meets(s) && s.Workload == "" {
			met = append(met, s)
			if s.Worst() == Clean {
				clean = append(clean, s)
			}
		}
	}
	// Thresholds may assert a fault: where some scenario is clean, only a clean one is a cure.
	if len(clean) > 0 {
		met = clean
	}
	if len(met) == 0 {
		return nil
	}
	first := &run.Scenarios[0]
	if met[0] == first {
		return first
	}
	return slices.MinFunc(met, func(a, b *Scenario) int {
		switch exempt := a.exempts(); {
		case exempt == b.exempts():
		case exempt:
			return 1
		default:
			return -1
		}
		return cmp.Or(cmp.Compare(len(changes(first, a)), len(changes(first, b))),
			cmp.Compare(tableBytes(a), tableBytes(b)))
	})
}

func meets(s *Scenario) bool {
	failed := slices.ContainsFunc(s.Thresholds, func(o Outcome) bool { return !o.Passed })
	return s.Valid() > 0 && !failed && (len(s.Thresholds) > 0 || s.Worst() == Clean)
}

func achievement(s *Scenario) string {
	if len(s.Thresholds) > 0 {
		return "met all thresholds"
	}
	return "carried the load cleanly"
}

// changes words the settings of a scenario that differ from the first.
func changes(first, s *Scenario) []string {
	a, b := first.Configuration, s.Configuration
	var list phrases
	for _, name := range slices.Sorted(maps.Keys(b.Sysctl)) {
		if b.Sysctl[name] != a.Sysctl[name] {
			list.add("%s = %s", strings.TrimPrefix(name, "net.netfilter."), b.Sysctl[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Sysctl)) {
		if _, ok := b.Sysctl[name]; !ok {
			list.add("%s left at its default", strings.TrimPrefix(name, "net.netfilter."))
		}
	}
	buckets := "the kernel's own"
	if b.Buckets > 0 {
		buckets = Count(int64(b.Buckets))
	}
	for _, setting := range []struct {
		differs bool
		words   string
	}{
		{a.Buckets != b.Buckets, buckets + " buckets"},
		{a.RulesText() != b.RulesText(), "other rules"},
		{a.Kernel != b.Kernel, "kernel " + b.Kernel},
		{a.MemoryBytes != b.MemoryBytes, Bytes(b.MemoryBytes) + " of memory"},
		{a.VCPUs != b.VCPUs, plural(int64(b.VCPUs), "vCPU")},
	} {
		if setting.differs {
			list = append(list, setting.words)
		}
	}
	if len(list) == 0 { // a configuration does not have them
		list.add("other modules")
	}
	return list
}

// tableBytes returns the memory of the scenario's full table, as its trials read it back.
func tableBytes(s *Scenario) int64 {
	for t := range s.ValidTrials() {
		c := t.Conntrack
		return kernels.Size{Max: c.Max, Buckets: c.Buckets}.Bytes(c.ObjectBytes)
	}
	return 0
}

// costs words what the change gives up.
func costs(first, s *Scenario) string {
	var parts phrases
	all := tableBytes(s)
	if more := all - tableBytes(first); s.exempts() {
		parts.add("exempt traffic has no state: stateful rules do not see it and it cannot be " +
			"translated (NAT)")
	} else if more > 0 {
		parts.add("its table takes up to %s of kernel memory, %s more", Bytes(all), Bytes(more))
	}
	if shortens(first, s) {
		parts.add("the kernel forgets idle connections earlier, and what comes after that is new " +
			"or invalid to it")
	}
	if len(parts) == 0 {
		return "it costs no memory"
	}
	return strings.Join(parts, ", and ")
}

// shortens reports whether a scenario has a shorter timeout than the first one.
func shortens(first, s *Scenario) bool {
	release := ""
	if len(first.Trials) > 0 {
		release = first.Trials[0].Kernel
	}
	timeouts := kernels.Timeouts(kernels.Named(release))
	for name, text := range s.Configuration.Sysctl {
		before, ok := timeouts[name]
		if set, err := strconv.ParseInt(first.Configuration.Sysctl[name], 10, 64); err == nil {
			before, ok = set, true
		}
		if after, err := strconv.ParseInt(text, 10, 64); ok && err == nil && after < before {
			return true
		}
	}
	return false
}

// SettingLines returns the configuration as lines for a file in /etc/sysctl.d.
func (c Configuration) SettingLines() []string {
	var lines []string
	if c.Buckets > 0 {
		lines = append(lines, fmt.Sprintf("%s = %d", kernels.KeyBuckets, c.Buckets))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sysctl)) {
		lines = append(lines, fmt.Sprintf("%s = %s", name, c.Sysctl[name]))
	}
	return lines
}
