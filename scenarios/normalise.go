package scenarios

import (
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
)

// normalise rewrites older or looser forms of a file into the one form that the rest of the package
// reads, and warns of the old ones.
func normalise(p *problems, root *node) *node {
	n := normaliser{p, map[*node]*node{}}
	root = root.change("dut", n.dut).change("actions", n.actions)
	return root.change("scenarios", func(scenarios *node) *node {
		if scenarios.kind != mapping {
			return scenarios
		}
		return scenarios.each(func(s *node) *node { return n.dut(s).change("actions", n.actions) })
	})
}

// normaliser remembers the rules that it has seen: with an alias many scenarios share one text.
type normaliser struct {
	*problems
	seen map[*node]*node
}

// dut gives the settings, rules and modules of a dut or a scenario their current form.
func (p normaliser) dut(dut *node) *node {
	dut = p.inlined(dut)
	if sysctl := dut.get("sysctl"); sysctl != nil {
		dut = normaliseSysctl(p.problems, dut, sysctl)
		if !sysctl.empty() && len(dut.get("sysctl").entries) == 0 {
			// Everything given moved elsewhere: the empty rest must not remove the inherited
			// values.
			dut = dut.without("sysctl")
		}
	}
	return p.rules(dut).change("modules", func(modules *node) *node {
		return modules.change("load", p.modules).change("remove", p.modules)
	})
}

// actions gives the settings, rules and modules of actions their current form.
func (p normaliser) actions(actions *node) *node {
	return actions.each(func(action *node) *node {
		action = p.inlined(action)
		if sysctl := action.get("sysctl"); sysctl != nil {
			action = normaliseSysctl(p.problems, action, sysctl)
		}
		return p.rules(action).change("modules", p.modules)
	})
}

// spacedSetting matches a setting with white space beside its first equals sign.
var spacedSetting = regexp.MustCompile(`^[^=]*([ \t]=|=[ \t])`)

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
		given := &node{kind: scalar, at: at, text: value}
		built.entries = append(built.entries, entry{key, at, given})
	}
	switch n.kind {
	case list:
		for _, item := range n.items {
			text, ok := scalarText(p, item)
			if spacedSetting.MatchString(text) {
				p.warnf(item.at, "%s: with spaces around the = the command sysctl -w takes each "+
					"word for a setting of its own, refuses them all, and the kernel keeps its "+
					"value; ctload sets the new one", quote(text))
			}
			if ok {
				add(text, item.at)
			}
		}
	case scalar:
		for i, line := range strings.Split(n.text, "\n") {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && line[0] != ';' {
				add(strings.TrimPrefix(line, "-"), n.lineAt(i))
			}
		}
	case mapping:
		return n
	}
	return built
}

// normaliseSysctl gives the sysctls of a dut, scenario or action their current names. The hash
// size, which is a sysctl too, becomes buckets.
func normaliseSysctl(p *problems, dut, sysctl *node) *node {
	sysctl = sysctlMapping(p, sysctl)
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
		sentence := strings.HasPrefix(key, kernels.Prefix) && strings.HasSuffix(value.text, ".")
		p.refuse(sentence, value.at, "%s ends with a full stop: the kernel refuses it (EINVAL); "+
			"write %s", quote(value.text), strings.TrimRight(value.text, "."))
		switch key {
		case kernels.KeyCount:
			p.warnf(e.at, "%s cannot be written: it is the number of entries, and the kernel "+
				"refuses the write, so that the table keeps its size; the size is %s. ctload "+
				"leaves the setting out", e.key, kernels.KeyMax)
			continue
		case kernels.KeyBuckets:
			if b := dut.get("buckets"); b != nil && (b.text != value.text || b.kind != scalar) {
				p.errorf(e.at, "the hash size is given twice, here and as buckets in line %d",
					b.at.Line)
				continue
			}
			dut = dut.with("buckets", e.at, value)
			continue
		}
		checkKey(p, e.at, key)
		if first := built.get(key); first != nil {
			p.refuse(first.text != value.text || first.kind != scalar, e.at,
				"%s is given twice, first in line %d", key, first.at.Line)
			continue
		}
		built.entries = append(built.entries, entry{key, e.at, value})
	}
	return dut.with("sysctl", dut.keyPlace("sysctl"), built)
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
			if current, old := kernels.RenamedModules[name]; old {
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

// checkKey checks the name of a sysctl, which is the current one already.
func checkKey(p *problems, at Position, key string) {
	if len(key) > 200 || !sysctlForm.MatchString(key) {
		p.errorf(at, "%s is not the name of a sysctl, such as %s", quote(key), kernels.KeyMax)
		return
	}
	rest, ok := strings.CutPrefix(key, kernels.Prefix)
	if !ok {
		near := spelling.Nearest(key, []string{kernels.KeyMax, kernels.KeyBuckets})
		p.refuse(near != "" && strings.Contains(key, "conntrack"), at,
			"%s is not a setting of connection tracking%s", quote(key), spelling.Meant(near))
		return
	}
	switch near := spelling.Nearest(rest, kernels.Settings); {
	case slices.Contains(kernels.Settings, rest):
	case near != "":
		p.errorf(at, "%s is not a setting of nf_conntrack%s",
			quote(key), spelling.Meant(kernels.Prefix+near))
	default:
		p.warnf(at, "%s is not a setting of nf_conntrack that ctload knows; a kernel without it "+
			"makes the trial invalid", quote(key))
	}
}

// sysctlForm matches the dotted name of a sysctl. Names of interfaces in it may hold a slash for a
// dot.
var sysctlForm = regexp.MustCompile(`^[\w/@:-]+(\.[\w/@:-]+)+$`)
