package replay

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/rules"
	"github.com/ctload/ctload/scenarios"
)

// rules takes over the rules of the host, with its addresses and interfaces mapped to the lab's.
func (m *maker) rules() {
	d, six := &m.draft.DUT, m.family() == scenarios.IPv6
	texts := rules.Texts{IPv4: plain(m.c.Rules.IPv4), IPv6: plain(m.c.Rules.IPv6),
		NFT: plain(m.c.Rules.NFT)}
	if texts.IPv4 != "" || texts.IPv6 != "" {
		texts.NFT = withoutIptables(texts.NFT)
	}
	unused, other := &texts.IPv6, "IPv6"
	if six {
		unused, other = &texts.IPv4, "IPv4"
	}
	if *unused != "" {
		*unused = ""
		m.note("the load has one address family, and rules of %s are left out", other)
	}
	wanted := scenarios.WantedBy(texts)
	if wanted.Topology == scenarios.Router {
		m.draft.Topology.Kind = scenarios.Router
	}
	m.draft.DUT.Cards = wanted.Cards
	d.Setup = wanted.Setup
	m.notes = append(m.notes, wanted.Notes...)
	d.IPSet = m.sets(wanted.Sets, texts)
	mapper := &mapper{maker: m, unknown: map[string]bool{}}
	d.Rules, d.Rules6 = mapper.text(texts.IPv4), mapper.text(texts.IPv6)
	d.NFT = mapper.text(texts.NFT)
	if n := len(mapper.unknown); n > 0 {
		m.note("%d addresses in rules belong to no captured entry: rules about them match nothing "+
			"of the load", n)
	}
	m.translate(d)
	m.track(d)
}

var lineEnd = regexp.MustCompile(`(?m)[ \t]+$`)

// plain returns rules without tabs and blanks at the ends of lines.
func plain(text string) string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r", ""), "\t", "    ")
	if text = strings.Trim(lineEnd.ReplaceAllString(text, ""), "\n"); text == "" {
		return ""
	}
	return text + "\n"
}

// ownTable begins a table of nft that iptables has made.
var ownTable = regexp.MustCompile(`^table ip6? (filter|nat|mangle|raw|security) \{`)

// withoutIptables leaves out the tables of iptables, which its own listing has too.
func withoutIptables(text string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		inside = inside || ownTable.MatchString(line)
		if !inside && !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
		if inside && strings.HasPrefix(line, "}") {
			inside = false
		}
	}
	if strings.TrimSpace(b.String()) == "" {
		return ""
	}
	return strings.TrimLeft(b.String(), "\n")
}

// sets makes the sets that rules match: a capture holds their names alone.
func (m *maker) sets(names []string, texts rules.Texts) string {
	kinds := map[int]string{1: "hash:net", 2: "hash:net,port", 3: "hash:ip,port,ip"}
	family := ""
	if m.family() == scenarios.IPv6 {
		family = " family inet6"
	}
	var b strings.Builder
	for _, name := range names {
		uses := regexp.MustCompile(`--match-set ` + regexp.QuoteMeta(name) + ` ([a-z,]+)`)
		parts := 1
		if found := uses.FindStringSubmatch(texts.IPv4 + texts.IPv6); found != nil {
			parts = strings.Count(found[1], ",") + 1
		}
		fmt.Fprintf(&b, "create %s %s%s\n", name, kinds[min(parts, 3)], family)
		m.note("the set %s is empty: a capture does not hold what is in it", name)
	}
	return b.String()
}

// mapper gives the addresses in rules those of the lab.
type mapper struct {
	*maker
	unknown map[string]bool
	before  []string // the words before the one that is mapped, in its line
}

// words matches the parts of rules: addresses with their lengths and ports, and other words.
var words = regexp.MustCompile(`[^\s{},;"]+`)

// text maps every address in rules.
func (p *mapper) text(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		p.before = nil
		b.WriteString(words.ReplaceAllStringFunc(line, func(word string) string {
			mapped := p.word(word)
			p.before = append(p.before, word)
			return mapped
		}))
	}
	return b.String()
}

// word maps a word that is an address, a network, a range, or an address with a port.
func (p *mapper) word(word string) string {
	if prefix, err := netip.ParsePrefix(word); err == nil {
		return p.network(prefix, word)
	}
	if a, err := netip.ParseAddr(word); err == nil {
		return p.address(a, word)
	}
	if first, _, ok := strings.Cut(word, "-"); ok {
		if a, err := netip.ParseAddr(first); err == nil {
			return p.address(a, word)
		}
	}
	if host, port, ok := strings.Cut(word, ":"); ok {
		if a, err := netip.ParseAddr(host); err == nil {
			return p.address(a, host) + ":" + port
		}
	}
	return word
}

// role says what rules use an address for, by the words before it.
func (p *mapper) role() string {
	n := len(p.before)
	if n == 0 {
		return ""
	}
	switch last := p.before[n-1]; last {
	case "-s", "--source", "saddr", "==", "!=", "!":
		return "source"
	case "-d", "--destination", "daddr":
		return "destination"
	case "--to-source", "--to-destination":
		return last
	case "to":
		for _, word := range slices.Backward(p.before) {
			switch word {
			case "snat":
				return "--to-source"
			case "dnat":
				return "--to-destination"
			}
		}
	}
	return ""
}

