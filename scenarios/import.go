package scenarios

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/rules"
)

// Imported holds the experiment that [Import] makes of an operator's files.
type Imported struct {
	Text  []byte   // an experiment
	Notes []string // what is left out, which names are mapped, what listens; a sentence each
}

// Import makes an experiment of an operator's files, by path: rules of iptables-save or command
// lines of iptables, scripts of nft, sets of ipset, services of ipvsadm, sysctl.d or sysctl -a,
// modprobe.d. It tells by its content which is which. The error is an [*InvalidError].
func Import(paths []string) (Imported, error) {
	f := filesBeside("./import")
	i := importer{texts: map[string]string{}}
	for _, path := range paths {
		text, err := f.readAny(path, true)
		if err != nil {
			return Imported{}, invalidf(err, "reading %s: %v", path, fileError(err))
		}
		if !i.take(path, text) {
			return Imported{}, invalidf(nil, "%s is none of the texts that ctload imports: "+
				"iptables-save, ip6tables-save, nft, ipset save, ipvsadm -S, sysctl.d, modprobe.d",
				path)
		}
	}
	return i.experiment()
}

// take adds the text of a file, and reports whether it is one that the importer knows.
func (i *importer) take(path, text string) bool {
	key := kindOf(path, text)
	switch key {
	case "":
		return false
	case "commands":
		key = "rules"
		if strings.Contains(text, "ip6tables") {
			key = "rules6"
		}
		text = i.commands(path, text)
	case "sysctl":
		text = i.sysctls(path, text)
	}
	i.note("%s is read as %s", path, key)
	i.texts[key] += strings.TrimSuffix(text, "\n") + "\n"
	return true
}

var (
	tableLine   = regexp.MustCompile(`(?m)^\s*\*(filter|nat|raw|mangle|security)\s*$`)
	commandLine = regexp.MustCompile(`(?m)^\s*(?:sudo\s+)?(?:/\S*/)?ip6?tables\s+-`)
	nftLine     = regexp.MustCompile(`(?m)^\s*(?:add\s+|create\s+)?table\s+(?:(?:inet|ip|ip6|arp|` +
		`bridge|netdev)\s+)?\S+|^#!/usr/sbin/nft|^\s*flush\s+ruleset`)
	setLine      = regexp.MustCompile(`(?m)^\s*(?:create|-N)\s+\S+\s+(?:hash|bitmap|list):`)
	serviceLine  = regexp.MustCompile(`(?m)^\s*-[Aa] -[tuf] `)
	settingLine  = regexp.MustCompile(`(?m)^\s*-?[a-z0-9_]+(?:[./][\w*@:-]+)+\s*=`)
	modprobeLine = regexp.MustCompile(`(?m)^\s*(?:options|install|blacklist|alias|softdep)\s+\S`)
	moduleLine   = regexp.MustCompile(`^[\w-]+$`)
	ipv6Text     = regexp.MustCompile(`ip6tables-save|ipv6-icmp|icmpv6|(?:-s|-d) [0-9a-f:]*::`)
)

// kindOf returns the key of the language that takes a text, or commands; "" for another one.
func kindOf(path, text string) string {
	switch {
	case tableLine.MatchString(text):
		if ipv6Text.MatchString(text) || strings.Contains(filepath.Base(path), "6") {
			return "rules6"
		}
		return "rules"
	case setLine.MatchString(text):
		return "ipset"
	case commandLine.MatchString(text):
		return "commands"
	case nftLine.MatchString(text):
		return "nft"
	case serviceLine.MatchString(text):
		return "ipvs"
	case modprobeLine.MatchString(text):
		return "modprobe"
	case settingLine.MatchString(text):
		return "sysctl"
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' &&
			!moduleLine.MatchString(line) {
			return ""
		}
	}
	return "modprobe"
}

type importer struct {
	texts map[string]string // by key
	notes []string
}

// note adds a sentence of one line, whatever line ends the names of files have.
func (i *importer) note(format string, args ...any) {
	words := strings.Fields(fmt.Sprintf(format, args...))
	i.notes = append(i.notes, strings.Join(words, " "))
}

// assembled returns a text of iptables-save in which each table stands once, as ufw has its tables
// in several files: the chains of all of them, and then the rules.
func assembled(family, text string) string {
	var order []string
	read := rules.Iptables(family, text)
	for _, t := range read.Tables {
		if !slices.Contains(order, t.Name) {
			order = append(order, t.Name)
		}
	}
	if len(order) == len(read.Tables) {
		return text
	}
	var b strings.Builder
	for _, name := range order {
		var chains, others []string
		for _, t := range read.Tables {
			if t.Name != name {
				continue
			}
			for _, line := range t.Lines {
				if line.Declares() != "" {
					chains = append(chains, line.Text)
				} else {
					others = append(others, line.Text)
				}
			}
		}
		lines := slices.Concat([]string{"*" + name}, chains, others, []string{"COMMIT\n"})
		b.WriteString(strings.Join(lines, "\n"))
	}
	return b.String()
}

