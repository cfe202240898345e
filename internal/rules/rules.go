// Package rules reads firewall rules: the text of iptables-save and ip6tables-save, scripts of nft,
// and what nft list prints. It is the only reader of such text in ctload.
//
// It answers what ctload asks of rules: which of them turn connection tracking on, what they exempt
// from it, what they name, what they counted. Matches and statements that it does not know are no
// problem: the kernel judges them.
//
// Rules of iptables are the same objects as rules of nft, in tables of the families ip and ip6.
package rules

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// The families of addresses, as nft calls them. A table may also be of the families inet (both),
// bridge, arp and netdev.
const (
	IPv4 = "ip"
	IPv6 = "ip6"
)

// Position is a place in a text. Lines and columns count from 1, columns in bytes.
type Position struct{ Line, Column int }

// Problem is something that the real tool refuses.
type Problem struct {
	At   Position
	Text string
}

// token is a word of a text, without its quotes, or a sign.
type token struct {
	Text   string
	At     Position
	Quoted bool
	// from and to are the word's place in the text that was read.
	from, to int
}

// Ruleset holds the rules that one text, or several, give a network namespace.
type Ruleset struct {
	Tables   []*Table
	Problems []Problem

	flushed []string // families of the rules that a script removes; "" for all
}

// Flushes reports whether a script of nft removes the rules of a family that were there before.
func (s Ruleset) Flushes(family string) bool {
	return slices.Contains(s.flushed, "") || slices.Contains(s.flushed, family)
}

// Table is a table of nft, or of iptables in one family.
type Table struct {
	Family  string
	Name    string
	At      Position
	Chains  []*Chain
	Objects []*Object // of nft: sets, maps, flow tables, ct helpers, counters, ...
	Lines   []*Line   // of iptables, in their order and without comments

	byName   map[string]*Chain
	iptables bool
	declared bool   // by nft's table, not only named by a command
	text     string // of a table of nft, as it was read
}

// Chain is one chain of a table.
type Chain struct {
	Name string
	At   Position
	// Policy is ACCEPT, DROP, ...; "-" for a chain of iptables that has none, "" where the text
	// says none.
	Policy   string
	Count    Counter // of the policy
	Hook     string  // where the kernel calls it, as prerouting; "" for a chain to jump to
	Priority int     // of the hook: conntrack is at -200
	Type     string  // of a chain with a hook: filter, nat, route; "" where the text says none
	Rules    []*Rule
	// Inexact says that the kernel may hold another number of rules: one was deleted that the text
	// does not have, or names a host that may have several addresses.
	Inexact bool
}

// Counter counts the matches of a rule or a policy. Known is false where the text does not count.
type Counter struct {
	Packets, Bytes int64
	Known          bool
}

// Object is something in a table that rules refer to by name.
type Object struct {
	Kind     string // set, map, flowtable, counter, ct helper, ct timeout, ...
	Name     string
	At       Position
	Tracks   bool              // the object alone makes the kernel track connections
	elements []string          // of a set or map
	protocol string            // of a ct timeout
	policy   map[string]int64  // likewise: seconds by state
	jumps    []string          // the chains that the verdicts of a map jump to
	ports    map[string]uint16 // by element, of several fields
}

// Rule is one rule.
type Rule struct {
	At      Position
	Chain   string // that it is in
	Text    string // as the tool lists it, without counters and comments of nft
	Count   Counter
	Loads   int    // how many rules the kernel makes of it: one for each pair of addresses
	Tracks  bool   // the kernel tracks the connections of the table's family because of it
	Notrack bool   // it takes packets out of tracking
	Partial bool   // it is about some packets of a connection, by flags, length or chance
	SYN     bool   // it is about the first packets of TCP alone, as --syn; not Partial then
	Always  bool   // it matches every packet
	Verdict string // in upper case: DROP, a target, the chain jumped to; "" without one

	States       Values // in upper case, as NEW
	Protocols    Values
	Sources      Values // ports
	Destinations Values // ports
	In, Out      Values // interfaces
	families     Values // of addresses, in tables of both
	Names        []Name
	// Target is the destination that destination NAT gives: [ADDRESS][:PORT]; empty for no such
	// NAT, and "dut" for a redirect that keeps the port.
	Target    string
	SourceNAT *Translation // what it makes of sources; nil: it leaves them

	sources Values // addresses
	targets Values // addresses of the destination
	notSYN  bool   // it leaves out the first packets of TCP, as ! --syn

	either  Values   // ports of the source or of the destination
	kinds   Values   // of messages of ICMP, as echo-request, 8 or 8/0
	other   bool     // it has conditions beside those in the fields
	leaves  bool     // its jump does not come back (goto)
	opaque  bool     // it may end the way of a packet in a way that the fields do not tell
	jumps   []string // of an opaque rule: chains and maps of verdicts that it may lead to
	cases   []*Rule  // of a map of verdicts: a rule for each of its values
	exact   bool     // whether Loads is exact
	spec    string   // the words of a rule of iptables, to find it again
	only    string   // with Tracks, in a table of both families: the one that the rule is about
	timeout string   // names the ct timeout policy that it sets

	compared *mark // a condition on the mark of the packet; nil without one
	unmarked bool  // the opposite of it
	marking  *mark // what it makes of the mark; nil: nothing
	remarks  bool  // it gives a mark that the text does not tell
}

