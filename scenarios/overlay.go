package scenarios

import (
	"fmt"
	"slices"

	"github.com/ctload/ctload/internal/spelling"
)

// Overlays. The later part wins everywhere, key by key:
//
//   - a plain value or a list replaces the one below it;
//   - sysctl, modules, documentation, phases and thresholds are merged by key;
//   - in rules and rules6 each iptables table replaces the same table, the other tables stay;
//   - workload given as a mapping changes entries of the workload below it, by their names; given
//     as a list it replaces the whole workload; actions likewise;
//   - an empty value removes what is below it.

func overlayDUT(base, over *node) *node {
	if base != nil && (over == nil || over.kind == null) {
		return base
	}
	if base == nil || base.kind != mapping || over.kind != mapping {
		return over
	}
	if over.get("kernel") != nil {
		base = base.without("kernel-modules") // they belong to the kernel below
	}
	for _, e := range over.entries {
		below := base.get(e.key)
		switch e.key {
		case "rules", "rules6":
			base = base.with(e.key, e.at, mergeRules(below, e.value))
		case "sysctl", "modules":
			base = base.with(e.key, e.at, overlayKeys(below, e.value))
		default:
			base = base.with(e.key, e.at, e.value)
		}
	}
	return base
}

func overlayKeys(base, over *node) *node {
	if base != nil && over.empty() {
		return takenAway(over.at)
	}
	if base == nil || base.kind != mapping || over.kind != mapping {
		return over
	}
	merged := *base
	merged.entries = slices.Clone(base.entries)
	index := make(map[string]int, len(merged.entries))
	for i, e := range merged.entries {
		index[e.key] = i
	}
	for _, e := range over.entries {
		i, below := index[e.key]
		switch {
		case !below:
			merged.entries = append(merged.entries, e)
		case e.value.empty():
			merged.entries[i] = entry{e.key, e.at, takenAway(e.value.at)}
		default:
			merged.entries[i] = e
		}
	}
	return &merged
}

// loops are the keys that say how fast a generator goes. Only one of them can hold, so an override
// that gives one removes the others.
var loops = []string{"concurrency", "rate", "stages", "burst", "sine"}

// overlayWorkload applies the workload of a mapping to the one of base: changes by name, or a list
// that replaces it.
func overlayWorkload(p *problems, base, from *node) *node {
	over := from.given("workload")
	switch {
	case over == nil:
		return base
	case over.empty():
		p.errorf(over.at, "the workload is empty: a trial without a load measures nothing; "+
			"give a list of entries, or leave the key out")
		return base
	case over.kind != mapping:
		return over
	case base == nil || base.kind != list:
		p.errorf(over.at, "there is no workload to change; a workload is a list of entries")
		return base
	}
	checkNamed(p, over, "entry of the workload", itemNames(base))
	return overlayNamed(base, over, loops)
}

func checkNamed(p *problems, over *node, what string, names []string) {
	for _, e := range over.entries {
		switch {
		case !slices.Contains(names, e.key):
			p.errorf(e.at, "there is no %s %s%s", what, quote(e.key), spelling.Hint(e.key, names))
		case e.value.kind != mapping && !e.value.empty():
			p.errorf(e.value.at, "the changes of an %s must be keys with values, not %s",
				what, e.value.what())
		}
	}
}

// itemNames returns the names of entries of a workload or of actions, given or by default: their
// kind, with a number where the kind is taken.
func itemNames(items *node) []string {
	names := make([]string, len(items.items))
	taken := map[string]bool{}
	for i, item := range items.items {
		if given := item.scalar("name"); given != nil {
			names[i] = given.text
			taken[given.text] = true
		}
	}
	for i, item := range items.items {
		if names[i] != "" {
			continue
		}
		base := itemKind(item)
		names[i] = base
		for n := 2; taken[names[i]]; n++ {
			names[i] = fmt.Sprintf("%s-%d", base, n)
		}
		taken[names[i]] = true
	}
	return names
}

// itemKind returns the default name of an entry or an action.
func itemKind(item *node) string {
	for _, key := range []string{"action", "generator"} {
		if kind := item.scalar(key); kind != nil {
			return kind.text
		}
	}
	if item.get("probe") != nil {
		return "probe"
	}
	return "entry"
}

