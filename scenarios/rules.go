package scenarios

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ctload/ctload/internal/rules"
)

// noRules is the text that removes inherited rules.
const noRules = "none"

// rulesKeys are the keys with rules of iptables, in the order of their families.
var rulesKeys = []string{"rules", "rules6"}

// table is one table of an iptables-save text with the node that it was read from.
type table struct {
	*rules.Table
	from *node
}

// place returns the position of a line of the table in the file.
func (t table) place(at rules.Position) Position { return t.from.lineAt(at.Line - 1) }

// rulesOf returns the tables of a normalised node; none where it is missing or no text.
func rulesOf(n *node) []table {
	if n == nil {
		return nil
	}
	return n.rules
}

// familyOf returns the family of rules or rules6.
func familyOf(key string) Family {
	if key == "rules6" {
		return IPv6
	}
	return IPv4
}

// parseRules parses an iptables-save text. It reports what iptables-restore refuses in the frame of
// the rules; the real tool in the DUT judges the rules themselves.
func parseRules(p *problems, n *node, family Family) []table {
	if text := strings.TrimSpace(n.text); text == noRules || text == "" {
		return nil
	}
	read := rules.Iptables(ruleFamilies[family], n.text)
	for _, problem := range read.Problems {
		p.errorf(n.placeOf(problem.At), "%s", problem.Text)
	}
	var tables []table
	for _, t := range read.Tables {
		tables = append(tables, table{t, n})
	}
	return tables
}

// ruleFamilies are the names of families in package rules.
var ruleFamilies = map[Family]string{IPv4: rules.IPv4, IPv6: rules.IPv6}

// placeOf returns the place of a word in a text, as exactly as it is known.
func (n *node) placeOf(at rules.Position) Position {
	place := n.lineAt(at.Line - 1)
	if at.Line > len(n.lines) {
		return place
	}
	line := strings.Split(n.text, "\n")[at.Line-1]
	indent := len(line) - len(strings.TrimLeft(line, " "))
	if end := min(at.Column-1, len(line)); end > indent {
		place.Column += utf8.RuneCountInString(line[indent:end])
	}
	return place
}

// checkScript reports what nft refuses in a script. A script that stands alone must also define all
// that it names.
func checkScript(p *problems, n *node, alone bool) {
	read := rules.NFT(n.text)
	if alone {
		read.Problems = append(read.Problems, read.Undefined()...)
	}
	for _, problem := range read.Problems {
		p.errorf(n.placeOf(problem.At), "%s", problem.Text)
	}
}

// rulesNode returns a node for tables, with the text that they make.
func rulesNode(at Position, tables []table) *node {
	return &node{kind: scalar, at: at, text: cmp.Or(rulesText(tables), noRules), rules: tables}
}

// mergeRules overlays one iptables-save text on another: each table that over gives replaces the
// same table of base, the other tables stay. "none", or an empty value, removes all tables.
func mergeRules(base, over *node) *node {
	if base != nil && over.empty() {
		return rulesNode(over.at, nil)
	}
	if base == nil || len(base.rules) == 0 || len(over.rules) == 0 {
		return over
	}
	merged := slices.Clone(base.rules)
	for _, t := range over.rules {
		if i := slices.IndexFunc(merged, func(m table) bool { return m.Name == t.Name }); i >= 0 {
			merged[i] = t
		} else {
			merged = append(merged, t)
		}
	}
	return rulesNode(over.at, merged)
}

// tablesOf parses a text that has been checked.
func tablesOf(text string) []table {
	return parseRules(newProblems(), &node{kind: scalar, text: text}, IPv4)
}

// rulesText returns the input for iptables-restore; "" for no tables.
func rulesText(tables []table) string {
	var b strings.Builder
	for _, t := range tables {
		b.WriteString(t.String())
	}
	return b.String()
}
