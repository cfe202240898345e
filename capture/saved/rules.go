package saved

import (
	"regexp"
	"strings"
)

var (
	savedTable = regexp.MustCompile(`^\*(filter|nat|mangle|raw|security)$`)
	nftTable   = regexp.MustCompile(`^table (ip|ip6|inet|arp|bridge|netdev) \S+ \{$`)
)

// beginRules takes the first line of a table of rules.
func (r *reader) beginRules(s string) bool {
	switch {
	case savedTable.MatchString(s):
		r.flush()
		r.rules, r.family = new(strings.Builder), "ipv4"
		if r.command.program(0) == "ip6tables-save" {
			r.family = "ipv6"
		}
	case nftTable.MatchString(s):
		r.flush()
		r.rules, r.family, r.nft = new(strings.Builder), "nft", 1
	default:
		return false
	}
	r.rules.WriteString(s + "\n")
	return true
}

// inRules takes a line inside of a table of rules.
func (r *reader) inRules(s string) {
	if _, ok := commandOf(strings.TrimSpace(s)); ok && r.family != "nft" {
		r.endRules()
		r.line(line{r.at, s})
		return
	}
	if r.family == "nft" {
		r.rules.WriteString(s + "\n")
		r.nft += strings.Count(s, "{") - strings.Count(s, "}")
		if r.nft <= 0 {
			r.endRules()
		}
		return
	}
	if strings.HasPrefix(s, "*") && savedTable.MatchString(s) && r.rules.Len() > 0 {
		r.endRules() // grep left COMMIT out
		r.beginRules(s)
		return
	}
	r.rules.WriteString(s + "\n")
	if strings.TrimSpace(s) == "COMMIT" {
		r.endRules()
	}
}

// endRules ends a table of rules. A listing of which grep left something out has no COMMIT.
func (r *reader) endRules() {
	text := r.rules.String()
	r.rules = nil
	if r.family != "nft" && !strings.HasSuffix(text, "COMMIT\n") {
		text += "COMMIT\n"
	}
	switch r.family {
	case "ipv4":
		r.c.Rules.IPv4 += text
	case "ipv6":
		r.c.Rules.IPv6 += text
	default:
		r.c.Rules.NFT += text
	}
	r.saw("rules")
}
