package scenarios

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/ctload/ctload/internal/spelling"
)

// builder converts the parser's tree into the package's own.
type builder struct {
	*problems
	file    string
	anchors map[string]*node
	open    []string // anchors whose value is under construction
	nodes   int
	full    bool
}

func (b *builder) position(n ast.Node) Position {
	switch v := n.(type) {
	case *ast.MappingNode: // the token of a block mapping is its first colon
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return b.position(v.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return b.position(v.Key)
	case *ast.AnchorNode:
		if v.Value != nil {
			return b.position(v.Value)
		}
	}
	return positionOf(b.file, n.GetToken())
}

// count bounds the size of the tree, however often anchors multiply it.
func (b *builder) count(at Position, nodes, depth int) bool {
	b.nodes += nodes
	switch {
	case b.full:
		return false
	case depth > maxDepth:
		b.errorf(at, "nested more than %d deep", maxDepth)
	case b.nodes > maxNodes:
		b.errorf(at, "more than %d values, anchors expanded", maxNodes)
	default:
		return true
	}
	b.full = true
	return false
}

func (b *builder) build(n ast.Node, depth int) *node {
	if n == nil {
		return &node{at: Position{File: b.file}}
	}
	at := b.position(n)
	if !b.count(at, 1, depth) {
		return &node{at: at}
	}
	switch v := n.(type) {
	case *ast.NullNode:
	case *ast.MappingNode:
		return b.mapping(at, v.Values, depth)
	case *ast.MappingValueNode:
		return b.mapping(at, []*ast.MappingValueNode{v}, depth)
	case *ast.SequenceNode:
		built := &node{kind: list, at: at}
		for _, item := range v.Values {
			built.items = append(built.items, b.build(item, depth+1))
		}
		return built
	case *ast.LiteralNode:
		return &node{kind: scalar, at: at, text: v.Value.Value, lines: b.blockLines(v, at)}
	case *ast.StringNode:
		if strings.ContainsRune(v.Value, 0) {
			b.errorf(at, "a text with a NUL character")
		}
		return &node{kind: scalar, at: at, text: v.Value}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return &node{kind: scalar, at: at, text: n.GetToken().Value}
	case *ast.AnchorNode:
		name := tokenText(v.Name)
		b.open = append(b.open, name)
		b.anchors[name] = b.build(v.Value, depth+1)
		b.open = b.open[:len(b.open)-1]
		return b.anchors[name]
	case *ast.AliasNode:
		return b.alias(v, at, depth)
	case *ast.TagNode:
		b.errorf(at, "%s: tags are not part of the language", quote(v.Start.Value))
	default:
		b.errorf(at, "%s is not part of the language", quote(n.Type().YAMLName()))
	}
	return &node{at: at}
}

// blockLines returns the positions of the lines of a block scalar. Those of "|" are as in the file;
// those of ">" are folded into others, and their positions are not known.
func (b *builder) blockLines(v *ast.LiteralNode, at Position) []Position {
	if !strings.HasPrefix(v.Start.Value, "|") {
		return nil
	}
	source := b.sources[b.file]
	lines := make([]Position, strings.Count(v.Value.Value, "\n")+1)
	for i := range lines {
		lines[i] = Position{b.file, at.Line + 1 + i, 1}
		if at.Line+i < len(source) {
			text := source[at.Line+i]
			lines[i].Column += len(text) - len(strings.TrimLeft(text, " "))
		}
	}
	return lines
}

func (b *builder) alias(v *ast.AliasNode, at Position, depth int) *node {
	name := tokenText(v.Value)
	target := b.anchors[name]
	switch {
	case slices.Contains(b.open, name):
		b.errorf(at, "the anchor %s refers to itself", quote(name))
	case target == nil:
		hint := spelling.Hint(name, slices.Sorted(maps.Keys(b.anchors)))
		b.errorf(at, "there is no anchor %s above%s", quote(name), hint)
	default:
		size, deep := measure(target)
		b.count(at, size, depth+deep)
		return target
	}
	return &node{at: at}
}

func measure(n *node) (size, depth int) {
	size = 1
	add := func(child *node) {
		s, d := measure(child)
		size, depth = size+s, max(depth, d+1)
	}
	for _, item := range n.items {
		add(item)
	}
	for _, e := range n.entries {
		add(e.value)
	}
	return size, depth
}

func (b *builder) mapping(at Position, values []*ast.MappingValueNode, depth int) *node {
	built := &node{kind: mapping, at: at}
	given := map[string]Position{}
	var merged []entry
	for _, v := range values {
		if _, isMerge := v.Key.(*ast.MergeKeyNode); isMerge {
			merged = append(merged, b.merge(v.Value, depth)...)
			continue
		}
		key, keyAt := b.key(v.Key)
		if first, twice := given[key]; twice {
			b.errorf(keyAt, "the key %s is given twice, first in line %d", quote(key), first.Line)
			continue
		}
		given[key] = keyAt
		built.entries = append(built.entries, entry{key, keyAt, b.build(v.Value, depth+1)})
	}
	for _, e := range merged {
		if _, own := given[e.key]; !own {
			given[e.key] = e.at
			built.entries = append(built.entries, e)
		}
	}
	return built
}

// merge returns what "<<:" adds: the entries of one mapping, or of several, the first one winning.
func (b *builder) merge(value ast.Node, depth int) []entry {
	from := b.build(value, depth+1)
	switch from.kind {
	case mapping:
		return from.entries
	case list:
		var all []entry
		for _, item := range from.items {
			if item.kind != mapping {
				b.errorf(item.at, "<< takes mappings, not %s", item.what())
				continue
			}
			all = append(all, item.entries...)
		}
		return all
	case null: // an alias that has been reported
	default:
		b.errorf(from.at, "<< takes a mapping, not %s", from.what())
	}
	return nil
}

func (b *builder) key(n ast.MapKeyNode) (string, Position) {
	at := b.position(n)
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, at
	case *ast.AnchorNode:
		if key, ok := v.Value.(ast.MapKeyNode); ok {
			return b.key(key)
		}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode,
		*ast.NanNode:
		return n.GetToken().Value, at
	}
	b.errorf(at, "a key is a word, not %s", strings.ToLower(n.Type().YAMLName()))
	return fmt.Sprintf("\x00%d:%d", at.Line, at.Column), at
}

func tokenText(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}
