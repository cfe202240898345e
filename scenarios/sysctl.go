package scenarios

import (
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/rules"
	"github.com/ctload/ctload/internal/spelling"
)

// This file reads sysctls as sysctl(8), sysctl.d(5) and the command lines of guides have them.

// spacedSetting matches a setting with white space beside its first equals sign.
var spacedSetting = regexp.MustCompile(`^[^=]*([ \t]=|=[ \t])`)

var (
	// sysctlCommand matches the command and its options before the settings of sysctl -w.
	sysctlCommand = regexp.MustCompile(`^(?:sudo\s+)?(?:/s?bin/|/usr/s?bin/)?sysctl\s+(?:-\S+\s+)*`)
	// echoCommand matches a value that a command line writes into a file.
	echoCommand = regexp.MustCompile(
		`^(?:sudo\s+)?echo\s+(?:-n\s+)?["']?(.*?)["']?\s*(?:>|\|\s*(?:sudo\s+)?tee)\s*(\S+)$`)
	moduleParameter = regexp.MustCompile(`^/sys/module/([\w-]+)/parameters/(\w+)$`)
)

// settings builds the mapping of sysctls from its other forms.
type settings struct {
	*problems
	built *node
}

// sysctlMapping turns the other forms of sysctls into a mapping: a list of "key=value", as the
// arguments of sysctl -w, and a text of "key = value" lines, as sysctl.conf.
func sysctlMapping(p *problems, n *node) *node {
	s := settings{p, &node{kind: mapping, at: n.at}}
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
				s.line(text, func(int) Position { return item.at })
			}
		}
	case scalar:
		for i, line := range strings.Split(n.text, "\n") {
			if text := strings.TrimSpace(line); text != "" && text[0] != '#' && text[0] != ';' {
				indent := strings.Index(line, text)
				s.line(text, func(column int) Position {
					return n.placeOf(rules.Position{Line: i + 1, Column: indent + column + 1})
				})
			}
		}
	case mapping:
		for _, e := range n.entries {
			key, lax := strings.CutPrefix(e.key, "-")
			value := *e.value
			value.lax = lax
			s.built.entries = append(s.built.entries, entry{key, e.at, &value})
		}
	}
	return s.built
}

// line reads a setting of a text; at gives the place of a column, from 0.
func (s settings) line(text string, at func(column int) Position) {
	if echo := echoCommand.FindStringSubmatch(text); echo != nil {
		s.echoed(echo[1], echo[2], at(0))
		return
	}
	if command := sysctlCommand.FindString(text); command != "" {
		rest := strings.NewReplacer(`"`, "", `'`, "").Replace(text[len(command):])
		for _, each := range strings.Fields(rest) {
			if strings.ContainsAny(text, `"'`) {
				each = rest // one value with white space in it
			}
			s.add(each, at, len(command))
			if each == rest {
				break
			}
		}
		return
	}
	s.add(text, at, 0)
}

// add adds "key = value" or "-key", which is at a column of its line.
func (s settings) add(text string, at func(column int) Position, from int) {
	key, value, ok := strings.Cut(text, "=")
	start := from + len(key) + 1
	key, lax := strings.CutPrefix(strings.TrimSpace(key), "-")
	trimmed := strings.TrimSpace(value)
	start += strings.Index(value, trimmed)
	if key == "" || (!ok || trimmed == "") && (!lax || ok) {
		s.errorf(at(0), "a setting must be key=value, not %s", quote(text))
		return
	}
	bare := rules.Typed(trimmed)
	if len(bare) > 1 && bare[0] == '"' && strings.HasSuffix(bare, `"`) {
		bare = bare[1 : len(bare)-1]
	}
	if bare != trimmed {
		s.errorf(at(start), "%s has quotes, a dash or a space that the kernel does not "+
			"understand; write %s", quote(trimmed), bare)
		return
	}
	given := &node{kind: scalar, at: at(0), text: trimmed, lax: lax}
	if kept, why := asTheKernelReads(key, trimmed); kept != trimmed {
		s.warnf(at(start+len(kept)), "%s: %s; the kernel takes %s and passes over the rest",
			key, why, kept)
		given.text = kept
	}
	s.built.entries = append(s.built.entries, entry{key, at(0), given})
}

var numberFirst = regexp.MustCompile(`^-?(0x[0-9a-fA-F]+|[0-9]+)`)

