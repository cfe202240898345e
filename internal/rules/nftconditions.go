package rules

import (
	"slices"
	"strings"
)

// This file tells which conditions of a rule of nft are in the fields of the rule, and which are
// beside them.

// read notes what the fields of the rule do not hold: further conditions, and maps of verdicts.
func (r *nftRule) read() {
	for i := 0; i < len(r.words); {
		length := r.known(i)
		if length == 0 {
			r.other = true
			length = 1
		}
		i += length
	}
	for i := range r.words {
		ends := r.at(i) == "vmap" || r.at(i+1) == "{" && (r.at(i) == "jump" || r.at(i) == "goto")
		r.opaque = r.opaque || ends && len(r.cases) == 0
	}
	for i := range r.words {
		name := r.at(i)
		jumps := slices.Contains([]string{"jump", "goto"}, r.at(i-1))
		if r.opaque && (jumps || strings.HasPrefix(name, "@")) {
			r.jumps = append(r.jumps, name)
		}
	}
}

// final are the statements that end a rule.
var final = strings.Fields("accept drop reject return continue masquerade snat dnat redirect " +
	"queue tproxy synproxy flow dup fwd")

// known returns how many words from i on are a statement that is no condition, or a condition that
// a field of the rule holds; 0: they are something else.
func (r *nftRule) known(i int) int {
	word, next := r.at(i), r.at(i+1)
	switch {
	case slices.Contains(final, word):
		return len(r.words) - i
	case (word == "jump" || word == "goto") && next != "{":
		return 2
	case word == "counter":
		if next == "name" {
			return 3
		}
		return max(1, len(r.counter(i)))
	case word == "notrack":
		return 1
	case word == "comment":
		return 2
	case word == "log":
		return r.logged(i)
	case word == "meta" && next == "mark":
		return 1 + r.markWords(i+1)
	case word == "mark" && r.at(i-1) != "ct":
		return r.markWords(i)
	case r.at(i+2) == "set" && slices.Contains(headers, word):
		return 4
	case word == "meta" && slices.Contains(interfaceWords, next):
		return 1
	case slices.Contains(interfaceWords, word):
		return r.condition(i, i+1)
	case word == "tcp" && next == "flags" && r.SYN:
		at := i + 2
		if r.at(at) == "&" {
			for at < len(r.words) && r.at(at) != "==" {
				at++
			}
		}
		return r.condition(i, at)
	case slices.Contains(readKeys, word+" "+next):
		return r.condition(i, i+2)
	}
	return 0
}

var (
	interfaceWords = strings.Fields("iif iifname oif oifname")
	// readKeys are the fields of packets that fields of a rule hold.
	readKeys = []string{
		"tcp dport", "tcp sport", "udp dport", "udp sport", "th dport", "th sport", "ip protocol",
		"ip6 nexthdr", "ip daddr", "ip6 daddr", "ip saddr", "ip6 saddr", "meta l4proto",
		"meta protocol", "meta nfproto", "ct state", "icmp type", "icmpv6 type",
	}
)

// condition returns the length of a condition that begins at from, with its values at to; 0 where
// the values are not known. A map of verdicts makes the cases of the rule.
func (r *nftRule) condition(from, to int) int {
	if r.at(to) == "vmap" {
		end, cases := r.verdicts(from, to+1)
		if cases == nil || r.cases != nil {
			return 0
		}
		r.cases = cases
		*r.field(from) = Values{}
		return end - from
	}
	v, end := r.valuesAt(to)
	if v.Unknown {
		return 0
	}
	return end - from
}

// field returns the field of the rule that holds a condition.
func (r *nftRule) field(i int) *Values {
	switch word, next := r.at(i), r.at(i+1); {
	case strings.HasPrefix(word, "iif"):
		return &r.In
	case strings.HasPrefix(word, "oif"):
		return &r.Out
	case next == "dport":
		return &r.Destinations
	case next == "sport":
		return &r.Sources
	case next == "state":
		return &r.States
	case next == "type":
		return &r.kinds
	case next == "daddr":
		return &r.targets
	case next == "saddr":
		return &r.sources
	case next == "nfproto", next == "protocol" && word == "meta":
		return &r.families
	default:
		return &r.Protocols
	}
}

