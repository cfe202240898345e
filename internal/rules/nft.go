package rules

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

var families = []string{IPv4, IPv6, "inet", "arp", "bridge", "netdev"}

// script is a script of nft that is being read.
type script struct {
	Ruleset
	source    string
	tokens    []token
	next      int
	from, to  int // where the last statement begins and ends
	at        Position
	variables map[string][]token
	expanded  int // how many tokens variables stood for

	// For [NFTParts]: what can stand in a script of its own, in the order of the source, and the
	// definitions that it needs; ordered: a command takes back what another one did.
	pieces, definitions []piece
	ordered             bool
}

// NFT reads a script as nft -f does, or the output of nft list. The result holds the rules that a
// kernel without rules has after the script: those that the script deletes and flushes are gone.
// Files that it includes are not read. NFT goes on after a problem.
func NFT(text string) Ruleset { return readNFT(text).Ruleset }

func readNFT(text string) *script {
	s := &script{source: text, variables: map[string][]token{}}
	s.tokens = s.lex(text)
	for s.next < len(s.tokens) {
		if t := s.peek(); isSeparator(t) || t.Text == "}" && !t.Quoted {
			if t.Text == "}" {
				s.problem(t.At, "a closing brace without its opening one")
			}
			s.next++
			continue
		}
		s.command()
	}
	return s
}

func isSeparator(t token) bool { return (t.Text == newline || t.Text == ";") && !t.Quoted }

// peek returns the next token; beyond the last one, a newline.
func (s *script) peek() token {
	if s.next < len(s.tokens) {
		return s.tokens[s.next]
	}
	end := len(s.source)
	return token{Text: newline, from: end, to: end}
}

// accept takes the next token if it is one of the words.
func (s *script) accept(words ...string) (string, bool) {
	if t := s.peek(); s.next < len(s.tokens) && !t.Quoted && slices.Contains(words, t.Text) {
		s.next++
		return t.Text, true
	}
	return "", false
}

// word takes the next token unless it ends a statement or begins a block.
func (s *script) word() (token, bool) {
	t := s.peek()
	if isSeparator(t) || !t.Quoted && (t.Text == "{" || t.Text == "}") {
		return token{}, false
	}
	s.next++
	return t, true
}

// maxExpanded bounds what variables stand for in all of a script: each can name another one twice.
const maxExpanded = 1 << 20

// statement takes the tokens up to the end of a statement. Within braces newlines are white space,
// and so are semicolons. Variables are replaced by their values.
func (s *script) statement() []token {
	var list, opened []token
	depth := 0
	s.from, s.to, s.at = s.peek().from, s.peek().from, s.peek().At
	for s.next < len(s.tokens) {
		t := s.tokens[s.next]
		switch {
		case t.Quoted:
		case t.Text == "{":
			depth++
			opened = append(opened, t)
		case t.Text == "}" && depth == 0:
			return list
		case t.Text == "}":
			depth--
			opened = opened[:depth]
		case isSeparator(t) && depth == 0:
			return list
		}
		s.next++
		if t.Text != newline {
			s.to = t.to
		}
		switch name, variable := strings.CutPrefix(t.Text, "$"); {
		case t.Text == newline && !t.Quoted:
		case variable && !t.Quoted && !strings.HasPrefix(name, "{"):
			value, ok := s.variables[name]
			switch {
			case s.expanded+len(value) > maxExpanded:
				s.problem(t.At, "variables stand for more than %d words", maxExpanded)
				value = nil
			case !ok:
				known := slices.Sorted(maps.Keys(s.variables))
				s.problem(t.At, "there is no variable $%s%s", name, spelling.Hint(name, known))
			}
			s.expanded += len(value)
			list = append(list, value...)
		default:
			list = append(list, t)
		}
	}
	if depth > 0 {
		s.problem(opened[depth-1].At, "the brace is not closed")
	}
	return list
}

// block reads the statements between braces, if there are any.
func (s *script) block(each func()) {
	open := s.peek()
	if _, ok := s.accept("{"); !ok {
		return
	}
	for s.next < len(s.tokens) {
		if _, closed := s.accept("}"); closed {
			return
		}
		if isSeparator(s.peek()) {
			s.next++
			continue
		}
		before := s.next
		each()
		if s.next == before {
			s.next++ // a brace that has no place here
		}
	}
	s.problem(open.At, "the brace is not closed")
}

var objectKinds = strings.Fields(
	"set map flowtable counter quota limit secmark synproxy tunnel meter ct")

// objectKind takes the kind of an object, which has two words after ct, as ct helper.
func (s *script) objectKind() (kind string, ok bool) {
	if kind, ok = s.accept(objectKinds...); kind == "ct" {
		of, _ := s.word()
		kind += " " + of.Text
	}
	return kind, ok
}