// commands turns command lines of iptables into the text of iptables-save.
func (i *importer) commands(path, text string) string {
	tables := map[string][]string{}
	left := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		place := commandLine.FindStringIndex(line)
		if place == nil || strings.ContainsAny(line, "$`|;&<>") {
			if line != "" && line[0] != '#' {
				left++
			}
			continue
		}
		words := strings.Fields(line[place[1]-1:])
		table := "filter"
		if at := slices.Index(words, "-t"); at >= 0 && at+1 < len(words) {
			table = words[at+1]
			words = slices.Delete(words, at, at+2)
		}
		switch {
		case len(words) == 3 && words[0] == "-P":
			words = []string{":" + words[1], words[2], "[0:0]"}
		case len(words) == 2 && words[0] == "-N":
			words = []string{":" + words[1], "-", "[0:0]"}
		case len(words) == 0 || slices.Contains([]string{"-F", "-X", "-Z", "-L", "-S"}, words[0]):
			continue // the DUT's tables are empty
		}
		tables[table] = append(tables[table], strings.Join(words, " "))
	}
	if left > 0 {
		i.note("%s: %d lines that are no plain command of iptables are left out", path, left)
	}
	var b strings.Builder
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		fmt.Fprintf(&b, "*%s\n%s\nCOMMIT\n", table, strings.Join(tables[table], "\n"))
	}
	return b.String()
}

// manySettings is more than an operator writes: the text is of sysctl -a.
const manySettings = 300

// sysctls keeps the settings of the network; of sysctl -a those of connection tracking.
func (i *importer) sysctls(path, text string) string {
	var kept []string
	all := strings.Count(text, "\n") > manySettings
	left := map[string]int{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		name, _, _ := strings.Cut(strings.TrimLeft(line, " -"), "=")
		key, _ := kernels.Key(strings.TrimSpace(name))
		rest, tracking := strings.CutPrefix(key, kernels.Prefix)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case tracking && rest != "count" && (!all || slices.Contains(kernels.Settings, rest)),
			!all && strings.HasPrefix(key, "net."), all && key == "net.ipv4.ip_forward":
			kept = append(kept, line)
		default:
			first, _, _ := strings.Cut(key, ".")
			left[first+".*"]++
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(left)) {
		i.note("%s: %d settings of %s are left out", path, left[folder], folder)
	}
	return strings.Join(kept, "\n")
}

// experiment writes the experiment.
func (i *importer) experiment() (Imported, error) {
	for _, key := range rulesKeys {
		i.texts[key] = assembled(ruleFamilies[familyOf(key)], i.texts[key])
	}
	f := firewall{Ruleset: rules.Read(rules.Texts{
		IPv4: i.texts["rules"], IPv6: i.texts["rules6"], NFT: i.texts["nft"],
	})}
	topology, cards := i.wiring(f)
	addresses, servers, port := i.services(f)
	dut := &node{kind: mapping}
	for _, key := range fileKeys {
		if text := plain(i.texts[key]); strings.TrimSpace(text) != "" {
			dut.add(key, &node{kind: scalar, text: text})
		}
	}
	if len(cards) > 0 {
		dut.add("interfaces", cards.tree())
	}
	if len(addresses) > 0 {
		dut.add("addresses", addresses.tree())
	}
	top := &node{kind: mapping}
	top.add("experiment", text("imported"))
	if servers > 0 {
		kind := &node{kind: mapping}
		kind.add("kind", text(string(Router)))
		kind.add("servers", text(strconv.Itoa(servers)))
		top.add("topology", kind)
	} else {
		top.add("topology", text(string(topology)))
	}
	top.add("dut", dut)
	if setup := i.accounts(f); len(setup) > 0 {
		dut.add("setup", listTree(setup))
	}
	target := ""
	if servers > 0 {
		target = nodeDUT
	}
	if port == 0 {
		port = i.port(f)
	}
	load := fields(Entry{
		Generator: HTTP, Requests: 5000, Concurrency: 200, Timeout: Duration(10e9),
		Target: target, Ports: Ports{{port, port}},
	}, Entry{})
	top.add("workload", &node{kind: list, items: []*node{load}})
	var b strings.Builder
	for _, n := range i.notes {
		b.WriteString("# " + n + "\n")
	}
	b.WriteString(write(top))
	return Imported{Text: []byte(b.String()), Notes: i.notes}, nil
}

var lineEnd = regexp.MustCompile(`(?m)[ \t]+$`)

// plain returns a text that stands in a file as it is: without tabs, and blanks at the ends of
// lines.
func plain(text string) string {
	text = lineEnd.ReplaceAllString(strings.ReplaceAll(text, "\t", "    "), "")
	return strings.Trim(text, "\n") + "\n"
}