// verdicts reads a map of verdicts in braces, "{ 22 : accept, 80 : jump web }": a rule for each
// value. It returns the index behind it; no rules where it is another map.
func (r *nftRule) verdicts(from, i int) (end int, cases []*Rule) {
	if r.at(i) != "{" {
		return 0, nil
	}
	i++
	for i < len(r.words) && r.at(i) != "}" {
		if r.at(i+1) != ":" {
			return 0, nil
		}
		one := &Rule{At: r.words[i].At, Text: r.Text, Verdict: strings.ToUpper(r.at(i + 2))}
		sub := nftRule{Rule: one, words: r.words}
		*sub.field(from) = Values{List: []string{r.words[i].Text}}
		one.States = upper(one.States)
		i += 3
		if one.Verdict == "JUMP" || one.Verdict == "GOTO" {
			if i >= len(r.words) {
				return 0, nil
			}
			one.leaves, one.Verdict = one.Verdict == "GOTO", r.words[i].Text
			i++
		}
		cases = append(cases, one)
		if r.at(i) == "," {
			i++
		}
	}
	return i + 1, cases
}

// upper returns values in upper case.
func upper(v Values) Values {
	v.List = slices.Clone(v.List)
	for i, value := range v.List {
		v.List[i] = strings.ToUpper(value)
	}
	return v
}

// logged returns the length of a log statement with its options.
func (r *nftRule) logged(i int) int {
	end := i + 1
	for end < len(r.words) {
		switch r.at(end) {
		case "prefix", "level", "group", "snaplen", "queue-threshold", "flags":
			end += 2
			for r.at(end) == "," {
				end += 2
			}
		default:
			return end - i
		}
	}
	return end - i
}

// values reads what a condition compares with.
func (r nftRule) values(i int) Values {
	v, _ := r.valuesAt(i)
	return v
}

// valuesAt returns the values of a condition, and the index of the word behind them.
func (r nftRule) valuesAt(i int) (v Values, end int) {
	switch r.at(i) {
	case "!=", "ne", "!":
		v.Negated = true
		i++
	case "==", "eq":
		i++
	case "set":
		return v, i // the statement that writes the field
	case "<", ">", "<=", ">=", "&", "|", "^", "lt", "gt", "le", "ge", "vmap", "map", ".", "":
		if i >= len(r.words) || !r.words[i].Quoted {
			v.Unknown = true
			return v, i
		}
	}
	braced := r.at(i) == "{"
	if braced {
		i++
	}
	for ; i < len(r.words); i++ {
		if r.at(i) == "}" || r.at(i) == "," {
			v.Unknown = true // a word is missing
			return v, i
		}
		v.List = append(v.List, r.words[i].Text)
		switch next := r.at(i + 1); {
		case next == ",":
			i++
			if braced && r.at(i+1) == "}" { // nft takes a comma behind the last one
				return v, i + 2
			}
		case braced && next != "}":
			v.Unknown = true // a map
			return v, i
		case braced:
			return v, i + 2
		default:
			return v, i + 1
		}
	}
	return v, i
}

// afterTarget are words behind the target of a translation.
var afterTarget = strings.Fields("random persistent fully-random counter comment")

// target reads where a destination translation leads, from the words behind its name:
// [ip|ip6] [to] [ADDRESS][:PORT]; "" without any, and "?" where a map decides.
func (r nftRule) target(i int) string {
	var to strings.Builder
	for ; i < len(r.words); i++ {
		switch word := r.at(i); {
		case word == IPv4 || word == IPv6 || word == "to" || word == "addr":
		case slices.Contains(afterTarget, word):
			return to.String()
		case word == "map" || word == "numgen" || word == "jhash" || word == "{":
			return "?"
		default:
			to.WriteString(word)
		}
	}
	return to.String()
}
