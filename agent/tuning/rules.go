package tuning

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// ruleset is what matters for comparison in a text in the format of iptables-save: table -> chain.
type ruleset map[string]map[string]Chain

// Chain is one chain of a table.
type Chain struct {
	Policy string // ACCEPT, DROP; "-" for a chain of the user's own, "" when the text does not say
	Rules  int    // rules that the kernel holds for it
	// AtLeast says that Rules is a lower bound, since a rule names a host that may have several addresses.
	AtLeast bool
}

// parseRules reads a text in the format of iptables-save. It follows what iptables-restore does with it:
// a rule for several sources or destinations is loaded as several rules. It never fails: what it does
// not understand the real tool has refused.
func parseRules(text string) ruleset {
	rules := ruleset{}
	table := ""
	for line := range strings.Lines(text) {
		words := splitWords(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if name, ok := strings.CutPrefix(words[0], "*"); ok {
			table = name
			if rules[table] == nil {
				rules[table] = map[string]Chain{}
			}
			continue
		}
		if table == "" {
			continue
		}
		if name, ok := strings.CutPrefix(words[0], ":"); ok && len(words) > 1 {
			chain := rules[table][name]
			chain.Policy = words[1]
			rules[table][name] = chain
			continue
		}
		rules.command(table, words)
	}
	return rules
}

// command follows one line such as -A INPUT ..., with or without the rule's counters before it.
func (r ruleset) command(table string, words []string) {
	if strings.HasPrefix(words[0], "[") {
		words = words[1:]
	}
	if len(words) < 2 {
		return
	}
	name := words[1]
	chain := r[table][name]
	switch words[0] {
	case "-A", "--append", "-I", "--insert":
		count, exact := expansion(words[2:])
		chain.Rules += count
		chain.AtLeast = chain.AtLeast || !exact
	case "-D", "--delete":
		chain.Rules = max(chain.Rules-1, 0)
		chain.AtLeast = true
	case "-F", "--flush":
		chain.Rules, chain.AtLeast = 0, false
	case "-P", "--policy":
		if len(words) > 2 {
			chain.Policy = words[2]
		}
	case "-N", "--new-chain":
		chain.Policy = "-"
	default:
		return
	}
	r[table][name] = chain
}

// expansion is how many rules one line becomes: the product of its source and destination addresses.
func expansion(words []string) (count int, exact bool) {
	count, exact = 1, true
	for i, word := range words {
		if i+1 >= len(words) || !slices.Contains([]string{"-s", "--source", "--src", "-d", "--destination", "--dst"}, word) {
			continue
		}
		addresses := strings.Split(words[i+1], ",")
		count *= len(addresses)
		for _, address := range addresses {
			host, _, _ := strings.Cut(address, "/")
			if _, err := netip.ParseAddr(host); err != nil {
				exact = false
			}
		}
	}
	return count, exact
}

// splitWords splits a line at white space; what stands between double quotes stays one word, without
// them, and a backslash takes the next character as it is, as iptables-restore reads it.
func splitWords(line string) []string {
	var words []string
	var word strings.Builder
	quoted, escaped, open := false, false, false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quoted:
			escaped = true
		case r == '"':
			quoted, open = !quoted, true
		case !quoted && (r == ' ' || r == '\t' || r == '\n' || r == '\r'):
			if open || word.Len() > 0 {
				words = append(words, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
		}
	}
	if open || word.Len() > 0 {
		words = append(words, word.String())
	}
	return words
}

var nftTable = regexp.MustCompile(`^(?:(add|create|delete|destroy)\s+)?table\s+(?:(ip|ip6|inet|arp|bridge|netdev)\s+)?([A-Za-z_][A-Za-z0-9_./\\-]*)`)

// nftTables are the tables, as "inet filter", that exist after an nft script or in the text of nft list
// ruleset, in order of their first mention.
func nftTables(script string) []string {
	var tables []string
	statements := strings.FieldsFunc(withoutComments(script), func(r rune) bool { return r == '\n' || r == ';' })
	for _, statement := range statements {
		statement = strings.TrimSpace(statement)
		if strings.HasPrefix(statement, "flush ruleset") {
			tables = nil
			continue
		}
		match := nftTable.FindStringSubmatch(statement)
		if match == nil {
			continue
		}
		family := match[2]
		if family == "" {
			family = "ip" // nft's own default
		}
		table := family + " " + match[3]
		tables = slices.DeleteFunc(tables, func(t string) bool { return t == table })
		if match[1] != "delete" && match[1] != "destroy" {
			tables = append(tables, table)
		}
	}
	return tables
}

// withoutComments removes comments and the contents of quoted strings from an nft script.
func withoutComments(script string) string {
	var b strings.Builder
	quoted, comment := false, false
	for _, r := range script {
		switch {
		case r == '\n':
			quoted, comment = false, false
		case comment:
			continue
		case r == '"':
			quoted = !quoted
		case quoted:
			continue
		case r == '#':
			comment = true
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

var (
	savedCounter = regexp.MustCompile(`\[\d+:\d+\]`)
	nftCounter   = regexp.MustCompile(`packets \d+ bytes \d+`)
	nftExpiry    = regexp.MustCompile(` expires [0-9a-z]+`)
)

// configuration is a listing of rules without what changes by itself: counters, dates, the remaining
// life of set elements.
func configuration(listing string) string {
	var b strings.Builder
	for line := range strings.Lines(listing) {
		if strings.HasPrefix(line, "# ") {
			continue
		}
		line = strings.TrimPrefix(savedCounter.ReplaceAllString(line, "[0:0]"), "[0:0] ")
		line = nftCounter.ReplaceAllString(line, "packets 0 bytes 0")
		b.WriteString(nftExpiry.ReplaceAllString(line, ""))
	}
	return b.String()
}