// wiring chooses the topology by what the rules forward and translate, and the cards for the
// interfaces that they name most.
func (i *importer) wiring(f firewall) (TopologyKind, Cards) {
	topology := Server
	uses, outside, inside := map[string]int{}, "", ""
	leads := f.translatesDestinations()
	for _, t := range f.Tables {
		for _, c := range t.Chains {
			forwards := strings.EqualFold(c.Hook, "forward") && len(c.Rules) > 0
			if forwards && (!strings.EqualFold(c.Policy, "DROP") || lets(t, c, nil)) {
				topology = Router
			}
			for _, r := range c.Rules {
				if r.SourceNAT != nil {
					topology = Router
				}
				for _, name := range r.Names {
					wild := strings.ContainsAny(name.Text, "+*$")
					if name.Kind == rules.Interface && name.Text != "lo" && !wild {
						uses[name.Text]++
					}
				}
				switch {
				case r.SourceNAT != nil && len(r.Out.List) > 0 && !r.Out.Negated:
					outside = cmp.Or(outside, r.Out.List[0])
				case r.SourceNAT != nil && len(r.Out.List) > 0 && r.Out.List[0] != "lo":
					inside = cmp.Or(inside, r.Out.List[0])
				}
			}
		}
	}
	names := slices.SortedFunc(maps.Keys(uses), func(a, b string) int {
		return cmp.Or(uses[b]-uses[a], cmp.Compare(a, b))
	})
	var cards Cards
	give := func(name, link string) {
		if name != "" && interfaceForm.MatchString(name) {
			cards = append(cards, Card{name, link})
			i.note("the interface %s is the DUT's card on the link %s", name, link)
		}
		names = slices.DeleteFunc(names, func(n string) bool { return n == name })
	}
	first := func() string { return append(slices.Clone(names), "")[0] }
	if inside != "" && leads {
		outside = inside // to the lab: what the load is led to is there
	}
	if topology == Router {
		wan := func(name string) bool { return strings.HasPrefix(name, "wan") }
		if at := slices.IndexFunc(names, wan); outside == "" && at >= 0 {
			outside = names[at]
		}
		give(outside, nodeServer)
	}
	give(first(), nodeClient)
	for _, name := range names {
		i.note("the interface %s is none of the DUT: rules about it match nothing", name)
	}
	return topology, cards
}

// lets reports whether a chain, or one that it jumps to, lets packets of new connections pass.
func lets(t *rules.Table, c *rules.Chain, seen []*rules.Chain) bool {
	if c == nil || slices.Contains(seen, c) {
		return false
	}
	seen = append(seen, c)
	return slices.ContainsFunc(c.Rules, func(r *rules.Rule) bool {
		passes := r.Verdict == "ACCEPT" && (r.States.Any() || r.States.Has("NEW")) &&
			(r.Protocols.Any() || r.Protocols.Has("tcp"))
		return passes || lets(t, t.Chain(r.Verdict), seen)
	})
}

// mostServers bounds the servers of an imported experiment: further addresses share them.
const mostServers = 4

// services chooses the service that the load goes to, where rules lead it on to other nodes: the
// DUT has its address, and servers those that the rules lead to. Without any, servers is 0; port is
// 0 where the rules name none.
func (i *importer) services(f firewall) (addresses Addresses, servers int, port Port) {
	services, targets := f.Services()
	servers = min(len(targets), mostServers)
	if servers == 0 {
		return nil, 0, 0
	}
	give := func(address netip.Addr, owner string) {
		addresses = append(addresses, Address{address.String(), owner})
		i.note("the address %s is that of %s", address, owner)
	}
	for n, target := range targets {
		give(target, nodeNamed(fmt.Sprint(nodeServer, n%servers+1)))
	}
	for _, s := range services {
		if slices.Contains(targets, s.Address) {
			continue
		}
		if s.Address.IsValid() {
			give(s.Address, nodeDUT)
		}
		i.note("the load goes to port %d of the dut, from where the rules lead it on", s.Port)
		return addresses, servers, Port(s.Port)
	}
	return addresses, servers, 0
}

// accounts returns the commands that make the accounting objects of rules, which the programs that
// write the rules make.
func (i *importer) accounts(f firewall) (commands []string) {
	for _, t := range f.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				for _, n := range r.Names {
					command := "nfacct add " + n.Text
					if n.Kind == rules.Account && !slices.Contains(commands, command) {
						commands = append(commands, command)
						i.note("%s is made before the rules, by nfacct", n.Text)
					}
				}
			}
		}
	}
	return commands
}

// port chooses the port of the load: the first that a rule accepts, or leads on, or the default.
func (i *importer) port(f firewall) Port {
	for _, t := range f.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				port, ok := r.Destinations.Port()
				tcp := !r.Protocols.Has("udp") && !r.Protocols.Has("17")
				leads := r.Target != "" || r.Verdict == "ACCEPT"
				if ok && tcp && leads && port != 22 {
					i.note("the load goes to port %d, as the rule %q has it", port, r.Text)
					return Port(port)
				}
			}
		}
	}
	return defaultPort
}
