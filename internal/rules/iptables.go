package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

var builtinTables = []string{"raw", "mangle", "nat", "filter", "security"}

// builtinChains are the chains of each table that the kernel makes, which have a policy.
var builtinChains = map[string][]string{
	"raw":      {"PREROUTING", "OUTPUT"},
	"mangle":   {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
	"nat":      {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
	"filter":   {"INPUT", "FORWARD", "OUTPUT"},
	"security": {"INPUT", "FORWARD", "OUTPUT"},
}

// Line is a line of a table of iptables: a chain with its policy, or a command.
type Line struct {
	At   Position
	Text string // without white space around it
	Rule *Rule  // of a line that adds a rule, else nil

	from     int // where the line begins in the text that was read
	jump     [2]int
	declares string // the chain of a line ":CHAIN POLICY"
}

// Declares returns the chain that the line declares, as ":CHAIN POLICY" does; "" for a command.
func (l *Line) Declares() string { return l.declares }

// Retarget returns the text of the line with another target; jump has all words of it, as -j DROP.
func (l *Line) Retarget(jump string) string {
	if l.jump[1] == 0 {
		return l.Text
	}
	return l.Text[:l.jump[0]-l.from] + jump + l.Text[l.jump[1]-l.from:]
}

// iptables is a text of iptables-save that is being read.
type iptables struct {
	Ruleset
	family string
	open   *Table
}

// Iptables reads a text in the format of iptables-save or, with family IPv6, of ip6tables-save, as
// iptables-restore does. It goes on after a problem.
func Iptables(family, text string) Ruleset {
	p := &iptables{family: family}
	offset, number := 0, 0
	for raw := range strings.Lines(text) {
		number++
		line := strings.TrimSpace(raw)
		column := strings.Index(raw, line)
		p.line(line, Position{number, column + 1}, offset+column)
		offset += len(raw)
	}
	if p.open != nil {
		p.problem(p.open.At, "the table %q does not end with COMMIT", p.open.Name)
	}
	return p.Ruleset
}

func (s *Ruleset) problem(at Position, format string, args ...any) {
	s.Problems = append(s.Problems, Problem{at, fmt.Sprintf(format, args...)})
}

func (p *iptables) line(text string, at Position, from int) {
	switch {
	case text == "" || strings.HasPrefix(text, "#"):
	case strings.HasPrefix(text, "*"):
		p.table(strings.TrimSpace(text[1:]), at)
	case text == "COMMIT":
		if p.open == nil {
			p.problem(at, "COMMIT without a table: a table begins with *filter, *raw, ...")
		}
		p.open = nil
	case asSaved(text) != "":
		p.problem(at, "%q is a command line; write %s", text, asSaved(text))
	case p.open == nil:
		p.problem(at, "%q is outside of a table: iptables-save text begins a table with *filter, "+
			"*raw, ... and ends it with COMMIT", text)
	case strings.HasPrefix(text, "-"), strings.HasPrefix(text, ":"), strings.HasPrefix(text, "["):
		line, words := &Line{At: at, Text: text, from: from}, p.split(text, at, from)
		p.open.Lines = append(p.open.Lines, line)
		p.checkTyped(words)
		p.run(line, words)
	case Typed(text)[0] == '-':
		p.checkTyped(p.split(text, at, from))
	default:
		p.problem(at, "%q is not a line of iptables-save: those are *table, :CHAIN POLICY, "+
			"-A CHAIN ..., COMMIT and # comments", text)
	}
}

func (p *iptables) table(name string, at Position) {
	if p.open != nil {
		p.problem(at, "the table %q begins before %q has ended with COMMIT", name, p.open.Name)
	}
	if !slices.Contains(builtinTables, name) {
		p.problem(at, "%q is not a table of iptables%s", name, spelling.Hint(name, builtinTables))
	} else if p.Table(p.family, name) != nil {
		p.problem(at, "the table %q is given twice", name)
	}
	p.open = &Table{Family: p.family, Name: name, At: at, iptables: true}
	p.Tables = append(p.Tables, p.open)
}

// split takes a line apart at white space. What stands between double quotes is one word, in which
// a backslash takes the next character as it is; the closing quote ends it (add_param_to_argv).
func (p *iptables) split(text string, at Position, from int) []token {
	var words []token
	var word strings.Builder
	start, quoted, escaped, open := -1, false, false, false
	end := func(i int) {
		if start >= 0 {
			place := Position{at.Line, at.Column + start}
			words = append(words, token{word.String(), place, quoted, from + start, from + i})
		}
		word.Reset()
		start, quoted = -1, false
	}
	for i := range len(text) {
		c := text[i]
		space := c == ' ' || c == '\t' || c == '\r'
		if start < 0 && (open || !space) {
			start = i
		}
		switch {
		case escaped:
			word.WriteByte(c)
			escaped = false
		case open && c == '\\':
			escaped = true
		case c == '"' && open:
			open = false
			end(i + 1)
		case c == '"':
			open, quoted = true, true
		case space && !open:
			end(i)
		default:
			word.WriteByte(c)
		}
	}
	end(len(text))
	if open {
		p.problem(at, "a double quote is not closed")
	}
	return words
}

// commands are the commands of iptables-restore by their long names.
var commands = map[string]string{
	"--append": "-A", "--insert": "-I", "--delete": "-D", "--replace": "-R", "--flush": "-F",
	"--policy": "-P", "--new-chain": "-N", "--delete-chain": "-X", "--rename-chain": "-E",
}

// otherFamily are the options that make the tools of one family leave out a line.
var otherFamily = map[string][]string{IPv4: {"-6", "--ipv6"}, IPv6: {"-4", "--ipv4"}}

func (p *iptables) run(line *Line, words []token) {
	t := p.open
	if name, declares := strings.CutPrefix(words[0].Text, ":"); declares {
		if len(words) > 1 {
			c := t.chain(name, line.At)
			c.Policy, line.declares = words[1].Text, name
			if len(words) > 2 {
				c.Count = counterPair(words[2].Text)
			}
		}
		return
	}
	count := counterPair(words[0].Text)
	if strings.HasPrefix(words[0].Text, "[") {
		words = words[1:]
	}
	if len(words) < 2 {
		return
	}
	command, name, rest := words[0].Text, words[1].Text, words[2:]
	command = cmp.Or(commands[command], command)
	for _, w := range words {
		if slices.Contains(otherFamily[p.family], w.Text) && !w.Quoted {
			return
		}
	}
	number := 0 // of a rule, from 1; 0 without one
	if len(rest) > 0 && slices.Contains([]string{"-I", "-R", "-D"}, command) {
		if n, err := strconv.Atoi(rest[0].Text); err == nil && n > 0 {
			number, rest = n, rest[1:]
		}
	}
	c := t.chain(name, line.At)
	switch command {
	case "-A", "-I", "-R":
		r := p.rule(line, words[0], rest)
		if count.Known {
			r.Count = count
		}
		r.Chain, line.Rule = name, r
		c.put(command, number, r)
	case "-D":
		c.remove(number, rest)
	case "-F":
		c.Rules, c.Inexact = nil, false
	case "-P":
		if len(rest) > 0 {
			c.Policy = rest[0].Text
		}
	case "-N":
		c.Policy = "-"
	case "-X":
		t.drop(c)
	}
}

// chain returns the chain of a name, which it makes where it is missing.
func (t *Table) chain(name string, at Position) *Chain {
	if c := t.Chain(name); c != nil {
		return c
	}
	c := &Chain{Name: name, At: at}
	if t.iptables && slices.Contains(builtinChains[t.Name], name) {
		c.Hook, c.Type = strings.ToLower(name), "filter"
		switch t.Name { // enum nf_ip_hook_priorities
		case "raw":
			c.Priority = -300
		case "mangle":
			c.Priority = -150
		case "security":
			c.Priority = 50
		case "nat":
			c.Type, c.Priority = "nat", -100
			if name == "POSTROUTING" || name == "INPUT" {
				c.Priority = 100
			}
		}
	}
	if t.byName == nil {
		t.byName = map[string]*Chain{}
	}
	t.byName[name] = c
	t.Chains = append(t.Chains, c)
	return c
}

// put adds a rule at the end (-A), before another (-I), or in its place (-R).
func (c *Chain) put(command string, number int, r *Rule) {
	at := min(max(number-1, 0), len(c.Rules))
	switch {
	case command == "-A":
		c.Rules = append(c.Rules, r)
	case command == "-R" && at < len(c.Rules):
		c.Rules[at] = r
	default:
		c.Rules = slices.Insert(c.Rules, at, r)
	}
}

// remove deletes a rule by its number, or the first that is written like the words.
func (c *Chain) remove(number int, words []token) {
	spec := texts(words)
	i := number - 1
	if number == 0 {
		i = slices.IndexFunc(c.Rules, func(r *Rule) bool { return r.spec == spec })
	}
	if i < 0 || i >= len(c.Rules) {
		c.Inexact = true
		return
	}
	c.Rules = slices.Delete(c.Rules, i, i+1)
}

// texts returns words as one text that tells different words apart.
func texts(words []token) string {
	var list []string
	for _, w := range words {
		list = append(list, strconv.Quote(w.Text))
	}
	return strings.Join(list, " ")
}

// counterPair reads what iptables-save -c writes, as [10:1000].
func counterPair(word string) Counter {
	pair := savedCounter.FindStringSubmatch(word)
	if pair == nil || pair[0] != word {
		return Counter{}
	}
	packets, errP := strconv.ParseInt(pair[1], 10, 64)
	bytes, errB := strconv.ParseInt(pair[2], 10, 64)
	if errP != nil || errB != nil {
		return Counter{}
	}
	return Counter{packets, bytes, true}
}

type option struct {
	name    string // the long name without hyphens
	at      token
	values  []token
	negated bool
}

// shortOptions are the options of a rule that have a name of one letter.
var shortOptions = map[byte]string{
	'p': "protocol", 's': "source", 'd': "destination", 'i': "in-interface", 'o': "out-interface",
	'm': "match", 'j': "jump", 'J': "jump", 'g': "goto", 'c': "set-counters", 'f': "fragment",
}

// longOptions are the names that getopt_long also takes cut short, and other names of an option.
var (
	longOptions = []string{"protocol", "in-interface", "out-interface", "match", "jump", "goto"}
	otherNames  = map[string]string{"proto": "protocol", "src": "source", "dst": "destination"}
)

func options(words []token) []option {
	var list []option
	negated := false
	for _, w := range words {
		name, value, attached := optionName(w)
		switch {
		case (w.Text == "-4" || w.Text == "-6") && !w.Quoted:
			continue
		case w.Text == "!" && !w.Quoted:
			negated = true
			continue
		case name != "":
			list = append(list, option{name: name, at: w, negated: negated})
			if attached {
				w.Text = value
				list[len(list)-1].values = []token{w}
			}
		case len(list) > 0:
			last := &list[len(list)-1]
			last.values = append(last.values, w)
			last.negated = last.negated || negated // --dport ! 80, as old tools took it
		}
		negated = false
	}
	return list
}

// optionName returns the long name of an option, and the value that is written with it, as in
// --dport=80 and -p6; "" where the word is none.
func optionName(w token) (name, value string, attached bool) {
	text := w.Text
	if w.Quoted || len(text) < 2 || text[0] != '-' {
		return "", "", false
	}
	if text[1] != '-' {
		name = shortOptions[text[1]]
		return name, text[2:], name != "" && len(text) > 2
	}
	name, value, attached = strings.Cut(text[2:], "=")
	name = cmp.Or(otherNames[name], name)
	for _, long := range longOptions {
		if len(name) > 1 && strings.HasPrefix(long, name) {
			name = long
		}
	}
	return name, value, attached
}

// Matches and targets of iptables whose check registers the hooks (nf_ct_netns_get). TestTracks
// asks the kernel.
var (
	trackingMatches = strings.Fields(
		"state conntrack connmark connbytes connlabel connlimit helper cluster")
	trackingTargets = strings.Fields("CONNMARK CONNSECMARK SNAT DNAT MASQUERADE REDIRECT NETMAP " +
		"SYNPROXY CT CLUSTERIP")
)

// partialMatches are about some packets of a connection, as are partialOptions.
var (
	partialMatches = strings.Fields("length limit hashlimit statistic quota string u32 bpf " +
		"connbytes time ttl hl ecn tcpmss frag")
	partialOptions = []string{"tcp-flags", "tcp-option", "fragment"}
)

// readMatches are the matches that are no conditions by themselves: their options are read.
var readMatches = strings.Fields("tcp udp icmp icmp6 state conntrack multiport comment mark set")

// setOptions are further conditions of the match set.
var setOptions = strings.Fields("return-nomatch packets-eq packets-lt packets-gt bytes-eq " +
	"bytes-lt bytes-gt")

// compare adds a condition on the addresses of the source or of the destination; a second one is
// another condition.
func (r *Rule) compare(source bool, values Values) {
	field := &r.targets
	if source {
		field = &r.sources
	}
	if !field.Any() {
		r.other = true
		return
	}
	*field = values
}

// keptPort is the target of a redirect that keeps the port: the DUT itself.
const keptPort = "dut"

// rule reads a rule: the words after its chain.
func (p *iptables) rule(line *Line, command token, words []token) *Rule {
	text := line.Text[command.from-line.from:]
	r := &Rule{At: line.At, Text: text, Always: true, Loads: 1, exact: true, spec: texts(words)}
	notrack, match := false, ""
	for _, o := range options(words) {
		r.option(o)
		if len(o.values) > 0 {
			switch {
			case o.name == "match":
				match = o.values[0].Text
			case o.name == "mark" && match == "mark":
				r.compareMark(o.values[0].Text, o.negated)
			case markings[o.name] != nil && r.Verdict == "MARK":
				r.setMark(o.name, o.values[0].Text)
			}
		}
		notrack = notrack || o.name == "notrack"
		r.Always = r.Always && !o.condition()
		if (o.name == "jump" || o.name == "goto") && len(o.values) > 0 {
			line.jump = [2]int{o.at.from, o.values[0].to}
		}
	}
	switch r.Verdict { // both REDIRECT and MASQUERADE have ports
	case "REDIRECT":
		r.Target, r.SourceNAT = cmp.Or(r.Target, keptPort), nil
	case "DNAT":
	case "MASQUERADE", "SNAT":
		r.Target, r.SourceNAT = "", cmp.Or(r.SourceNAT, translationOf(""))
	default:
		r.Target = ""
	}
	r.Notrack = strings.EqualFold(r.Verdict, "NOTRACK") || r.Verdict == "CT" && notrack
	r.Tracks = r.Tracks || slices.Contains(trackingTargets, r.Verdict) && !r.Notrack
	return r
}

// condition reports whether some packets do not meet the option.
func (o option) condition() bool {
	if o.name == "match" && len(o.values) == 1 {
		return o.values[0].Text != "comment"
	}
	all := []string{"jump", "goto", "set-counters", "comment", "reject-with"}
	return !slices.Contains(all, o.name)
}

// synFlags are the values of --tcp-flags for which --syn stands.
var synFlags = []token{{Text: "FIN,SYN,RST,ACK"}, {Text: "SYN"}}

const maxLoads = 1 << 20

// option notes what one option says of a rule.
func (r *Rule) option(o option) {
	values := Values{Negated: o.negated}
	for _, w := range o.values {
		values.List = append(values.List, strings.Split(w.Text, ",")...)
	}
	// Of a connection's entry, --ctstate alone is read.
	r.other = r.other || o.name != "ctstate" && strings.HasPrefix(o.name, "ct") ||
		slices.Contains(setOptions, o.name)
	r.remarks = r.remarks || o.name == "restore-mark"
	// iptables-save writes --syn as the flags that it stands for.
	syn := o.name == "syn" || o.name == "tcp-flags" && texts(o.values) == texts(synFlags)
	r.SYN, r.notSYN = r.SYN || syn && !o.negated, r.notSYN || syn && o.negated
	r.Partial = r.Partial || syn && o.negated || !syn && slices.Contains(partialOptions, o.name)
	if len(o.values) == 0 {
		return
	}
	first := o.values[0]
	name := func(kind Kind, w token) { r.Names = append(r.Names, Name{kind, w.Text, w.At}) }
	switch o.name {
	case "match":
		r.Tracks = r.Tracks || slices.Contains(trackingMatches, first.Text)
		r.other = r.other || !slices.Contains(readMatches, first.Text)
		r.Partial = r.Partial || slices.Contains(partialMatches, first.Text)
	case "jump", "goto":
		r.Verdict, r.leaves = first.Text, o.name == "goto"
		name(Jump, first)
	case "protocol":
		r.Protocols = values
	case "in-interface":
		r.In = values
		name(Interface, first)
	case "out-interface":
		r.Out = values
		name(Interface, first)
	case "dport", "dports", "destination-port", "destination-ports":
		r.Destinations = values
	case "sport", "sports", "source-port", "source-ports":
		r.Sources = values
	case "ports", "port":
		r.either = values
	case "icmp-type", "icmpv6-type":
		r.kinds = values
	case "state", "ctstate":
		for i, state := range values.List {
			values.List[i] = strings.ToUpper(state)
		}
		r.States = values
	case "to-ports":
		r.Target = ":" + first.Text
		r.SourceNAT = translationOf(r.Target)
	case "to-destination":
		r.Target = first.Text
	case "source", "destination":
		r.compare(o.name == "source", values)
		r.Loads = min(r.Loads*len(values.List), maxLoads)
		for _, address := range values.List {
			host, _, _ := strings.Cut(address, "/")
			_, err := netip.ParseAddr(host)
			r.exact = r.exact && err == nil
		}
	case "set-counters":
		if len(o.values) > 1 {
			r.Count = counterPair("[" + first.Text + ":" + o.values[1].Text + "]")
		}
	case "match-set":
		name(Set, first)
		if len(o.values) > 1 && (o.values[1].Text == "src" || o.values[1].Text == "dst") {
			values.List = []string{"@" + first.Text}
			r.compare(o.values[1].Text == "src", values)
		} else { // several fields
			r.other = true
		}
	case "zone", "zone-orig", "zone-reply":
		name(Zone, first)
	case "to-source":
		r.SourceNAT = translationOf(first.Text)
	case "helper":
		name(helper, first)
	case "nfacct-name":
		name(Account, first)
	case "timeout":
		name(Stateful, first)
	}
}
