package rules

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// partialKeys are the header fields of nft that some packets of a connection have.
var partialKeys = []string{
	"tcp option", "tcp sequence", "tcp ackseq", "tcp window", "udp length", "ip length",
	"ip6 length", "ip ttl", "ip6 hoplimit", "ip ecn", "ip frag-off", "meta length", "meta time",
	"meta hour", "meta day", "ct packets", "ct bytes", "ct avgpkt",
}

// headers begin the name of a field.
var headers = []string{"tcp", "udp", "th", "ip", "ip6", "meta", "ct", "ether"}

// trackingStatements are the statements of nft beside ct that register the hooks (nf_ct_netns_get).
// TestTracks asks the kernel.
var trackingStatements = []string{"masquerade", "snat", "dnat", "redirect", "synproxy", "flow"}

type nftRule struct {
	*Rule
	words []token
	depth int // of braces
}

// rule reads the tokens of a rule; nil without any.
func (s *script) rule(words []token) *Rule {
	if len(words) == 0 {
		return nil
	}
	r := nftRule{Rule: &Rule{At: words[0].At, Loads: 1, exact: true}, words: words}
	r.Text = r.text(s.source[s.from:s.to], s.from)
	for i, w := range words {
		if w.Text == "with" && r.at(i-1) == "reject" {
			break // the protocol of the answer
		}
		switch {
		case w.Quoted:
		case w.Text == "{":
			r.depth++
		case w.Text == "}":
			r.depth--
		default:
			r.note(i)
		}
	}
	if words[0].Text == "counter" {
		words = words[min(len(words), len(r.counter(0))):]
	}
	r.read()
	ends := []string{"accept", "drop", "reject", "jump", "goto", "notrack"}
	r.Always = len(words) > 0 && slices.Contains(ends, words[0].Text)
	return r.Rule
}

// at returns the text of a token that is not quoted; "" beyond the rule.
func (r nftRule) at(i int) string {
	if i < 0 || i >= len(r.words) || r.words[i].Quoted {
		return ""
	}
	return r.words[i].Text
}

// counter returns the tokens of the counter that begins at one, if its figures are given.
func (r nftRule) counter(i int) []token {
	given := r.at(i) == "counter" && r.at(i+1) == "packets" && r.at(i+3) == "bytes"
	if !given || i+5 > len(r.words) {
		return nil
	}
	return r.words[i : i+5]
}

// text returns a rule on one line without its counters, from its source, and notes the first
// counter.
func (r *nftRule) text(source string, from int) string {
	before, after, words := source, "", slices.Clone(r.words)
	for i := range r.words {
		c := r.counter(i)
		if c == nil || c[0].from < from || c[4].to > from+len(source) {
			continue
		}
		if r.Count = counterPair("[" + c[2].Text + ":" + c[4].Text + "]"); r.Count.Known {
			before, after = source[:c[0].from-from], source[c[4].to-from:]
			words = slices.Delete(words, i, i+5)
			break
		}
	}
	if !strings.Contains(source, newline) {
		return strings.TrimSpace(strings.TrimSpace(before) + " " + strings.TrimSpace(after))
	}
	var list []string
	for _, w := range words {
		if list = append(list, w.Text); w.Quoted {
			list[len(list)-1] = `"` + w.Text + `"`
		}
	}
	return strings.Join(list, " ")
}