// Values are compared by a condition; the zero value matches everything.
type Values struct {
	List    []string
	Negated bool
	Unknown bool // the text alone does not tell the values
}

// Any reports whether there is no condition.
func (v Values) Any() bool { return len(v.List) == 0 && !v.Unknown }

// Has reports whether the condition names a value itself, not its opposite.
func (v Values) Has(value string) bool { return !v.Negated && slices.Contains(v.List, value) }

// Port returns the first of the ports that the condition names, if it names one.
func (v Values) Port() (port uint16, ok bool) {
	if v.Negated || v.Unknown || len(v.List) == 0 {
		return 0, false
	}
	port, _, ok = portRange(v.List[0])
	return port, ok && port > 0
}

// fit judges the condition by a test of its values.
func (v Values) fit(test func(string) Fit) Fit {
	switch {
	case v.Any():
		return Surely
	case v.Unknown:
		return Maybe
	}
	best := Never
	for _, value := range v.List {
		best = max(best, test(value))
	}
	if v.Negated {
		return Surely - best
	}
	return best
}

// Kind is the kind of object that a name stands for.
type Kind string

// The kinds of names.
const (
	Interface Kind = "interface"
	Set       Kind = "set"   // or map
	Jump      Kind = "chain" // or, with iptables, a target
	Zone      Kind = "zone"
	Stateful  Kind = "object"  // a helper, timeout, counter, ... of nft; a timeout of nfct
	Account   Kind = "account" // of nfacct
	helper    Kind = "helper"  // of the kernel, which iptables names
)

// Name is something that a rule names and does not define.
type Name struct {
	Kind Kind
	Text string
	At   Position
}

// Matches reports whether the name stands for an interface: it may end in a wild card.
func (n Name) Matches(given string) bool {
	prefix, wild := wildcard(n.Text)
	return n.Text == given || wild && strings.HasPrefix(given, prefix)
}

// Texts are the rules of one network namespace as text; each may be empty.
type Texts struct {
	IPv4, IPv6 string // of iptables-save, of ip6tables-save
	NFT        string
	IPSet      string // input of ipset restore
}

// Read reads all texts as one set of rules. Positions are within each text; problems are left out,
// since the real tools judge.
func Read(t Texts) Ruleset {
	four, six, nft := Iptables(IPv4, t.IPv4), Iptables(IPv6, t.IPv6), NFT(t.NFT)
	sets := ipsets(t.IPSet)
	for _, table := range slices.Concat(four.Tables, six.Tables) {
		table.Objects = sets
	}
	return Ruleset{Tables: slices.Concat(four.Tables, six.Tables, nft.Tables)}
}

// ipsets reads the sets of addresses, and of networks, in the input of ipset restore. Those of
// other kinds, and with exceptions, are left out.
func ipsets(text string) (sets []*Object) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 3 {
			continue
		}
		command, name, value := words[0], words[1], words[2]
		named := func(o *Object) bool { return o.Name == name }
		at := slices.IndexFunc(sets, named)
		switch {
		case slices.Contains([]string{"create", "-N", "n"}, command):
			if at < 0 && slices.Contains([]string{"hash:ip", "hash:net", "bitmap:ip"}, value) {
				sets = append(sets, &Object{Kind: "ipset", Name: name})
			}
		case at < 0 || !slices.Contains([]string{"add", "-A", "a"}, command):
		case slices.Contains(words, "nomatch"):
			sets = slices.Delete(sets, at, at+1)
		default:
			sets[at].elements = append(sets[at].elements, value)
		}
	}
	return sets
}

// Cause is a part of the rules that turns connection tracking on.
type Cause struct {
	At   Position
	Text string // "rule " and the rule, or "object " and its kind and name
}

