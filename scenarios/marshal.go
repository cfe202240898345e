package scenarios

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

// MarshalYAML writes the experiment as it will run: with the selected scenarios, with any matrix
// and extended file written out, and with defaults and current names in place. [Parse] reads it as
// the same experiment. What a scenario shares with the dut is written once.
func (e *Experiment) MarshalYAML() ([]byte, error) {
	top := &node{kind: mapping}
	add := func(key string, value *node) {
		if value != nil {
			top.entries = append(top.entries, entry{key: key, value: value})
		}
	}
	add("experiment", text(e.Name))
	if e.Summary != "" {
		add("summary", text(e.Summary))
	}
	add("documentation", fields(reflect.ValueOf(e.Documentation), nil))
	add("topology", fields(reflect.ValueOf(e.Topology), nil))
	add("dut", e.DUT.tree(nil))
	add("phases", e.Phases.tree())
	add("workload", workloadTree(e.Workload))
	add("steady", steadyTree(e.Steady))
	add("actions", actionsTree(e.Actions))
	scenarios := &node{kind: mapping}
	for _, r := range e.resolved {
		scenario := r.DUT.tree(&e.DUT)
		if scenario == nil {
			scenario = &node{kind: mapping}
		}
		if !reflect.DeepEqual(r.Workload, e.Workload) {
			scenario.entries = append(scenario.entries, entry{key: "workload", value: workloadTree(r.Workload)})
		}
		scenario.entries = append(scenario.entries, changedActions(r, e)...)
		if r.Summary != "" {
			scenario.entries = slices.Insert(scenario.entries, 0, entry{key: "summary", value: text(r.Summary)})
		}
		scenarios.entries = append(scenarios.entries, entry{key: r.Name, value: scenario})
	}
	add("scenarios", scenarios)
	add("trials", text(strconv.Itoa(e.Trials)))
	if e.Seed != 0 {
		add("seed", text(strconv.FormatUint(e.Seed, 10)))
	}
	add("recovery", e.Recovery.tree())
	add("sampling", text(e.Sampling.String()))
	add("thresholds", thresholdsTree(e.Thresholds))
	return write(top), nil
}

func text(value string) *node { return &node{kind: scalar, text: value} }

// fields returns the fields of a struct that have a value, or that differ from those of base; nil
// when there are none.
func fields(v reflect.Value, base *reflect.Value) *node {
	n := &node{kind: mapping}
	for i := range v.NumField() {
		key := fieldKey(v.Type().Field(i))
		switch {
		case base == nil && v.Field(i).IsZero():
			continue
		case base != nil && reflect.DeepEqual(v.Field(i).Interface(), base.Field(i).Interface()):
			continue
		}
		value := valueTree(v.Field(i))
		if v.Field(i).IsZero() {
			value = &node{} // "key:" alone removes what base has
		}
		n.entries = append(n.entries, entry{key: key, value: value})
	}
	if len(n.entries) == 0 {
		return nil
	}
	return n
}

func valueTree(v reflect.Value) *node {
	if v.Kind() == reflect.Pointer {
		return valueTree(v.Elem())
	}
	if marshaler, ok := v.Interface().(encoding.TextMarshaler); ok {
		word, err := marshaler.MarshalText()
		if err != nil {
			panic(err) // none of the package's types fails
		}
		return text(string(word))
	}
	switch v.Kind() {
	case reflect.Struct:
		if n := fields(v, nil); n != nil {
			return n
		}
		return &node{kind: mapping}
	case reflect.Slice:
		n := &node{kind: list}
		for i := range v.Len() {
			n.items = append(n.items, valueTree(v.Index(i)))
		}
		return n
	}
	return text(fmt.Sprint(v.Interface()))
}

func workloadTree(workload []Entry) *node { return valueTree(reflect.ValueOf(workload)) }

// tree returns a configuration, or its difference from another one.
func (c Configuration) tree(base *Configuration) *node {
	c.Rules, c.Rules6 = withoutNAT(c.NAT, c.Rules), withoutNAT(c.NAT, c.Rules6)
	var below *reflect.Value
	var b Configuration
	if base != nil {
		b = *base
		b.Rules, b.Rules6 = withoutNAT(b.NAT, b.Rules), withoutNAT(b.NAT, b.Rules6)
		v := reflect.ValueOf(b)
		below = &v
	}
	n := fields(reflect.ValueOf(c), below)
	if n == nil {
		return nil
	}
	for i, e := range n.entries {
		switch e.key {
		case "rules":
			n.entries[i].value = rulesTree(c.Rules, b.Rules)
		case "rules6":
			n.entries[i].value = rulesTree(c.Rules6, b.Rules6)
		case "nft":
			n.entries[i].value = textTree(c.NFT)
		case "ipvs":
			n.entries[i].value = textTree(c.IPVS)
		case "sysctl":
			n.entries[i].value = settingsTree(c.Sysctl, b.Sysctl)
		case "modules":
			n.entries[i].value = modulesTree(c.Modules, b.Modules)
		}
	}
	return n
}

// withoutNAT removes the rules of nat again.
func withoutNAT(nat NAT, rules string) string {
	if nat == NoNAT {
		return rules
	}
	return rulesText(slices.DeleteFunc(tablesOf(rules), func(t table) bool { return t.Name == "nat" }))
}

func textTree(script string) *node {
	if script == "" {
		script = noRules
	}
	return text(script)
}

// rulesTree returns the tables that differ from those of base. A scenario without a table that base
// has got there by "none".
func rulesTree(rules, base string) *node {
	below := tablesOf(base)
	changed := slices.DeleteFunc(tablesOf(rules), func(t table) bool {
		return slices.ContainsFunc(below, func(b table) bool {
			return t.String() == b.String()
		})
	})
	return textTree(rulesText(changed))
}

func settingsTree(settings, base Settings) *node {
	n := &node{kind: mapping}
	for _, s := range settings {
		if below, ok := base.Get(s.Key); !ok || below != s.Value {
			n.entries = append(n.entries, entry{key: s.Key, value: text(s.Value)})
		}
	}
	for _, b := range base {
		if _, ok := settings.Get(b.Key); !ok {
			n.entries = append(n.entries, entry{key: b.Key, value: &node{}})
		}
	}
	return n
}

func modulesTree(modules, base Modules) *node {
	v, below := reflect.ValueOf(modules), reflect.ValueOf(base)
	if n := fields(v, &below); n != nil {
		return n
	}
	return &node{kind: mapping}
}

func thresholdsTree(thresholds []Threshold) *node {
	if len(thresholds) == 0 {
		return nil
	}
	n := &node{kind: mapping}
	for _, t := range thresholds {
		if n.get(t.Scenario) == nil {
			n.entries = append(n.entries, entry{key: t.Scenario, value: &node{kind: list}})
		}
		items := n.get(t.Scenario)
		items.items = append(items.items, text(t.Expression))
	}
	return n
}
