package scenarios

import (
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
)

// normalise rewrites older or looser forms of a file into the one form that the rest of the package
// reads, and warns of the old ones.
func normalise(p *problems, root *node) *node {
	n := normaliser{p, map[*node]*node{}}
	if dut := root.get("dut"); dut != nil && dut.kind == mapping {
		root = root.with("dut", positionOf(root, "dut"), n.normaliseDUT(dut))
	}
	if actions := root.get("actions"); actions != nil {
		root = root.with("actions", positionOf(root, "actions"), n.normaliseActions(actions))
	}
	scenarios := root.get("scenarios")
	if scenarios == nil || scenarios.kind != mapping {
		return root
	}
	normal := *scenarios
	normal.entries = slices.Clone(scenarios.entries)
	for i, e := range normal.entries {
		if e.value.kind == mapping {
			normal.entries[i].value = n.normaliseDUT(e.value)
			if actions := e.value.get("actions"); actions != nil {
				normal.entries[i].value = normal.entries[i].value.with("actions", positionOf(e.value, "actions"), n.normaliseActions(actions))
			}
		}
	}
	return root.with("scenarios", positionOf(root, "scenarios"), &normal)
}

// positionOf returns the position of a key.
func positionOf(n *node, key string) Position {
	for _, e := range n.entries {
		if e.key == key {
			return e.at
		}
	}
	return n.at
}

// normaliser remembers the rules that it has seen: with an alias many scenarios share one text.
type normaliser struct {
	*problems
	rules map[*node]*node
}

func (p normaliser) normaliseDUT(dut *node) *node {
	if sysctl := dut.get("sysctl"); sysctl != nil {
		dut = normaliseSysctl(p.problems, dut, sysctlMapping(p.problems, sysctl))
		if !sysctl.empty() && len(dut.get("sysctl").entries) == 0 {
			// Everything given moved elsewhere: the empty rest must not remove the inherited
			// values.
			dut = dut.without("sysctl")
		}
	}
	dut = p.normaliseRules(dut)
	if modules := dut.get("modules"); modules != nil && modules.kind == mapping {
		for _, key := range []string{"load", "remove"} {
			if names := modules.get(key); names != nil && names.kind == list {
				modules = modules.with(key, positionOf(modules, key), normaliseModules(p.problems, names))
			}
		}
		dut = dut.with("modules", positionOf(dut, "modules"), modules)
	}
	return dut
}

// sysctlMapping turns the other forms of sysctls into a mapping: a list of "key=value", as the
// arguments of sysctl -w, and a text of "key = value" lines, as sysctl.conf.
func sysctlMapping(p *problems, n *node) *node {
	built := &node{kind: mapping, at: n.at}
	add := func(text string, at Position) {
		key, value, ok := strings.Cut(text, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || key == "" || value == "" {
			p.errorf(at, "a setting must be key=value, not %s", quote(text))
			return
		}
		built.entries = append(built.entries, entry{key, at, &node{kind: scalar, at: at, text: value}})
	}
	switch n.kind {
	case list:
		for _, item := range n.items {
			text, ok := scalarText(p, item)
			if !ok {
				continue
			}
			if key, value, found := strings.Cut(text, "="); found && (key != strings.TrimRight(key, " \t") || value != strings.TrimLeft(value, " \t")) {
				p.warnf(item.at, "%s: with spaces around the = the command sysctl -w takes each word for a setting of its own, refuses them all, and the kernel keeps its value; ctload sets %s to %s",
					quote(text), strings.TrimSpace(key), strings.TrimSpace(value))
			}
			add(text, item.at)
		}
	case scalar:
		for i, line := range strings.Split(n.text, "\n") {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && line[0] != ';' {
				add(strings.TrimPrefix(line, "-"), n.lineAt(i))
			}
		}
	case mapping:
		return n
	default:
	}
	return built
}

// normaliseSysctl gives the sysctls of a dut or scenario their current names. The hash size, which
// is a sysctl too, becomes buckets.
func normaliseSysctl(p *problems, dut, sysctl *node) *node {
	built := &node{kind: mapping, at: sysctl.at}
	for _, e := range sysctl.entries {
		key, renamed := kernels.Key(strings.TrimSpace(e.key))
		if renamed {
			p.warnf(e.at, "%s is the old name of %s, which is set instead", e.key, key)
		}
		value := e.value
		if value.kind == scalar && value.text != strings.TrimSpace(value.text) {
			trimmed := *value
			trimmed.text = strings.TrimSpace(value.text)
			value = &trimmed
		}
		if given := value.text; strings.HasPrefix(key, kernels.Prefix) && strings.HasSuffix(given, ".") {
			p.errorf(value.at, "%s ends with a full stop, and the kernel refuses it (EINVAL): %s", quote(given), strings.TrimRight(given, "."))
		}
		switch key {
		case kernels.KeyCount:
			p.warnf(e.at, "%s cannot be written: it is the number of entries, and the kernel refuses the write, so that the table keeps its size; the size is %s. ctload leaves the setting out", e.key, kernels.KeyMax)
			continue
		case kernels.KeyBuckets:
			if given := dut.get("buckets"); given != nil && (given.text != value.text || given.kind != scalar) {
				p.errorf(e.at, "the hash size is given twice, here and as buckets in line %d", given.at.Line)
				continue
			}
			dut = dut.with("buckets", e.at, value)
			continue
		}
		checkKey(p, e.at, key)
		if first := built.get(key); first != nil {
			if first.text != value.text || first.kind != scalar {
				p.errorf(e.at, "%s is given twice, first in line %d", key, first.at.Line)
			}
			continue
		}
		built.entries = append(built.entries, entry{key, e.at, value})
	}
	return dut.with("sysctl", positionOf(dut, "sysctl"), built)
}

// normaliseRules parses the iptables-save texts of a dut or an action and spells the notrack target
// as iptables does now. xt_NOTRACK is gone since Linux 3.8; iptables still takes -j NOTRACK, in
// capitals only, for CT --notrack.
func (p normaliser) normaliseRules(n *node) *node {
	for _, key := range rulesKeys {
		text := n.get(key)
		if text == nil || text.kind != scalar {
			continue
		}
		if p.rules[text] == nil {
			p.rules[text] = todaysRules(p.problems, text, familyOf(key))
		}
		n = n.with(key, positionOf(n, key), p.rules[text])
	}
	return n
}

func todaysRules(p *problems, n *node, family Family) *node {
	tables := parseRules(p, n, family)
	told := false
	for _, t := range tables {
		for _, line := range t.lines {
			if line.Rule == nil || !strings.EqualFold(line.Rule.Verdict, "NOTRACK") {
				continue
			}
			if !told {
				p.warnf(line.at, "the target NOTRACK is now spelt -j CT --notrack, which is what ctload loads")
				told = true
			}
			line.Text = line.Retarget("-j CT --notrack")
		}
	}
	return rulesNode(n.at, tables)
}

func normaliseModules(p *problems, names *node) *node {
	built := *names
	built.items = nil
	seen := map[string]bool{}
	for _, item := range names.items {
		if item.kind == scalar {
			name, parameters, _ := strings.Cut(item.text, " ")
			if today, old := kernels.RenamedModules[name]; old {
				p.warnf(item.at, "the module %s is %s in kernels of today", name, today)
				renamed := *item
				renamed.text = strings.TrimSpace(today + " " + parameters)
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
