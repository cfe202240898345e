package scenarios

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/actions"
)

// MarshalYAML writes the experiment as it will run: with the selected scenarios, with any matrix
// and extended file written out, and with defaults and current names in place. [Parse] reads it as
// the same experiment. Values that a scenario shares with the dut are written once.
func (e *Experiment) MarshalYAML() ([]byte, error) {
	head := e.Head
	head.Extends, head.Omit = "", nil
	top := fields(head, Head{}).with("recovery", Position{}, e.Recovery.tree()) // also 0s
	top.add("dut", e.DUT.tree(Configuration{}))
	top.add("workload", listTree(e.Workload))
	top.add("steady", listTree(e.Steady))
	top.add("actions", actionsTree(e.Actions))
	scenarios := &node{kind: mapping}
	for _, r := range e.resolved {
		scenario := &node{kind: mapping}
		if r.Summary != "" {
			scenario.add("summary", text(r.Summary))
		}
		scenario.entries = append(scenario.entries, r.DUT.tree(e.DUT).entries...)
		own := func(key string, own, shared *node) {
			if !reflect.DeepEqual(own, shared) {
				scenario.add(key, cmp.Or(own, &node{kind: list}))
			}
		}
		own("workload", listTree(r.Workload), listTree(e.Workload))
		own("steady", listTree(r.Steady), listTree(e.Steady))
		own("actions", actionsTree(r.Actions), actionsTree(e.Actions))
		scenarios.add(r.Name, scenario)
	}
	top.add("scenarios", scenarios)
	thresholds := &node{kind: mapping}
	for _, t := range e.Thresholds {
		if !thresholds.has(t.Scenario) {
			thresholds.add(t.Scenario, &node{kind: list})
		}
		of := thresholds.get(t.Scenario)
		of.items = append(of.items, text(t.Expression))
	}
	if len(e.Thresholds) > 0 {
		top.add("thresholds", thresholds)
	}
	return []byte(write(top)), nil
}

// Written returns entries of a workload, or actions, as a file writes them, without keys at their
// default: each value is a string, a number, a truth value, a list or a mapping.
func Written[T Entry | Action](all []T) []map[string]any {
	var tree *node
	switch all := any(all).(type) {
	case []Entry:
		tree = listTree(all)
	case []Action:
		tree = actionsTree(all)
	}
	if tree == nil {
		return nil
	}
	list := make([]map[string]any, len(tree.items))
	for i, item := range tree.items {
		list[i], _ = item.plain().(map[string]any)
	}
	return list
}

// plain returns the value of a node for JSON.
func (n *node) plain() any {
	switch n.kind {
	case mapping:
		m := map[string]any{}
		for _, e := range n.entries {
			m[e.key] = e.value.plain()
		}
		return m
	case list:
		all := make([]any, len(n.items))
		for i, item := range n.items {
			all[i] = item.plain()
		}
		return all
	case scalar:
		if n.text == "true" || n.text == "false" {
			return n.text == "true"
		}
		if number, err := strconv.ParseInt(n.text, 10, 53); err == nil {
			return number
		}
		return n.text
	}
	return nil
}

// add appends a key to a mapping that is under construction, unless it has no value.
func (n *node) add(key string, value *node) {
	if value != nil {
		n.entries = append(n.entries, entry{key: key, value: value})
	}
}

func text(value string) *node { return &node{kind: scalar, text: value} }

// fields returns the fields of a struct that differ from those of base.
func fields(of, base any) *node {
	v, below := reflect.ValueOf(of), reflect.ValueOf(base)
	n := &node{kind: mapping}
	for field, value := range v.Fields() {
		key := fieldKey(field)
		switch {
		case reflect.DeepEqual(value.Interface(), below.FieldByIndex(field.Index).Interface()):
		case value.IsZero():
			n.add(key, &node{}) // "key:" alone removes what base has
		default:
			n.add(key, valueTree(value))
		}
	}
	return n
}

func valueTree(v reflect.Value) *node {
	if v.Kind() == reflect.Pointer {
		return valueTree(v.Elem())
	}
	if own, ok := v.Interface().(interface{ tree() *node }); ok {
		return own.tree()
	}
	if value, ok := v.Interface().(encoding.TextMarshaler); ok {
		word, _ := value.MarshalText() // no type of the language fails
		return text(string(word))
	}
	switch v.Kind() {
	case reflect.Struct:
		return fields(v.Interface(), reflect.Zero(v.Type()).Interface())
	case reflect.Slice:
		n := &node{kind: list}
		for i := range v.Len() {
			n.items = append(n.items, valueTree(v.Index(i)))
		}
		return n
	}
	return text(fmt.Sprint(v.Interface()))
}

func listTree[T any](values []T) *node {
	if len(values) == 0 {
		return nil
	}
	return valueTree(reflect.ValueOf(values))
}

