package scenarios

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a file. They keep the parser, which is not linear in the number of keys, and the
// expansion of anchors within a fraction of a second, and leave room for the rules of a host with
// thousands of them, which are one token.
const (
	maxBytes  = 1 << 20
	maxTokens = 12000
	maxNodes  = 10000
	maxDepth  = 40
)

type kind int

const (
	null kind = iota
	scalar
	list
	mapping
)

// node is a part of a file. Nodes are immutable once parsed: overlays and the matrix share what
// they do not change.
type node struct {
	kind    kind
	at      Position
	text    string     // of a scalar
	literal bool       // a block scalar |: line i of text is line at.Line+1+i of the file
	lines   []Position // of a text of several lines: where each comes from, where that is known
	rules   *ruleSet   // of rules and rules6, once they are normalised
	items   []*node
	entries []entry
}

// entry is a key of a mapping with its value, in the order of the file.
type entry struct {
	key   string
	at    Position // of the key
	value *node
}

// get is the value of a key; nil where the key is missing or has no value, which is the same in
// the language: "key:" alone takes an inherited value away.
func (n *node) get(key string) *node {
	if n != nil {
		for _, e := range n.entries {
			if e.key == key && e.value.kind != null {
				return e.value
			}
		}
	}
	return nil
}

// place is where the value of a key stands, or the mapping where the key is missing.
func (n *node) place(key string) Position {
	for _, e := range n.entries {
		if e.key == key {
			return e.value.at
		}
	}
	return n.at
}

// with is a copy of a mapping in which a key has another value; a new key goes to the end.
func (n *node) with(key string, at Position, value *node) *node {
	changed := *n
	changed.entries = slices.Clone(n.entries)
	for i, e := range changed.entries {
		if e.key == key {
			changed.entries[i] = entry{key, at, value}
			return &changed
		}
	}
	changed.entries = append(changed.entries, entry{key, at, value})
	return &changed
}

// without is a copy of a mapping that lacks a key.
func (n *node) without(key string) *node {
	changed := *n
	changed.entries = slices.DeleteFunc(slices.Clone(n.entries), func(e entry) bool { return e.key == key })
	return &changed
}

// lineAt is the position of a line of a text (from 0). Only block scalars keep their lines.
func (n *node) lineAt(line int) Position {
	if line < len(n.lines) {
		return n.lines[line]
	}
	return n.at
}

// what names the kind of a node for a message.
func (n *node) what() string {
	switch n.kind {
	case null:
		return "nothing"
	case scalar:
		return quote(n.text)
	case list:
		return "a list"
	default:
		return "a mapping"
	}
}

// parse reads one YAML document whose top is a mapping. Problems go to p; the result is nil when
// there is no tree to go on with.
func parse(p *problems, file string, data []byte) (top *node) {
	if len(data) > maxBytes {
		p.errorf(Position{File: file}, "the file is longer than %s", Size(maxBytes))
		return nil
	}
	p.sources[file] = strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	if at := bytes.IndexByte(data, 0); at >= 0 {
		p.errorf(Position{file, 1 + bytes.Count(data[:at], []byte("\n")), 1}, "the file holds a NUL byte; it is not text")
		return nil
	}
	defer func() {
		// The parser is a large piece of code that meets whatever users write; a panic in it is a file
		// that cannot be read, not the end of the program.
		if r := recover(); r != nil {
			p.errorf(Position{File: file}, "the file is not YAML that can be read: %v", r)
			top = nil
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if len(tokens) > maxTokens {
		p.errorf(Position{File: file}, "the file has more than %d parts", maxTokens)
		return nil
	}
	if nesting(tokens) > maxDepth {
		p.errorf(Position{File: file}, "the file is nested more than %d deep", maxDepth)
		return nil
	}
	parsed, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at := syntaxPosition(file, err)
		hint := ""
		if at.Line > 0 && at.Line <= len(p.sources[file]) && strings.HasPrefix(strings.TrimLeft(p.sources[file][at.Line-1], " "), "\t") {
			hint = "; lines are indented with spaces, not with tabs"
		}
		p.errorf(at, "not valid YAML: %s%s", syntaxMessage(err), hint)
		return nil
	}
	b := &builder{problems: p, file: file, anchors: map[string]*node{}}
	for _, doc := range parsed.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if top != nil {
			p.errorf(b.position(doc.Body), "a second document: a file holds one experiment")
			break
		}
		top = b.build(doc.Body, 0)
	}
	switch {
	case b.full:
		return nil
	case top == nil || top.kind == null:
		p.errorf(Position{File: file}, "the file is empty")
		return nil
	case top.kind != mapping:
		p.errorf(top.at, "an experiment is a mapping of keys to values, not %s", top.what())
		return nil
	}
	return top
}