func (r *nftRule) note(i int) {
	w := r.words[i]
	next := r.at(i + 1)
	name := func(kind Kind, i int) {
		// An object may also be looked up in a map, by a field of the packet.
		if i >= len(r.words) || kind == Stateful && slices.Contains(headers, r.at(i)) {
			return
		}
		w := r.words[i]
		r.Names = append(r.Names, Name{kind, strings.TrimPrefix(w.Text, "@"), w.At})
	}
	r.Partial = r.Partial || slices.Contains(partialKeys, w.Text+" "+next)
	switch w.Text {
	case "ct":
		r.Tracks = true
		switch {
		case next == "state":
			r.States = upper(r.values(i + 2))
		case next == "zone" && r.at(i+2) == "set":
			name(Zone, i+3)
		case r.at(i+2) == "set" && (next == "helper" || next == "timeout" || next == "expectation"):
			name(Stateful, i+3)
			if next == "timeout" && i+3 < len(r.words) {
				r.timeout = r.words[i+3].Text
			}
		}
	case "masquerade":
		r.SourceNAT = translationOf(r.target(i + 1))
	case "snat", "dnat":
		if !r.Tracks {
			r.only = r.translates(i + 1)
		}
		if to := r.target(i + 1); w.Text == "dnat" {
			r.Target = to
		} else {
			r.SourceNAT = translationOf(to)
		}
	case "redirect":
		if r.statement(i) {
			r.Target = cmp.Or(r.target(i+1), keptPort)
		}
	case "flags":
		at := i + 1
		if next == "&" { // a mask of flags, which == compares
			for at < len(r.words) && r.at(at) != "==" && r.at(at) != "!=" {
				at++
			}
		}
		syn := r.values(at)
		r.SYN = len(syn.List) == 1 && syn.Has("syn")
		r.notSYN = syn.Negated && slices.Equal(syn.List, []string{"syn"})
		r.Partial = r.Partial || !r.SYN
	case "daddr", "saddr":
		if before := r.at(i - 1); before == IPv4 || before == IPv6 {
			*r.field(i - 1) = r.values(i + 1)
		}
	case "notrack":
		r.Notrack = true
	case "limit", "quota", "frag", "exthdr":
		r.Partial = true
	case "numgen":
		r.Partial = r.Partial || !slices.Contains([]string{"set", "to"}, r.at(i-1))
	case "tcp", "udp", "icmp", "icmpv6":
		if r.Protocols.Any() {
			r.Protocols.List = []string{w.Text}
		}
	case "protocol", "l4proto", "nexthdr":
		if before := r.at(i - 1); before == "ip" || before == "ip6" || w.Text == "l4proto" {
			r.Protocols = r.values(i + 1)
		}
	case "nfproto":
		r.families = r.values(i + 1)
	case "type":
		if before := r.at(i - 1); before == "icmp" || before == "icmpv6" {
			r.kinds = r.values(i + 1)
		}
	case "ip", "ip6":
		if r.families.Any() {
			r.families.List = []string{w.Text}
		}
	case "dport":
		r.Destinations = r.values(i + 1)
	case "sport":
		r.Sources = r.values(i + 1)
	case "iif", "iifname", "oif", "oifname":
		values := &r.In
		if w.Text[0] == 'o' {
			values = &r.Out
		}
		*values = r.values(i + 1)
		at := i + 1
		for at < len(r.words) && slices.Contains([]string{"==", "!=", "{"}, r.at(at)) {
			at++
		}
		if !strings.HasPrefix(r.at(at), "@") {
			name(Interface, at)
		}
	case "jump", "goto":
		if next != "{" && i+1 < len(r.words) {
			name(Jump, i+1)
			r.verdict(r.words[i+1].Text)
			r.leaves = w.Text == "goto"
		}
	case "accept", "drop", "reject", "return":
		r.verdict(strings.ToUpper(w.Text))
	case "counter", "synproxy":
		if next == "name" {
			name(Stateful, i+2)
		}
	}
	switch raw := slices.Contains([]string{"@th", "@nh", "@ll", "@ih"}, w.Text) && next == ","; {
	case raw:
		r.Partial = true
	case strings.HasPrefix(w.Text, "@") && len(w.Text) > 1:
		name(Set, i)
	}
	r.Tracks = r.Tracks || slices.Contains(trackingStatements, w.Text) && r.statement(i)
	if w.Text == "xt" && i+2 < len(r.words) { // what nft prints of a rule of iptables
		name := r.words[i+2].Text
		r.Tracks = r.Tracks ||
			slices.Contains(trackingMatches, name) || slices.Contains(trackingTargets, name)
	}
}

// translates returns the one family that an address translation is about: the one that it names, or
// that of its address.
func (r nftRule) translates(i int) string {
	if next := r.at(i); next == IPv4 || next == IPv6 {
		return next
	}
	to := r.at(i + 1)
	if to == "[" {
		to = r.at(i + 2)
	}
	switch address, err := netip.ParseAddr(to); {
	case r.at(i) != "to" || err != nil:
		return ""
	case address.Is4():
		return IPv4
	default:
		return IPv6
	}
}

// statement reports whether a word is a statement, and no value: the type of an ICMP message is
// called redirect too.
func (r nftRule) statement(i int) bool {
	return !slices.Contains([]string{"type", ",", "{", "!=", "==", "name"}, r.at(i-1))
}

// verdict notes a verdict outside of braces, where it depends on a map.
func (r *nftRule) verdict(word string) {
	if r.depth == 0 {
		r.Verdict = word
	}
}
