package scenarios

import (
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/ctload/ctload/internal/actions"
)

// Messages for a value of another type than expected.
const (
	steadyWhat  = "steady is a list of expressions, as probe.loss == 0"
	actionsWhat = "actions must be a list; each has a kind (action: flush) and a time (at: 10s)"
)

// listOf returns a list at the top of a file; empty where there is none.
func listOf(p *problems, root *node, key, what string) *node {
	n := root.get(key)
	if n == nil {
		return &node{kind: list, at: root.at}
	}
	return needList(p, n, what)
}

func needList(p *problems, n *node, what string) *node {
	if n.kind != list && !n.empty() {
		p.errorf(n.at, "%s; this is %s", what, n.what())
	}
	if n.kind != list {
		return &node{kind: list, at: n.at}
	}
	return n
}

// given returns the value of a key, also a null; nil where the key is missing.
func given(n *node, key string) *node {
	for _, e := range n.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// overlaySteady returns the steady states of a scenario: its own, or the base's.
func overlaySteady(p *problems, base, scenario *node) *node {
	switch over := given(scenario, "steady"); {
	case over == nil:
		return base
	case over.empty():
		return &node{kind: list, at: over.at}
	default:
		return needList(p, over, steadyWhat)
	}
}

// overlayActions applies the actions of a mapping to those of base: changes by name, a list that
// replaces them, or none.
func overlayActions(p *problems, base, from *node) *node {
	over := given(from, "actions")
	switch {
	case over == nil:
		return base
	case over.empty():
		return &node{kind: list, at: over.at}
	case over.kind != mapping:
		return needList(p, over, "a scenario changes actions by name, or gives a list of its own")
	case base == nil || base.kind != list || len(base.items) == 0:
		p.errorf(over.at, "there are no actions to change; actions are a list")
		return &node{kind: list, at: over.at}
	}
	checkNamed(p, over, "action", actionNames(base))
	return overlayNamed(base, over, actionNames, actionMoment)
}

// overlayNamed changes items of a list by their names, or merges two sets of such changes; an empty
// change removes the item. apart are keys of which each removes the others.
func overlayNamed(base, over *node, namesOf func(*node) []string, apart []string) *node {
	if over.kind != mapping {
		return over
	}
	if base.kind == mapping {
		return overlayOverrides(base, over)
	}
	changed := *base
	changed.items = slices.Clone(base.items)
	names := namesOf(base)
	for _, e := range over.entries {
		i := slices.Index(names, e.key)
		if i < 0 || e.value.kind != mapping && !e.value.empty() {
			continue // reported by checkNamed
		}
		below := changed.items[i]
		if slices.ContainsFunc(apart, func(key string) bool { return e.value.get(key) != nil }) {
			for _, key := range apart {
				below = below.without(key)
			}
		}
		changed.items[i] = overlayKeys(below, e.value)
	}
	changed.items = slices.DeleteFunc(changed.items, func(item *node) bool { return item.taken })
	return &changed
}

// actionMoment are the keys that say when an action comes. An override that gives one of them
// removes the others.
var actionMoment = []string{"at", "phase", "when", "after"}

// actionNames returns the names of actions, given or by default.
func actionNames(actions *node) []string {
	return namesBy(actions, func(item *node) string {
		if kind := item.get("action"); kind != nil && kind.kind == scalar {
			return kind.text
		}
		return "action"
	})
}

// normaliseActions gives the settings and rules of actions their current form.
func (p normaliser) normaliseActions(actions *node) *node {
	changed := *actions
	one := func(action *node) *node {
		if action.kind != mapping {
			return action
		}
		if sysctl := action.get("sysctl"); sysctl != nil {
			action = normaliseSysctl(p.problems, action, sysctlMapping(p.problems, sysctl))
		}
		action = p.normaliseRules(action)
		if modules := action.get("modules"); modules != nil && modules.kind == list {
			action = action.with("modules", positionOf(action, "modules"), normaliseModules(p.problems, modules))
		}
		return action
	}
	changed.items = slices.Clone(actions.items)
	for i, item := range changed.items {
		changed.items[i] = one(item)
	}
	changed.entries = slices.Clone(actions.entries)
	for i, e := range changed.entries {
		changed.entries[i].value = one(e.value)
	}
	return &changed
}

// finishAction gives a decoded action the defaults of the language.
func finishAction(a *Action, n *node, name string) {
	if a.Name == "" {
		a.Name = name
	}
	keys := a.Kind.Fact().Keys
	if slices.Contains(keys, "node") {
		orDefault(n, "node", &a.Node, nodeDUT)
	}
	if slices.Contains(keys, "link") {
		orDefault(n, "link", &a.Link, nodeDUT+"/"+nodeClient)
	}
	if a.Kind == actions.Network {
		orDefault(n, "direction", &a.Direction, BothWays)
	}
	if a.Kind.Undoable() {
		orDefault(n, "times", &a.Times, 1)
	}
}

func steadyTree(steady []Expression) *node {
	if len(steady) == 0 {
		return nil
	}
	return valueTree(reflect.ValueOf(steady))
}

func actionsTree(all []Action) *node {
	if len(all) == 0 {
		return nil
	}
	n := &node{kind: list}
	for _, a := range all {
		if a.Every == 0 {
			a.Times = 0 // every implies times: 0
		}
		item := fields(reflect.ValueOf(a), nil)
		if len(a.Sysctl) > 0 {
			item = item.with("sysctl", Position{}, settingsTree(a.Sysctl, nil))
		}
		add := func(key, value string) {
			if item.get(key) == nil {
				item.entries = append(item.entries, entry{key: key, value: text(value)})
			}
		}
		if a.When.Text == "" {
			add("at", a.At.String())
		}
		if a.Kind == actions.Network && !slices.ContainsFunc(actions.ConditionKeys, func(key string) bool { return item.get(key) != nil }) {
			add("loss", a.Loss.String()) // 0%, one of the values of a matrix
		}
		n.items = append(n.items, item)
	}
	return n
}

// changedActions returns the keys that a scenario needs where its actions or its steady states
// differ from the experiment's.
func changedActions(r Resolved, e *Experiment) []entry {
	var changed []entry
	for _, part := range []struct {
		key         string
		own, shared *node
	}{{"steady", steadyTree(r.Steady), steadyTree(e.Steady)}, {"actions", actionsTree(r.Actions), actionsTree(e.Actions)}} {
		if sameTree(part.own, part.shared) {
			continue
		}
		if part.own == nil {
			part.own = &node{kind: list}
		}
		changed = append(changed, entry{key: part.key, value: part.own})
	}
	return changed
}

// sameTree reports whether two trees are written alike.
func sameTree(a, b *node) bool {
	written := func(n *node) string {
		if n == nil {
			return ""
		}
		return string(write(&node{kind: mapping, entries: []entry{{key: "x", value: n}}}))
	}
	return strings.Compare(written(a), written(b)) == 0
}

// Descriptions of the keys, for the schema.
const (
	steadyMeans = "what normal means: expressions over the fields of the time line, which hold before the first action and again when it has healed"
	actionsMean = "faults and emergency fixes on the time line of a trial"
)

func steadySchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "array", Items: &jsonschema.Schema{Type: "string"}}
}

// actionSchema ties the keys of an action to its kind.
func actionSchema(s *jsonschema.Schema) {
	for _, word := range actions.Kind("").Words() {
		is := jsonschema.NewProperties()
		is.Set("action", &jsonschema.Schema{Const: word})
		names := &jsonschema.Schema{}
		for _, key := range keysOf(actions.Kind(word)) {
			names.Enum = append(names.Enum, key)
		}
		s.AllOf = append(s.AllOf, &jsonschema.Schema{
			If:   &jsonschema.Schema{Properties: is, Required: []string{"action"}},
			Then: &jsonschema.Schema{PropertyNames: names},
		})
	}
}
