package scenarios

import (
	"slices"
	"strings"
)

// iptablesTables are the tables of iptables and ip6tables.
var iptablesTables = []string{"raw", "mangle", "nat", "filter", "security"}

// noRules is the text that takes inherited rules away.
const noRules = "none"

// table is one table of an iptables-save text, its lines without the first ("*filter") and the
// last ("COMMIT").
type table struct {
	name  string
	at    Position
	lines []ruleLine
}

type ruleLine struct {
	text string
	at   Position
}

// parseRules splits an iptables-save text into its tables. It checks the frame that
// iptables-restore needs; the rules themselves are judged by the real tool in the DUT.
func parseRules(p *problems, n *node) []table {
	var tables []table
	if n == nil || n.kind != scalar || strings.TrimSpace(n.text) == noRules {
		return nil
	}
	var open *table
	for i, text := range strings.Split(n.text, "\n") {
		at, line := n.lineAt(i), strings.TrimSpace(text)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "*"):
			name := strings.TrimSpace(line[1:])
			if open != nil {
				p.errorf(at, "the table %s begins before %s has ended with COMMIT", quote(name), quote(open.name))
			}
			if !slices.Contains(iptablesTables, name) {
				p.errorf(at, "%s is not a table of iptables%s", quote(name), meant(name, iptablesTables))
			}
			if slices.ContainsFunc(tables, func(t table) bool { return t.name == name }) {
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
			open.lines = append(open.lines, ruleLine{line, at})
		default:
			p.errorf(at, "%s is not a line of iptables-save: those are *table, :CHAIN POLICY, -A CHAIN ..., COMMIT and # comments", quote(line))
		}
	}
	if open != nil {
		p.errorf(open.at, "the table %s does not end with COMMIT", quote(open.name))
	}
	return tables
}

// rulesNode puts tables together again, every line with its place.
func rulesNode(at Position, tables []table) *node {
	if len(tables) == 0 {
		return &node{kind: scalar, at: at, text: noRules}
	}
	n := &node{kind: scalar, at: at}
	var text []string
	add := func(line string, at Position) {
		text, n.lines = append(text, line), append(n.lines, at)
	}
	for _, t := range tables {
		add("*"+t.name, t.at)
		for _, line := range t.lines {
			add(line.text, line.at)
		}
		add("COMMIT", t.at)
	}
	n.text = strings.Join(text, "\n") + "\n"
	return n
}

// mergeRules lays one iptables-save text over another: each table that over gives replaces the
// same table of base, the other tables stay. "none" takes all tables away.
func mergeRules(p *problems, base, over *node) *node {
	if base == nil || over.kind != scalar || strings.TrimSpace(over.text) == noRules {
		return over
	}
	merged := parseRules(p, base)
	for _, t := range parseRules(p, over) {
		if i := slices.IndexFunc(merged, func(m table) bool { return m.name == t.name }); i >= 0 {
			merged[i] = t
		} else {
			merged = append(merged, t)
		}
	}
	return rulesNode(over.at, merged)
}

// tablesOf is parseRules for a text that has been checked.
func tablesOf(text string) []table {
	return parseRules(newProblems(), &node{kind: scalar, text: text})
}

// rulesText is the text that iptables-restore takes; "" for no rules.
func rulesText(tables []table) string {
	if len(tables) == 0 {
		return ""
	}
	return rulesNode(Position{}, tables).text
}