// overlayScenario overlays a scenario of a file on the one of the same name in the extended file.
// An empty one is a scenario without changes, as everywhere.
func overlayScenario(base, over *node) *node {
	if base == nil || over.empty() {
		return over
	}
	merged := overlayDUT(base, over)
	for _, key := range []string{"workload", "actions"} {
		below, above := base.get(key), over.get(key)
		switch {
		case below == nil || above == nil || above.empty():
		case key == "workload":
			merged = merged.with(key, above.at, overlayOverrides(below, above))
		default:
			merged = merged.with(key, above.at, overlayNamed(below, above, actionMoment))
		}
	}
	return merged
}

// overlayOverrides merges two sets of changes to a workload.
func overlayOverrides(base, over *node) *node {
	if base.kind != mapping || over.kind != mapping {
		return over
	}
	for _, e := range over.entries {
		value := e.value
		if below := base.get(e.key); below != nil {
			value = overlayKeys(below, value)
		}
		base = base.with(e.key, e.at, value)
	}
	return base
}

func overlayFile(p *problems, base, over *node) *node {
	own := *base
	own.at = over.at
	base = &own
	for _, e := range over.entries {
		below := base.get(e.key)
		value := e.value
		switch e.key {
		case "extends", "omit":
			continue
		case "dut":
			if value.empty() {
				value, below = &node{kind: mapping, at: e.at}, nil
			}
			value = overlayDUT(below, value)
		case "documentation", "thresholds", "phases":
			value = overlayKeys(below, value)
		case "workload":
			value = overlayWorkload(p, below, over)
		case "actions":
			value = overlayActions(p, below, over)
		case "scenarios":
			if below != nil && value.kind == mapping {
				for _, s := range value.entries {
					below = below.with(s.key, s.at, overlayScenario(below.get(s.key), s.value))
				}
				value = below
			}
		}
		base = base.with(e.key, e.at, value)
	}
	return base
}

// needList returns the list of a key; otherwise where it is missing; an empty one for an empty
// value, and for one of another type, which is an error that begins with what.
func needList(p *problems, from *node, key, what string, otherwise *node) *node {
	n := from.given(key)
	if n == nil {
		return otherwise
	}
	if n.kind == list {
		return n
	}
	p.refuse(!n.empty(), n.at, "%s; this is %s", what, n.what())
	return &node{kind: list, at: n.at}
}

const steadyWhat = "steady is a list of expressions, such as probe.loss == 0"

// overlayActions applies the actions of a mapping to those of base: changes by name, a list that
// replaces them, or none.
func overlayActions(p *problems, base, from *node) *node {
	over := from.given("actions")
	switch {
	case over == nil:
		return base
	case over.empty() || over.kind != mapping:
		what := "a scenario changes actions by name, or gives a list of its own"
		return needList(p, from, "actions", what, nil)
	case base == nil || base.kind != list || len(base.items) == 0:
		p.errorf(over.at, "there are no actions to change; actions are a list")
		return &node{kind: list, at: over.at}
	}
	checkNamed(p, over, "action", itemNames(base))
	return overlayNamed(base, over, actionMoment)
}

// overlayNamed changes items of a list by their names, or merges two sets of such changes; an empty
// change removes the item. apart are keys of which each removes the others.
func overlayNamed(base, over *node, apart []string) *node {
	if over.kind != mapping {
		return over
	}
	if base.kind == mapping {
		return overlayOverrides(base, over)
	}
	changed := *base
	changed.items = slices.Clone(base.items)
	names := itemNames(base)
	for _, e := range over.entries {
		i := slices.Index(names, e.key)
		if i < 0 || e.value.kind != mapping && !e.value.empty() {
			continue // reported by checkNamed
		}
		below := changed.items[i]
		if e.value.has(apart...) {
			below = below.without(apart...)
		}
		changed.items[i] = overlayKeys(below, e.value)
	}
	changed.items = slices.DeleteFunc(changed.items, func(item *node) bool { return item.taken })
	return &changed
}

// actionMoment are the keys that say when an action comes. An override that gives one of them
// removes the others.
var actionMoment = []string{"at", "phase", "when", "after"}
