package scenarios

import (
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
)

// normalise rewrites older or looser forms of a file into the one form that the rest of the package
// reads, and warns of the old ones.
func normalise(p *problems, root *node) *node {
	n := newNormaliser(p, root)
	root = root.change("dut", n.dut).change("actions", n.actions)
	return root.change("scenarios", func(scenarios *node) *node {
		if scenarios.kind != mapping {
			return scenarios
		}
		return scenarios.each(func(s *node) *node {
			p.refuse(s.has("addresses"), s.place("addresses"), "addresses stand in the dut: they "+
				"hold for all scenarios")
			return n.dut(s).change("actions", n.actions)
		})
	})
}

// normaliser remembers the rules that it has seen: with an alias many scenarios share one text.
type normaliser struct {
	*problems
	seen, placed map[*node]*node
	addresses    Addresses
}

// newNormaliser returns a normaliser for texts with the addresses of the dut of a file.
func newNormaliser(p *problems, root *node) normaliser {
	n := normaliser{problems: p, seen: map[*node]*node{}, placed: map[*node]*node{}}
	if given := root.get("dut").get("addresses"); given != nil && given.kind == mapping {
		n.addresses.decodeNode(newProblems(), given) // decoding the dut reports problems
	}
	return n
}

// dut gives the settings, rules and modules of a dut or a scenario their current form.
func (p normaliser) dut(dut *node) *node {
	dut = p.addressed(p.inlined(dut))
	if sysctl := dut.get("sysctl"); sysctl != nil {
		dut = normaliseSysctl(p.problems, dut, sysctl)
		if !sysctl.empty() && len(dut.get("sysctl").entries) == 0 {
			// Everything given moved elsewhere: the empty rest must not remove the inherited
			// values.
			dut = dut.without("sysctl")
		}
	}
	dut = p.modprobe(dut)
	return p.rules(dut).change("modules", func(modules *node) *node {
		return modules.change("load", p.modules).change("remove", p.modules)
	})
}

// actions gives the settings, rules and modules of actions their current form.
func (p normaliser) actions(actions *node) *node {
	return actions.each(func(action *node) *node {
		action = p.addressed(p.inlined(action))
		if sysctl := action.get("sysctl"); sysctl != nil {
			action = normaliseSysctl(p.problems, action, sysctl)
		}
		return p.rules(action).change("modules", p.modules)
	})
}

// rules parses the iptables-save texts of a dut or an action and spells the notrack target
// as iptables does now. xt_NOTRACK is gone since Linux 3.8; iptables still takes -j NOTRACK, in
// capitals only, for CT --notrack.
func (p normaliser) rules(n *node) *node {
	for _, key := range rulesKeys {
		n = n.change(key, func(text *node) *node {
			if text.kind != scalar {
				return text
			}
			if p.seen[text] == nil {
				p.seen[text] = currentRules(p.problems, text, familyOf(key))
			}
			return p.seen[text]
		})
	}
	return n
}

func currentRules(p *problems, n *node, family Family) *node {
	tables := parseRules(p, n, family)
	told := false
	for _, t := range tables {
		for _, line := range t.Lines {
			if line.Rule == nil || !strings.EqualFold(line.Rule.Verdict, "NOTRACK") {
				continue
			}
			if !told {
				p.warnf(t.place(line.At),
					"ctload loads the target NOTRACK as -j CT --notrack, its new name")
				told = true
			}
			line.Text = line.Retarget("-j CT --notrack")
		}
	}
	return rulesNode(n.at, tables)
}

// modules gives the modules of a list their current names, each once.
func (p normaliser) modules(names *node) *node {
	if names.kind != list {
		return names
	}
	built := *names
	built.items = nil
	seen := map[string]bool{}
	for _, item := range names.items {
		if item.kind == scalar {
			name, parameters, _ := strings.Cut(item.text, " ")
			if current, old := kernels.CurrentModule(name); old {
				p.warnf(item.at, "the module %s is %s in current kernels", name, current)
				renamed := *item
				renamed.text = strings.TrimSpace(current + " " + parameters)
				item = &renamed
			}
			if seen[item.text] {
				continue
			}
			seen[item.text] = true
		}
		built.items = append(built.items, item)
	}
	return &built
}

// modprobe turns lines of modprobe.d and modules-load.d into modules to load.
func (p normaliser) modprobe(dut *node) *node {
	given := dut.scalar("modprobe")
	if given == nil {
		return dut
	}
	modules := dut.get("modules")
	if modules == nil {
		modules = &node{kind: mapping, at: given.at}
	}
	load := &node{kind: list, at: given.at}
	if before := modules.get("load"); before != nil && before.kind == list {
		load.items = slices.Clone(before.items)
	}
	for i, line := range strings.Split(given.text, "\n") {
		words, at := strings.Fields(line), given.lineAt(i)
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
			continue
		case words[0] == "options" && len(words) > 2:
			words = words[1:]
		case len(words) > 1:
			p.warnf(at, "the line is left out: of modprobe.d, options of modules are read")
			continue
		}
		if !packetModule.MatchString(words[0]) {
			p.warnf(at, "the module %s is left out: it is not about packets", quote(words[0]))
			continue
		}
		item := &node{kind: scalar, at: at, text: strings.Join(words, " ")}
		same := func(n *node) bool { return n.text == words[0] }
		if i := slices.IndexFunc(load.items, same); i >= 0 {
			load.items[i] = item
		} else {
			load.items = append(load.items, item)
		}
	}
	modules = modules.with("load", given.at, load)
	return dut.without("modprobe").with("modules", given.at, modules)
}

// packetModule matches the modules that change what happens to packets.
var packetModule = regexp.MustCompile(`^(nf_|nft_|nfnetlink|xt_|ipt_|ip6t_|ip_|ip6_|iptable_|` +
	`ip6table_|x_tables|br|sch_|cls_|act_|tcp_|ts_)`)