// network maps a network: that of the clients or of the servers.
func (p *mapper) network(prefix netip.Prefix, word string) string {
	if prefix.Bits() == 0 || prefix.Addr().IsLoopback() || prefix.Addr().IsMulticast() {
		return word
	}
	if prefix.IsSingleIP() {
		return p.address(prefix.Addr(), word)
	}
	switch {
	case !p.ours(prefix.Addr()):
		return word
	case slices.ContainsFunc(p.traffic.Sources, prefix.Contains):
		return p.placeholder("client.network")
	case slices.ContainsFunc(p.traffic.Targets, prefix.Contains) && p.router():
		return p.placeholder("server.network")
	}
	return p.address(prefix.Addr(), word)
}

func (p *mapper) router() bool { return p.draft.Topology.Kind == scenarios.Router }

// ours reports whether an address is of the experiment's family.
func (p *mapper) ours(a netip.Addr) bool { return a.Is6() == (p.family() == scenarios.IPv6) }

// placeholder returns the word for a value of the lab, of the experiment's family.
func (m *maker) placeholder(word string) string {
	if m.family() == scenarios.IPv6 {
		word += "6"
	}
	return "${" + word + "}"
}

// address maps one address by the host that has it, or else by the rule's use of it.
func (p *mapper) address(a netip.Addr, word string) string {
	if !p.ours(a) || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
		return word
	}
	role := p.role()
	translates := slices.Contains(p.before, "SNAT") || slices.Contains(p.before, "MASQUERADE") ||
		slices.Contains(p.before, "POSTROUTING")
	node := p.heavy[a.String()]
	switch {
	case role == "--to-source" && p.router():
		return p.placeholder("dut.server.address")
	case role == "--to-destination" && p.router():
		return p.placeholder("server.address")
	case role == "--to-source", role == "--to-destination":
		return p.placeholder("dut.client.address")
	case node != "":
		return p.placeholder(node + ".address")
	case p.traffic.IsHost(a):
		return p.placeholder("dut.client.address")
	case slices.Contains(p.traffic.Sources, a):
		return p.placeholder("client.network")
	case slices.Contains(p.traffic.Targets, a) && p.router():
		return p.placeholder("server.address")
	case role == "source" && translates:
		return p.placeholder("client.network")
	}
	p.unknown[a.String()] = true
	return word
}

// translate adds the translation that the entries show and the rules do not make.
func (m *maker) translate(d *scenarios.Configuration) {
	if m.draft.Topology.Kind != scenarios.Router {
		return
	}
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool {
			return strings.Contains(d.Rules+d.Rules6+d.NFT, w)
		})
	}
	switch {
	case m.traffic.SourceNAT && !has("SNAT", "MASQUERADE", "snat", "masquerade"):
		d.NAT = scenarios.Masquerade
	case m.traffic.DestinationNAT && !has("DNAT", "dnat", "REDIRECT", "redirect"):
		d.NAT = scenarios.DNAT
	}
	if d.NAT != scenarios.NoNAT {
		m.note("the entries are translated, and no captured rule does it: nat: %s stands for it",
			d.NAT)
	}
}

// tracking is a rule that makes the kernel track, and changes nothing else.
const tracking = "-A PREROUTING -m conntrack --ctstate NEW -j ACCEPT"

// track adds a rule that needs connection tracking, where the captured ones do not: the table had
// entries, so that something on the host needed it.
func (m *maker) track(d *scenarios.Configuration) {
	if d.Tracks(m.family()) {
		return
	}
	m.addRules(d, "mangle", tracking)
	m.note("no captured rule needs connection tracking: one in mangle turns it on")
}

// addRules adds rules at the front of a table of iptables.
func (m *maker) addRules(d *scenarios.Configuration, table string, lines ...string) {
	text := &d.Rules
	if m.family() == scenarios.IPv6 {
		text = &d.Rules6
	}
	added := strings.Join(lines, "\n") + "\n"
	head := "*" + table + "\n"
	at := strings.Index("\n"+*text, "\n"+head)
	if at < 0 {
		*text = strings.TrimPrefix(strings.TrimSpace(*text)+"\n", "\n") +
			head + added + "COMMIT\n"
		return
	}
	rest := (*text)[at+len(head):]
	var chains strings.Builder // declarations come first
	for strings.HasPrefix(rest, ":") {
		line, after, _ := strings.Cut(rest, "\n")
		chains.WriteString(line + "\n")
		rest = after
	}
	*text = (*text)[:at] + head + chains.String() + added + rest
}

// untrack exempts a service in both directions.
func (m *maker) untrack(d *scenarios.Configuration, protocol, port string) {
	var lines []string
	chains := []string{"PREROUTING --dport", "OUTPUT --sport"}
	if m.draft.Topology.Kind == scenarios.Router {
		chains = append(chains, "PREROUTING --sport", "OUTPUT --dport")
	}
	for _, at := range chains {
		chain, match, _ := strings.Cut(at, " ")
		lines = append(lines, fmt.Sprintf("-A %s -p %s -m %s %s %s -j CT --notrack", chain,
			protocol, protocol, match, port))
	}
	m.addRules(d, "raw", lines...)
}

// dropSource drops what comes from a node before it is tracked: by its address, and crafted
// packets, which have others, by their ports.
func (m *maker) dropSource(d *scenarios.Configuration, node string) {
	lines := []string{fmt.Sprintf("-A PREROUTING -s %s -j DROP", m.placeholder(node+".address"))}
	for _, e := range m.draft.Workload {
		if e.From != node || !e.Generator.Fact().Crafted {
			continue
		}
		for _, port := range e.Ports.Expand() {
			lines = append(lines, fmt.Sprintf("-A PREROUTING -i ${client.interface} -p tcp "+
				"-m tcp --dport %d -j DROP", port))
		}
	}
	m.addRules(d, "raw", lines...)
}
