package scenarios

import (
	"encoding/json"
	"regexp"
	"strings"
)

// write writes a tree as YAML that [parse] reads as the same tree.
func write(n *node) []byte {
	var b strings.Builder
	writeNode(&b, n, 0)
	return []byte(b.String())
}

// writeNode writes a node at an indentation; the cursor is where its text may begin, and a
// mapping's first key begins there too.
func writeNode(b *strings.Builder, n *node, indent int) {
	pad := strings.Repeat(" ", indent)
	switch {
	case n.kind == mapping && len(n.entries) > 0:
		for i, e := range n.entries {
			if i > 0 {
				b.WriteString(pad)
			}
			b.WriteString(writeScalar(e.key, plainKey) + ":")
			writeValue(b, e.value, indent)
		}
	case n.kind == list && len(n.items) > 0:
		for i, item := range n.items {
			if i > 0 {
				b.WriteString(pad)
			}
			if item.kind == mapping && len(item.entries) > 0 {
				b.WriteString("- ")
				writeNode(b, item, indent+2)
				continue
			}
			b.WriteString("-")
			writeValue(b, item, indent)
		}
	}
}

// writeValue writes the text after "key:" or "-", with the end of its line.
func writeValue(b *strings.Builder, n *node, indent int) {
	pad := strings.Repeat(" ", indent+2)
	switch {
	case n.kind == null:
		b.WriteString("\n")
	case n.kind == mapping && len(n.entries) == 0:
		b.WriteString(" {}\n")
	case n.kind == list && len(n.items) == 0:
		b.WriteString(" []\n")
	case n.kind == scalar && isBlock(n.text):
		b.WriteString(" |\n")
		for line := range strings.Lines(n.text) {
			if line != "\n" {
				b.WriteString(pad)
			}
			b.WriteString(line)
		}
	case n.kind == scalar:
		b.WriteString(" " + writeScalar(n.text, plainScalar) + "\n")
	default:
		b.WriteString("\n" + pad)
		writeNode(b, n, indent+2)
	}
}

// plainScalar matches text that needs no quotes as a value anywhere: words, numbers and
// expressions, with single blanks between them.
var plainScalar = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9_./@+='(),;-]*( [A-Za-z0-9_./@+=(<>!&|][A-Za-z0-9_./@+='(),;<>!&|-]*)*$`)

// plainKey matches text that needs no quotes before a colon.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9_./@+=-]*$`)

// reserved matches words that YAML, of one version or another, takes for something else.
var reserved = regexp.MustCompile(`^(?i:null|true|false|yes|no|on|off|y|n|nan|inf)$`)

// writeScalar writes a text without quotes where it has the plain form and means nothing else.
func writeScalar(text string, plain *regexp.Regexp) string {
	if plain.MatchString(text) && (!reserved.MatchString(text) || text == "true" || text == "false") && !strings.Contains(text, "<<") {
		return text
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b) // a JSON string is a YAML one
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic(err) // a string can always be written
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// isBlock reports whether a text keeps its bytes as a block scalar: lines of visible characters,
// the first one not indented, ended by one newline.
func isBlock(text string) bool {
	if !strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\n\n") || len(text) < 2 {
		return false
	}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if i == 0 && (line == "" || line[0] == ' ') || line != strings.TrimRight(line, " ") {
			return false
		}
		for _, r := range line {
			if r < ' ' || r > '~' {
				return false
			}
		}
	}
	return true
}