// verbs and subjects begin a command of the top level.
var (
	verbs = strings.Fields(
		"add create insert replace delete destroy flush reset list rename")
	subjects = strings.Fields(
		"define redefine undefine include table chain rule element ruleset")
)

func (s *script) command() {
	begin := s.peek()
	verb, _ := s.accept(verbs...)
	again := verb != "" && verb != "add" && verb != "create"
	s.ordered = s.ordered || again && len(s.pieces) > 0
	switch word, _ := s.accept(subjects...); {
	case word == "define" || word == "redefine" || word == "undefine":
		s.variable()
		s.definitions = append(s.definitions,
			piece{from: begin.from, to: s.to, line: begin.At.Line})
		s.ordered = s.ordered || word != "define"
	case word == "include" || verb == "list" || verb == "reset" || verb == "rename":
		s.statement()
	case word == "ruleset":
		family, one := s.accept(families...)
		s.statement()
		if verb == "flush" {
			s.flushed = append(s.flushed, family)
			flushed := func(t *Table) bool { return !one || t.Family == family }
			s.Tables = slices.DeleteFunc(s.Tables, flushed)
		}
	case word == "table":
		s.tableCommand(verb)
	case verb == "delete" || verb == "destroy" || verb == "flush":
		s.remove(verb, word)
	case word == "chain":
		if t, name, ok := s.place(); ok {
			s.chain(t, name)
		}
		s.statement()
	case word == "element":
		if t, name, ok := s.place(); ok {
			words := s.elements(t, name)
			s.elementPieces(t, name.Text, begin.from, begin.At.Line, words)
		}
		s.statement()
	case word == "":
		if kind, ok := s.objectKind(); ok {
			if t, name, ok := s.place(); ok {
				s.define(t, kind, name)
			}
			s.statement()
			return
		}
		fallthrough
	default: // a rule, with or without that word
		if t, name, ok := s.place(); ok {
			if _, at := s.accept("position", "handle", "index"); at {
				s.word()
			}
			c := t.chain(name.Text, name.At)
			if r := s.rule(s.statement()); r != nil {
				command := s.source[begin.from:s.to]
				s.pieces = append(s.pieces,
					piece{begin.from, s.to, begin.At.Line, []string{command}})
				r.Chain = c.Name
				if verb == "insert" {
					c.put("-I", 0, r)
				} else {
					c.put("-A", 0, r)
				}
			}
		}
		s.statement()
	}
}

// variable reads the rest of a definition, or of its end.
func (s *script) variable() {
	name, ok := s.word()
	if _, equals := s.accept("="); !ok || !equals {
		delete(s.variables, name.Text)
		s.statement()
		return
	}
	s.variables[name.Text] = s.statement()
}

// place reads [FAMILY] TABLE NAME. The table is made where the script has not done so: it may be
// there already, or nft refuses.
func (s *script) place() (*Table, token, bool) {
	from := s.peek()
	family, _ := s.accept(families...)
	table, ok := s.word()
	name, named := s.word()
	if !ok || !named {
		return nil, name, false
	}
	return s.table(cmp.Or(family, IPv4), table.Text, from.At), name, true
}

func (s *script) table(family, name string, at Position) *Table {
	if t := s.Table(family, name); t != nil {
		return t
	}
	t := &Table{Family: family, Name: name, At: at}
	s.Tables = append(s.Tables, t)
	return t
}

// tableCommand reads a table, with or without a block.
func (s *script) tableCommand(verb string) {
	from := s.tokens[s.next-1]
	family, _ := s.accept(families...)
	family = cmp.Or(family, IPv4)
	name, ok := s.word()
	if !ok {
		s.problem(from.At, "a table without a name")
		s.statement()
		return
	}
	switch there := s.Table(family, name.Text); verb {
	case "delete", "destroy":
		s.statement()
		s.Tables = slices.DeleteFunc(s.Tables, func(t *Table) bool { return t == there })
	case "flush":
		s.statement()
		if there != nil {
			for _, c := range there.Chains {
				c.Rules = nil
			}
		}
	default:
		if next := s.peek(); !isSeparator(next) && next.Text != "{" && next.Text != "}" {
			hint := spelling.Hint(name.Text, families)
			s.problem(name.At, "%q is not a family of tables%s", name.Text, hint)
			s.word()
		}
		t := s.table(family, name.Text, from.At)
		t.declared = true
		s.block(func() { s.inTable(t) })
		s.statement()
		t.text += s.source[from.from:s.tokens[s.next-1].to] + "\n"
	}
}