// Tracks returns the first rule or object because of which the kernel tracks connections of a
// family of addresses, or nil. Since Linux 4.14 the kernel registers the hooks of connection
// tracking, for each family apart, when such a rule is loaded, wherever it stands and whatever it
// matches. An object of nft registers them when it is made.
func (s Ruleset) Tracks(family string) *Cause {
	for _, t := range s.Tables {
		for _, o := range t.Objects {
			if t.handles(family) && o.Tracks {
				return &Cause{o.At, fmt.Sprintf("object %s %s", o.Kind, o.Name)}
			}
		}
	}
	for t, r := range s.rules() {
		if t.handles(family) && r.Tracks && (r.only == "" || r.only == family) {
			return &Cause{r.At, "rule " + r.Text}
		}
	}
	return nil
}

// handles reports whether packets of a family of addresses meet the table. A table of family bridge
// has the hooks of both families.
func (t *Table) handles(family string) bool {
	return t.Family == family || t.Family == "inet" || t.Family == "bridge"
}

// rules returns all rules with the tables that they are in.
func (s Ruleset) rules() iter.Seq2[*Table, *Rule] {
	return func(yield func(*Table, *Rule) bool) {
		for _, t := range s.Tables {
			for _, c := range t.Chains {
				for _, r := range c.Rules {
					if !yield(t, r) {
						return
					}
				}
			}
		}
	}
}

// Undefined lists what rules of nft name and their table lacks, which nft refuses: sets, chains and
// objects. Tables that the text does not declare are left out.
func (s Ruleset) Undefined() []Problem {
	var list []Problem
	for t, r := range s.rules() {
		for _, n := range r.Names {
			var known []string
			object := n.Kind == Set || n.Kind == Stateful
			named := func(o *Object) bool { return o.Name == n.Text }
			switch {
			case !t.declared:
				continue
			case object && !slices.ContainsFunc(t.Objects, named):
				for _, o := range t.Objects {
					known = append(known, o.Name)
				}
				slices.Sort(known)
				known = slices.Compact(known)
			case n.Kind == Jump && t.byName[n.Text] == nil:
				known = slices.Sorted(maps.Keys(t.byName))
			default:
				continue
			}
			text := fmt.Sprintf("the table %s has no %s %q", t.ID(), n.Kind, n.Text)
			list = append(list, Problem{n.At, text + spelling.Hint(n.Text, known)})
		}
	}
	return list
}

// Specific reports whether the rule is about some ports or interfaces, and not about loopback.
func (r *Rule) Specific() bool {
	return !r.In.Has("lo") && !r.Out.Has("lo") && (!r.Destinations.Any() || !r.Sources.Any() ||
		!r.either.Any() || !r.In.Any() || !r.Out.Any())
}

// Refuses reports whether the rule ends the way of a packet.
func (r *Rule) Refuses() bool { return r.Verdict == "DROP" || r.Verdict == "REJECT" }

// Loaded returns how many rules the kernel makes of the chain, and whether that is exact.
func (c *Chain) Loaded() (n int, exact bool) {
	exact = !c.Inexact
	for _, r := range c.Rules {
		n += r.Loads
		exact = exact && r.exact
	}
	return n, exact
}

// Table returns the table of a family and a name, or nil.
func (s Ruleset) Table(family, name string) *Table {
	for _, t := range s.Tables {
		if t.Family == family && t.Name == name {
			return t
		}
	}
	return nil
}

// Chain returns the chain of a name, or nil, also of a table that is nil.
func (t *Table) Chain(name string) *Chain {
	if t == nil {
		return nil
	}
	return t.byName[name]
}

func (t *Table) drop(c *Chain) {
	delete(t.byName, c.Name)
	t.Chains = slices.DeleteFunc(t.Chains, func(other *Chain) bool { return other == c })
}

// Iptables reports whether the table is one of iptables.
func (t *Table) Iptables() bool { return t.iptables }

// ID returns the family and the name, as nft takes them.
func (t *Table) ID() string { return t.Family + " " + t.Name }

// String returns the table as its tool reads it: of iptables from *NAME to COMMIT, of nft as it was
// read.
func (t *Table) String() string {
	if !t.iptables {
		return t.text
	}
	var b strings.Builder
	b.WriteString("*" + t.Name + "\n")
	for _, line := range t.Lines {
		b.WriteString(line.Text + "\n")
	}
	b.WriteString("COMMIT\n")
	return b.String()
}