// nesting is an upper bound of the depth of a file, found before it is parsed: flow brackets that
// are open at once, and the dashes and question marks of one line ("- - - x"). The depth of blocks
// that are indented is bounded by the tree's own count.
func nesting(tokens token.Tokens) int {
	deepest, open, entries, line := 0, 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			open++
		case token.SequenceEndType, token.MappingEndType:
			open = max(open-1, 0)
		case token.SequenceEntryType, token.MappingKeyType:
			if t.Position.Line != line {
				entries, line = 0, t.Position.Line
			}
			entries++
		}
		deepest = max(deepest, open+entries)
	}
	return deepest
}

func syntaxPosition(file string, err error) Position {
	var e yaml.Error
	if errors.As(err, &e) && e.GetToken() != nil && e.GetToken().Position != nil {
		at := e.GetToken().Position
		return Position{file, max(at.Line, 1), max(at.Column, 1)}
	}
	return Position{File: file}
}

func syntaxMessage(err error) string {
	var e yaml.Error
	if errors.As(err, &e) {
		return e.GetMessage()
	}
	return err.Error()
}

// builder turns the parser's tree into ours.
type builder struct {
	*problems
	file    string
	anchors map[string]*node
	open    []string // anchors whose value is being built
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
	if t := n.GetToken(); t != nil && t.Position != nil {
		return Position{b.file, max(t.Position.Line, 1), max(t.Position.Column, 1)}
	}
	return Position{File: b.file}
}

// count bounds the size of the tree, whatever anchors multiply it to.
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
		return &node{at: at}
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
		return &node{kind: scalar, at: at, text: v.Value}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return &node{kind: scalar, at: at, text: n.GetToken().Value}
	case *ast.AnchorNode:
		return b.anchor(v, depth)
	case *ast.AliasNode:
		return b.alias(v, at, depth)
	case *ast.TagNode:
		b.errorf(at, "%s: tags are not part of the language", quote(v.Start.Value))
		return &node{at: at}
	}
	b.errorf(at, "%s is not part of the language", quote(n.Type().YAMLName()))
	return &node{at: at}
}

// blockLines are the places of the lines of a block scalar. Those of "|" are as in the file; those
// of ">" are folded into others, and their places are not known.
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

func (b *builder) anchor(v *ast.AnchorNode, depth int) *node {
	name := tokenText(v.Name)
	b.open = append(b.open, name)
	built := b.build(v.Value, depth+1)
	b.open = b.open[:len(b.open)-1]
	b.anchors[name] = built
	return built
}

func (b *builder) alias(v *ast.AliasNode, at Position, depth int) *node {
	name := tokenText(v.Value)
	if slices.Contains(b.open, name) {
		b.errorf(at, "the anchor %s refers to itself", quote(name))
		return &node{at: at}
	}
	target := b.anchors[name]
	if target == nil {
		known := make([]string, 0, len(b.anchors))
		for each := range b.anchors {
			known = append(known, each)
		}
		slices.Sort(known)
		b.errorf(at, "there is no anchor %s above%s", quote(name), meant(name, known))
		return &node{at: at}
	}
	size, deep := measure(target)
	b.count(at, size, depth+deep)
	return target
}

// measure is the number of nodes of a tree and its depth.
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

// merge is what "<<:" brings in: the entries of one mapping, or of several, the first one winning.
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
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
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
