package scenarios

import (
	"encoding"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const maxScenarios = 256

// axis is a value of the dut or the workload for which a file gives a list.
type axis struct {
	path   []string // keys, and indices of lists, from the top
	label  string
	values *node // a list
}

type variant struct {
	matrix []Setting
	tree   *node
}

// isAxis reports whether a type has one value, so that a list of values is an axis.
func isAxis(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) ||
		t.Kind() != reflect.Struct && t.Kind() != reflect.Slice
}

// axes returns the lists of a tree at places where a type has one value.
func axes(n *node, t reflect.Type, path []string) []axis {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var found []axis
	switch {
	case n == nil:
	case t == reflect.TypeFor[Settings]():
		for _, e := range n.entries {
			if e.value.kind == list {
				label := e.key[strings.LastIndexByte(e.key, '.')+1:]
				found = append(found, axis{extend(path, e.key), label, e.value})
			}
		}
	case isAxis(t):
		if n.kind == list {
			found = append(found, axis{path, path[len(path)-1], n})
		}
	case t.Kind() == reflect.Struct:
		for _, e := range n.entries {
			for field := range t.Fields() {
				if fieldKey(field) == e.key && field.Tag.Get("matrix") != "no" {
					found = append(found, axes(e.value, field.Type, extend(path, e.key))...)
				}
			}
		}
	case t == reflect.TypeFor[Ports](): // a list of them is one value
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		for i, item := range n.items {
			found = append(found, axes(item, t.Elem(), extend(path, strconv.Itoa(i)))...)
		}
	}
	return found
}

func extend(path []string, key string) []string { return append(slices.Clip(path), key) }

func replace(n *node, path []string, value *node) *node {
	if len(path) == 0 {
		return value
	}
	if i := n.index(path[0]); i >= 0 {
		e := n.entries[i]
		return n.with(e.key, e.at, replace(e.value, path[1:], value))
	}
	changed := *n
	changed.items = slices.Clone(n.items)
	index, _ := strconv.Atoi(path[0])
	changed.items[index] = replace(n.items[index], path[1:], value)
	return &changed
}

// expand returns every combination of the values that the tree of a scenario has lists of; the last
// list changes fastest. names are those of the entries of the workload and of the actions.
func expand(p *problems, tree *node, names map[string][]string) []variant {
	variants := []variant{{tree: tree}}
	for _, a := range axes(tree, reflect.TypeFor[Resolved](), nil) {
		if of, ok := names[a.path[0]]; ok && len(a.path) > 1 {
			index, _ := strconv.Atoi(a.path[1])
			a.label = of[index] + "." + a.label
		}
		if len(a.values.items) == 0 {
			p.errorf(a.values.at, "the list is empty: a matrix needs values")
			return nil
		}
		for i, item := range a.values.items {
			p.refuse(item.kind == null, item.at, "an item of the list is empty")
			same := func(other *node) bool { return plainWord(other.text) == plainWord(item.text) }
			if slices.ContainsFunc(a.values.items[:i], same) {
				p.errorf(item.at, "%s is in the list twice", item.what())
				return nil
			}
		}
		if len(variants)*len(a.values.items) > maxScenarios {
			p.errorf(a.values.at, "the lists of values give more than %d scenarios", maxScenarios)
			return nil
		}
		var next []variant
		for _, v := range variants {
			for _, value := range a.values.items {
				chosen := variant{v.matrix, replace(v.tree, a.path, value)}
				if len(a.values.items) > 1 {
					setting := Setting{Key: a.label, Value: value.text}
					chosen.matrix = append(slices.Clip(v.matrix), setting)
				}
				next = append(next, chosen)
			}
		}
		variants = next
	}
	return variants
}

func variantName(name string, matrix []Setting) string {
	for _, s := range matrix {
		name += "@" + plainWord(s.Key) + "=" + plainWord(s.Value)
	}
	return name
}

// variantOf splits such a name, so that an experiment that was written out in full loads as the
// original.
func variantOf(name string) (base string, matrix []Setting) {
	parts := strings.Split(name, "@")
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		matrix = append(matrix, Setting{Key: key, Value: value})
	}
	return parts[0], matrix
}

var unsafeInNames = regexp.MustCompile(`[^\w.-]`)

// plainWord keeps the characters that are safe in a name and in a file name.
func plainWord(text string) string { return unsafeInNames.ReplaceAllString(text, "-") }
