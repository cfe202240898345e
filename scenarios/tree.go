package scenarios

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a file. They keep the parser, which is not linear in the number of keys, and the
// expansion of anchors within a fraction of a second. They leave room for the rules of a host with
// thousands of them, which are one token.
const (
	maxBytes  = 8 << 20
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
	lines   []Position // of a text of several lines: the origin of each, where known
	rules   []table    // of rules and rules6, once they are normalised
	items   []*node
	entries []entry
	taken   bool // of a null: it removed a value of the dut or of the extended file
	lax     bool // of a sysctl: a kernel may lack or refuse it
}

type entry struct {
	key   string
	at    Position // of the key
	value *node
}

// get returns the value of a key; nil where the key is missing or has no value, which is the same
// in the language: "key:" alone removes an inherited value.
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

// empty reports whether a node is a null, a mapping without keys or a list without items. Over a
// value that is merged it removes that value.
func (n *node) empty() bool {
	return n.kind != scalar && len(n.entries) == 0 && len(n.items) == 0
}

// takenAway returns what an empty value leaves of the one below it.
func takenAway(at Position) *node { return &node{at: at, taken: true} }

func (n *node) index(key string) int {
	return slices.IndexFunc(n.entries, func(e entry) bool { return e.key == key })
}

// given returns the value of a key, also a null; nil where the key is missing.
func (n *node) given(key string) *node {
	if i := n.index(key); i >= 0 {
		return n.entries[i].value
	}
	return nil
}

// scalar returns the value of a key where that is a scalar, else nil.
func (n *node) scalar(key string) *node {
	if value := n.get(key); value != nil && value.kind == scalar {
		return value
	}
	return nil
}

func (n *node) has(keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return n.get(key) != nil })
}

// place returns the position of the value of a key, or of the mapping where the key is missing.
func (n *node) place(key string) Position {
	if value := n.given(key); value != nil {
		return value.at
	}
	return n.at
}

// keyPlace returns the position of a key, or of the mapping where the key is missing.
func (n *node) keyPlace(key string) Position {
	if i := n.index(key); i >= 0 {
		return n.entries[i].at
	}
	return n.at
}

func (n *node) keys() []string {
	if n == nil {
		return nil
	}
	var keys []string
	for _, e := range n.entries {
		keys = append(keys, e.key)
	}
	return keys
}

// with returns a copy of a mapping in which a key has another value; a new key goes to the end.
func (n *node) with(key string, at Position, value *node) *node {
	changed := *n
	changed.entries = slices.Clone(n.entries)
	if i := n.index(key); i >= 0 {
		changed.entries[i] = entry{key, at, value}
	} else {
		changed.entries = append(changed.entries, entry{key, at, value})
	}
	return &changed
}

func (n *node) without(keys ...string) *node {
	changed := *n
	changed.entries = slices.DeleteFunc(slices.Clone(n.entries), func(e entry) bool {
		return slices.Contains(keys, e.key)
	})
	return &changed
}

// change returns a copy of a mapping in which f has changed the value of a key, if there is one.
func (n *node) change(key string, f func(*node) *node) *node {
	if value := n.get(key); value != nil {
		return n.with(key, n.keyPlace(key), f(value))
	}
	return n
}

// each returns a copy of a list or a mapping in which f has changed every item and value.
func (n *node) each(f func(*node) *node) *node {
	changed := *n
	changed.items, changed.entries = slices.Clone(n.items), slices.Clone(n.entries)
	for i, item := range changed.items {
		changed.items[i] = f(item)
	}
	for i, e := range changed.entries {
		changed.entries[i].value = f(e.value)
	}
	return &changed
}

// lineAt returns the position of a line of a text (from 0). Only block scalars keep their lines.
func (n *node) lineAt(line int) Position {
	if line < len(n.lines) {
		return n.lines[line]
	}
	return n.at
}

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

// parse reads one YAML document whose top is a mapping. Problems go to p; the result is nil when no
// tree is left to go on with.
func parse(p *problems, file string, data []byte) (top *node) {
	whole := Position{File: file}
	if len(data) > maxBytes {
		p.errorf(whole, "the file is longer than %s", Size(maxBytes))
		return nil
	}
	lines := strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	p.sources[file] = lines
	if before, _, found := bytes.Cut(data, []byte{0}); found {
		line := 1 + bytes.Count(before, []byte("\n"))
		p.errorf(Position{file, line, 1}, "the file holds a NUL byte; it is not text")
		return nil
	}
	defer func() {
		// The parser is a large piece of code that gets whatever users write: a panic in it means
		// an unreadable file, not the end of the program.
		if r := recover(); r != nil {
			p.errorf(whole, "the file is not YAML that can be read: %v", r)
			top = nil
		}
	}()
	tokens := lexer.Tokenize(string(data))
	switch {
	case len(tokens) > maxTokens:
		p.errorf(whole, "the file has more than %d parts", maxTokens)
		return nil
	case nesting(tokens) > maxDepth:
		p.errorf(whole, "the file is nested more than %d deep", maxDepth)
		return nil
	}
	parsed, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at, message := syntaxError(file, err)
		if at.Line > 0 && at.Line <= len(lines) &&
			strings.HasPrefix(strings.TrimLeft(lines[at.Line-1], " "), "\t") {
			message += "; lines are indented with spaces, not with tabs"
		}
		p.errorf(at, "not valid YAML: %s", message)
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
	case top == nil || top.kind == null:
		p.errorf(whole, "the file is empty")
	case top.kind != mapping:
		p.errorf(top.at, "an experiment must be a mapping of keys to values, not %s", top.what())
	default:
		return top
	}
	return nil
}

// nesting returns an upper bound of the depth of a file, before it is parsed: open flow brackets,
// and the dashes and question marks of one line ("- - - x"). The tree's own count bounds the depth
// of indented blocks.
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

func syntaxError(file string, err error) (at Position, message string) {
	var e yaml.Error
	if !errors.As(err, &e) {
		return Position{File: file}, err.Error()
	}
	return positionOf(file, e.GetToken()), e.GetMessage()
}

// positionOf returns the position of a token; the file alone where the parser does not know it.
func positionOf(file string, t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{File: file}
	}
	return Position{file, max(t.Position.Line, 1), max(t.Position.Column, 1)}
}