// tree returns what a configuration has different from another one.
func (c Configuration) tree(base Configuration) *node {
	for _, each := range []*Configuration{&c, &base} {
		each.Rules = withoutNAT(each.NAT, each.Rules)
		each.Rules6 = withoutNAT(each.NAT, each.Rules6)
	}
	n := fields(c, base)
	for key, value := range map[string]*node{
		"rules":   rulesTree(c.Rules, base.Rules),
		"rules6":  rulesTree(c.Rules6, base.Rules6),
		"nft":     textTree(c.NFT),
		"ipset":   textTree(c.IPSet),
		"ipvs":    textTree(c.IPVS),
		"sysctl":  settingsTree(c.Sysctl, base.Sysctl),
		"modules": fields(c.Modules, base.Modules),
	} {
		if i := n.index(key); i >= 0 {
			n.entries[i].value = value
		}
	}
	return n
}

// withoutNAT removes the rules of nat again.
func withoutNAT(nat NAT, rules string) string {
	if nat == NoNAT {
		return rules
	}
	isNAT := func(t table) bool { return t.Name == "nat" }
	return rulesText(slices.DeleteFunc(tablesOf(rules), isNAT))
}

func textTree(script string) *node { return text(cmp.Or(script, noRules)) }

// rulesTree returns the tables that differ from those of base. A scenario without a table that base
// has got there by "none".
func rulesTree(rules, base string) *node {
	below := tablesOf(base)
	return textTree(rulesText(slices.DeleteFunc(tablesOf(rules), func(t table) bool {
		return slices.ContainsFunc(below, func(b table) bool { return t.String() == b.String() })
	})))
}

func settingsTree(settings, base Settings) *node {
	n := &node{kind: mapping}
	for _, s := range settings {
		if slices.Contains(base, s) {
			continue
		}
		if s.Optional {
			s.Key = "-" + s.Key
		}
		n.add(s.Key, text(s.Value))
	}
	for _, b := range base {
		if _, ok := settings.Get(b.Key); !ok {
			n.add(b.Key, &node{})
		}
	}
	return n
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
		item := fields(a, Action{})
		if len(a.Sysctl) > 0 {
			item = item.with("sysctl", Position{}, settingsTree(a.Sysctl, nil))
		}
		if a.When.Text == "" && a.At == 0 {
			item.add("at", text(a.At.String()))
		}
		if a.Kind == actions.Network && !item.has(actions.ConditionKeys...) {
			item.add("loss", text(a.Loss.String())) // 0%, one of the values of a matrix
		}
		n.items = append(n.items, item)
	}
	return n
}

// write returns a mapping or a list as YAML that [parse] reads as the same tree.
func write(n *node) string {
	var b strings.Builder
	for _, e := range n.entries {
		b.WriteString(writeScalar(e.key, plainKey) + ":" + writeValue(e.value))
	}
	for _, item := range n.items {
		if item.kind == mapping && !item.empty() { // its first key stands beside the hyphen
			b.WriteString("-" + indented(write(item))[1:])
		} else {
			b.WriteString("-" + writeValue(item))
		}
	}
	return b.String()
}

// writeValue returns the text after "key:" or "-", with the end of its line.
func writeValue(n *node) string {
	switch {
	case n.kind == null:
		return "\n"
	case n.kind == scalar && blockForm.MatchString(n.text):
		return " |\n" + indented(n.text)
	case n.kind == scalar:
		return " " + writeScalar(n.text, plainScalar) + "\n"
	case !n.empty():
		return "\n" + indented(write(n))
	case n.kind == mapping:
		return " {}\n"
	default:
		return " []\n"
	}
}

var lineStart = regexp.MustCompile(`(?m)^.`)

// indented returns a text with every line indented that is not empty.
func indented(text string) string { return lineStart.ReplaceAllString(text, "  $0") }

var (
	// plainScalar matches text that needs no quotes as a value anywhere: words, numbers and
	// expressions, with single blanks between them.
	plainScalar = regexp.MustCompile(
		`^[A-Za-z0-9/][\w./@+='(),;-]*( [\w./@+=(<>!&|][\w./@+='(),;<>!&|-]*)*$`)
	// plainKey matches text that needs no quotes before a colon.
	plainKey = regexp.MustCompile(`^[A-Za-z0-9/][\w./@+=-]*$`)
	// reserved matches what YAML, of one version or another, takes for something else.
	reserved = regexp.MustCompile(`^(?i:null|true|false|yes|no|on|off|y|n|nan|inf)$|<<`)
	// blockForm matches text that keeps its bytes as a block scalar: lines of visible characters,
	// the first one not indented, ended by one newline.
	blockForm = regexp.MustCompile(`^[!-~]([ -~]*[!-~])?(\n+[ -~]*[!-~])*\n$`)
)

// writeScalar writes a text without quotes where it has the plain form and means nothing else.
func writeScalar(text string, plain *regexp.Regexp) string {
	boolean := text == "true" || text == "false"
	if boolean || plain.MatchString(text) && !reserved.MatchString(text) {
		return text
	}
	return strconv.Quote(text) // a string of Go is one of YAML
}
