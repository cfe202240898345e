package scenarios

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// FuzzWrite: any text in an experiment is read as it was written.
func FuzzWrite(f *testing.F) {
	for _, text := range []string{
		"", " ", "a", "a b", "a: b", "a #b", "- a", "null", "yes", "~", "5", "0x10", ".inf", "<<",
		"*a", "&a", "!a", "%a", "@a", "`a", "a\n", "a\nb\n", " a\nb\n", "a\n\nb\n", "a \n",
		"a\n\n", "\na\n", "\ta\n", "#a\n", "a\tb", "a\r\nb", "---\n", "...\n", "é", "\u0085",
		"\u2028", "\ufeff", "'", `"`, `\`, "{", "}", "[a", "a,b", "|", ">", "? a", "a:", ":a",
		"conntrack.peak <= 10", "a && b || !c", "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n",
		strings.Repeat("x", 300),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) || len(text) > 10000 {
			return // a file cannot hold it
		}
		// YAML bounds a key: 1024 characters at most.
		key := text
		if len(key) > 100 {
			key = "long"
		}
		value := func() *node { return &node{kind: scalar, text: text} }
		tree := &node{kind: mapping, entries: []entry{
			{key: "value", value: value()},
			{key: "list", value: &node{kind: list, items: []*node{
				value(),
				{kind: mapping, entries: []entry{
					{key: "x", value: value()}, {key: "y", value: value()},
				}},
				value(),
			}}},
			{key: "map", value: &node{kind: mapping, entries: []entry{
				{key: "k" + key, value: value()}, {key: "last", value: &node{kind: mapping}},
			}}},
		}}
		p := newProblems()
		again := parse(p, "again.yaml", []byte(write(tree)))
		if err := p.err(); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, write(tree))
		}
		if diff := cmp.Diff(shape(tree), shape(again)); diff != "" {
			t.Fatalf("what was written is read as something else (-was +is):\n%s\n%s",
				diff, write(tree))
		}
	})
}

// shape returns a tree without the places of its parts.
func shape(n *node) any {
	switch n.kind {
	case mapping:
		entries := [][2]any{}
		for _, e := range n.entries {
			entries = append(entries, [2]any{e.key, shape(e.value)})
		}
		return entries
	case list:
		items := []any{}
		for _, item := range n.items {
			items = append(items, shape(item))
		}
		return items
	case scalar:
		return n.text
	}
	return nil
}