// inTable reads one thing in the block of a table.
func (s *script) inTable(t *Table) {
	if _, ok := s.accept("define", "redefine", "undefine"); ok {
		s.variable()
		s.ordered = true // it holds in this table alone
		return
	}
	kind, ok := s.accept("chain")
	if !ok {
		kind, ok = s.objectKind()
	}
	name, named := s.word()
	switch {
	case !ok || !named: // flags, a comment
	case kind == "chain":
		s.chain(t, name)
	default:
		s.define(t, kind, name)
	}
	s.statement()
}

func (s *script) chain(t *Table, name token) {
	c := t.chain(name.Text, name.At)
	s.block(func() {
		word, _ := s.accept("type", "policy", "flags", "device", "devices", "comment")
		switch word {
		case "type":
			c.base(s.statement())
		case "policy":
			if policy, ok := s.word(); ok {
				c.Policy = strings.ToUpper(policy.Text)
			}
		case "":
			if r := s.rule(s.statement()); r != nil {
				s.piece("add rule", t, c.Name)
				r.Chain = c.Name
				c.Rules = append(c.Rules, r)
			}
		}
		s.statement()
	})
}

// priorities are the names of priorities, in families other than bridge.
var priorities = map[string]int{
	"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100,
}

// base reads "filter hook prerouting priority raw + 5".
func (c *Chain) base(words []token) {
	if len(words) > 0 {
		c.Type = words[0].Text
	}
	for i, word := range words[:max(len(words)-1, 0)] {
		switch word.Text {
		case "hook":
			c.Hook = words[i+1].Text
		case "priority":
			var sum strings.Builder
			for _, w := range words[i+1:] {
				sum.WriteString(w.Text)
			}
			name, offset := sum.String(), ""
			if at := strings.IndexAny(name, "+-"); at >= 0 {
				name, offset = name[:at], name[at:]
			}
			c.Priority = priorities[name]
			if n, err := strconv.Atoi(name); err == nil {
				c.Priority = n
			}
			if n, err := strconv.Atoi(offset); err == nil {
				c.Priority += n
			}
		}
	}
}

// remove reads the rest of a command that takes away something in a table; kind is the keyword of
// that thing, or "" for an object. Rules are deleted by handles, which no script knows.
func (s *script) remove(verb, kind string) {
	if kind == "" {
		kind, _ = s.objectKind()
	}
	t, name, ok := s.place()
	s.statement()
	if !ok {
		return
	}
	switch c := t.Chain(name.Text); {
	case kind == "chain" && c != nil:
		c.Rules = nil
		if verb != "flush" {
			t.drop(c)
		}
	case kind == "rule" && c != nil:
		c.Inexact = true
	case verb != "flush":
		t.Objects = slices.DeleteFunc(t.Objects, func(o *Object) bool {
			return o.Kind == kind && o.Name == name.Text
		})
	}
}

func (s *script) define(t *Table, kind string, name token) {
	o := &Object{Kind: kind, Name: name.Text, At: name.At}
	o.Tracks = strings.HasPrefix(kind, "ct ") || kind == "synproxy"
	s.block(func() {
		words := s.statement()
		o.Tracks = o.Tracks || counts(words)
		if len(words) == 0 {
			return
		}
		switch words[0].Text {
		case "elements":
			o.add(words)
			s.elementPieces(t, name.Text, s.from, s.at.Line, words)
		case "protocol":
			o.protocol = words[len(words)-1].Text
		case "policy":
			o.policy = policyOf(words)
		}
	})
	t.Objects = append(t.Objects, o)
}

func (s *script) elements(t *Table, name token) []token {
	words := s.statement()
	for _, o := range t.Objects {
		if o.Name == name.Text && (o.Kind == "set" || o.Kind == "map") {
			o.add(words)
			o.Tracks = o.Tracks || counts(words)
		}
	}
	return words
}

// add adds elements in braces to a set or a map.
func (o *Object) add(words []token) {
	if o.ports == nil {
		o.ports = map[string]uint16{}
	}
	for i, w := range words[min(1, len(words)):] {
		switch words[i].Text {
		case "{", ",":
			o.elements = append(o.elements, w.Text)
		case "jump", "goto":
			o.jumps = append(o.jumps, w.Text)
		case ".": // the last number of a value of several fields is its port
			if port, _, ok := portRange(w.Text); ok && len(o.elements) > 0 {
				o.ports[o.elements[len(o.elements)-1]] = port
			}
		}
	}
}

// counts reports whether a set counts connections for each of its elements.
func counts(words []token) bool {
	for i := range words[min(1, len(words)):] {
		if words[i].Text == "ct" && words[i+1].Text == "count" {
			return true
		}
	}
	return false
}
