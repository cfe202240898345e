package results

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
)

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
	rules := "other rules"
	if s.Summary != "" { // only its author's words say what they do
		rules += " (" + s.Summary + ")"
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
		{a.RulesText() != b.RulesText(), rules},
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

// exemptCost words the losses of traffic that rules take out of tracking.
const exemptCost = "exempt traffic has no state: stateful rules do not see it, and NAT cannot " +
	"translate it"

// untrackedCost words the losses of a machine that tracks nothing.
const untrackedCost = "no connection has state: rules cannot match it, and NAT cannot translate"

// costs words what the change gives up.
func costs(first, s *Scenario) string {
	var parts phrases
	all := tableBytes(s)
	switch more := all - tableBytes(first); {
	case s.exempts() && !first.exempts():
		parts.add(exemptCost)
	case s.untracks() && !first.untracks():
		parts.add(untrackedCost)
	case more > 0:
		parts.add("a full table takes %s of kernel memory, %s more", Bytes(all), Bytes(more))
	}
	if shortens(first, s) {
		parts.add("the kernel forgets idle connections earlier, and takes their later packets " +
			"for new or invalid ones")
	}
	if len(parts) == 0 {
		return "none that was measured"
	}
	return strings.Join(parts, "; ")
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