// asTheKernelReads returns the part of a value that the kernel takes, and what follows it.
func asTheKernelReads(key, value string) (kept, why string) {
	canonical, _ := kernels.Key(key)
	number := numberFirst.FindString(value)
	rest := value[len(number):]
	comment := strings.IndexAny(rest, "#;")
	switch {
	case number == "" || rest == "" || rest[0] != ' ' && rest[0] != '\t':
		return value, ""
	case comment >= 0 && (rest[comment-1] == ' ' || rest[comment-1] == '\t'):
		return strings.TrimSpace(number + rest[:comment]), "a comment must be a line of its own"
	case kernels.OneNumber(canonical):
		return number, "it is one number"
	}
	return value, ""
}

// echoed reads a value that echo writes into a file below /proc/sys or /sys/module.
func (s settings) echoed(value, path string, at Position) {
	given := &node{kind: scalar, at: at, text: strings.TrimSpace(value)}
	parameter := moduleParameter.FindStringSubmatch(path)
	switch {
	case strings.HasPrefix(path, "/proc/sys/"):
		s.built.entries = append(s.built.entries, entry{path, at, given})
	case parameter == nil:
		s.errorf(at, "%s is not a sysctl: those are below /proc/sys", quote(path))
	case parameter[1] == kernels.Module && parameter[2] == "hashsize":
		s.built.entries = append(s.built.entries, entry{kernels.KeyBuckets, at, given})
	default:
		s.errorf(at, "%s is a parameter of a module; write modules: {load: [\"%s %s=%s\"]}",
			quote(path), parameter[1], parameter[2], given.text)
	}
}

// normaliseSysctl gives the sysctls of a dut, scenario or action their current names. The hash
// size, which is a sysctl too, becomes buckets. Of a key given twice the last value holds, as with
// sysctl(8).
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
		if i := built.index(key); i >= 0 {
			if first := built.entries[i].value; first.text != value.text || first.kind != scalar {
				p.warnf(e.at, "%s is given twice, first in line %d; the last one holds",
					key, first.at.Line)
			}
			built.entries = slices.Delete(built.entries, i, i+1)
		}
		built.entries = append(built.entries, entry{key, e.at, value})
	}
	return dut.with("sysctl", dut.keyPlace("sysctl"), built)
}

// checkKey checks the name of a sysctl, which is the current one already.
func checkKey(p *problems, at Position, key string) {
	if len(key) > 200 || !sysctlForm.MatchString(key) {
		p.errorf(at, "%s is not the name of a sysctl, such as %s", quote(key), kernels.KeyMax)
		return
	}
	if strings.ContainsAny(key, "*?[") {
		return // a pattern
	}
	rest, ok := strings.CutPrefix(key, kernels.Prefix)
	if !ok {
		near := spelling.Nearest(key, []string{kernels.KeyMax, kernels.KeyBuckets})
		if near != "" && strings.Contains(key, "conntrack") {
			p.errorf(at, "%s is not a setting of connection tracking%s",
				quote(key), spelling.Meant(near))
		} else if near := kernels.NearSysctl(key); near != "" {
			p.warnf(at, "%s is no sysctl that ctload knows%s A kernel without it makes the trial "+
				"invalid", quote(key), spelling.Meant(near))
		}
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

// sysctlForm matches the dotted name of a sysctl, whose parts may be patterns. Names of interfaces
// in it may hold a slash for a dot.
var sysctlForm = regexp.MustCompile(`^[\w/@:*?\[\]-]+(\.[\w/@:*?\[\]-]+)+$`)

// checkGone refuses sysctls that the DUT's kernel does not have any more.
func checkGone(p *problems, n *node, c *Configuration) {
	version := kernels.Named(c.Kernel)
	for _, s := range c.Sysctl {
		since, gone := version.Gone(s.Key)
		if !gone {
			continue
		}
		at := n.get("sysctl").keyPlace(s.Key)
		if s.Optional {
			p.warnf(at, "%s is gone since Linux %s, and %s passes over it", s.Key, since, c.Kernel)
		} else {
			p.errorf(at, "%s is gone since Linux %s, and %s refuses it: leave it out, or write "+
				"-%s, which may be missing", s.Key, since, c.Kernel, s.Key)
		}
	}
}
