package scenarios

import (
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// iptablesTables are the tables of iptables and ip6tables.
var iptablesTables = []string{"raw", "mangle", "nat", "filter", "security"}

// noRules is the text that takes inherited rules away.
const noRules = "none"

// ruleSet is an iptables-save text taken apart.
type ruleSet struct {
	tables []table
}

// table is one table of an iptables-save text, its lines without the first ("*filter") and the
// last ("COMMIT").
type table struct {
	name  string
	at    Position
	lines []ruleLine
}

type ruleLine struct {
	text  string
	words []string
	at    Position
}

// rulesOf are the tables of a node that is normalised; none where it is missing or no text.
func rulesOf(n *node) []table {
	if n == nil || n.rules == nil {
		return nil
	}
	return n.rules.tables
}

// parseRules splits an iptables-save text into its tables. It checks the frame that
// iptables-restore needs; the rules themselves are judged by the real tool in the DUT.
func parseRules(p *problems, n *node) []table {
	var tables []table
	if text := strings.TrimSpace(n.text); text == noRules || text == "" {
		return nil
	}
	var open *table
	i := -1
	for text := range strings.SplitSeq(n.text, "\n") {
		i++
		at, line := n.lineAt(i), strings.TrimSpace(text)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "*"):
			name := strings.TrimSpace(line[1:])
			if open != nil {
				p.errorf(at, "the table %s begins before %s has ended with COMMIT", quote(name), quote(open.name))
			}
			if !slices.Contains(iptablesTables, name) {
				p.errorf(at, "%s is not a table of iptables%s", quote(name), spelling.Hint(name, iptablesTables))
			} else if slices.ContainsFunc(tables, func(t table) bool { return t.name == name }) {
				p.errorf(at, "the table %s is given twice", quote(name))
			}
			tables = append(tables, table{name: name, at: at})
			open = &tables[len(tables)-1]
		case line == "COMMIT":
			if open == nil {
				p.errorf(at, "COMMIT without a table: a table begins with *filter, *raw, ...")
			}
			open = nil
		case open == nil:
			p.errorf(at, "%s is outside of a table: iptables-save text begins a table with *filter, *raw, ... and ends it with COMMIT", quote(line))
			return tables
		case strings.HasPrefix(line, "-"), strings.HasPrefix(line, ":"), strings.HasPrefix(line, "["):
			words := strings.Fields(line)
			if i := slices.IndexFunc(words, func(word string) bool { return strings.HasPrefix(word, "–") || strings.HasPrefix(word, "—") }); i >= 0 {
				p.errorf(at, "%s begins with a dash where iptables wants hyphens, and is refused by it; write --%s", quote(words[i]), strings.TrimLeft(words[i], "–—"))
			}
			open.lines = append(open.lines, ruleLine{line, words, at})
		default:
			p.errorf(at, "%s is not a line of iptables-save: those are *table, :CHAIN POLICY, -A CHAIN ..., COMMIT and # comments", quote(line))
		}
		if len(p.errors) >= maxProblems {
			return tables
		}
	}
	if open != nil {
		p.errorf(open.at, "the table %s does not end with COMMIT", quote(open.name))
	}
	return tables
}

// rulesNode is a node for tables, with the text that they make.
func rulesNode(at Position, tables []table) *node {
	text := rulesText(tables)
	if text == "" {
		text = noRules
	}
	return &node{kind: scalar, at: at, text: text, rules: &ruleSet{tables}}
}

// mergeRules lays one iptables-save text over another: each table that over gives replaces the
// same table of base, the other tables stay. "none", or an empty value, takes all tables away.
func mergeRules(base, over *node) *node {
	if base != nil && over.empty() {
		return rulesNode(over.at, nil)
	}
	if base == nil || base.rules == nil || over.rules == nil || len(over.rules.tables) == 0 {
		return over
	}
	merged := slices.Clone(base.rules.tables)
	for _, t := range over.rules.tables {
		if i := slices.IndexFunc(merged, func(m table) bool { return m.name == t.name }); i >= 0 {
			merged[i] = t
		} else {
			merged = append(merged, t)
		}
	}
	return rulesNode(over.at, merged)
}

// tablesOf takes a text apart that has been checked.
func tablesOf(text string) []table {
	return parseRules(newProblems(), &node{kind: scalar, text: text})
}

// rulesText is the text that iptables-restore takes; "" for no tables.
func rulesText(tables []table) string {
	var b strings.Builder
	for _, t := range tables {
		b.WriteString("*" + t.name + "\n")
		for _, line := range t.lines {
			b.WriteString(line.text + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}
