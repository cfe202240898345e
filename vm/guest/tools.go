package guest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// family is a group of commands that are links to one program.
type family struct {
	program string // the program on the host
	suffix  string // of its commands: iptables-SUFFIX, iptables-SUFFIX-restore, ...
}

// families maps the tools that stand for more than one command.
var families = map[string]family{
	"iptables-nft":    {"xtables-nft-multi", "nft"},
	"iptables-legacy": {"xtables-legacy-multi", "legacy"},
}

// toolPackages names the Debian package of each tool whose package has another name.
var toolPackages = map[string]string{
	"nft": "nftables", "tc": "iproute2", "ip": "iproute2", "ss": "iproute2", "sysctl": "procps",
}

// DefaultTools returns the rule tools of every guest; conntrack where the host has it.
func DefaultTools() []string {
	return []string{"iptables-nft", "iptables-legacy", "nft", "?conntrack"}
}

// CheckTools returns a [MissingError] that names all packages that the host lacks for the tools, or
// nil when it has all that are not optional (see [Spec]).
func CheckTools(tools ...string) error {
	var names, packages []string
	for _, tool := range tools {
		if _, err := findTool(tool); err != nil && !strings.HasPrefix(tool, "?") {
			names = append(names, tool)
			packages = append(packages, toolPackage(tool))
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(packages)
	return Missing(Install+strings.Join(slices.Compact(packages), " "),
		"the host lacks %s", strings.Join(names, ", "))
}

func toolPackage(tool string) string {
	if family, _, _ := strings.Cut(tool, "-"); family == "iptables" || family == "ip6tables" {
		return "iptables"
	}
	return cmp.Or(toolPackages[tool], tool)
}

// findTool returns the path on the host of the program behind a tool.
func findTool(tool string) (string, error) {
	tool = strings.TrimPrefix(tool, "?")
	if f, ok := families[tool]; ok {
		tool = f.program
	}
	return FindProgram(tool)
}

// FindProgram searches the PATH and administrators' folders, which a user's PATH lacks on Debian.
func FindProgram(name string) (string, error) {
	host, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(host)
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if host, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return host, nil
		}
	}
	return "", err
}

// AdminPath returns the setting of PATH for programs that start those of administrators.
func AdminPath() string { return "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin:/usr/bin:/bin" }

// WriteTools writes tools, named as in [Spec], with all that they need into a folder, to which a
// process can change its root. The error may be a [MissingError].
func WriteTools(folder string, tools ...string) error {
	t := newTree()
	for dir := range strings.FieldsSeq("dev etc proc run tmp usr/sbin usr/lib usr/lib64") {
		t.add(dir, entry{mode: typeDir | 0o755})
	}
	for _, dir := range mergedDirs {
		t.link(dir, "usr/"+dir)
	}
	if err := t.addTools(tools); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("write the rule tools: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		e, at := t.entries[name], filepath.Join(folder, name)
		var err error
		switch e.mode &^ 0o7777 {
		case typeDir:
			err = os.MkdirAll(at, 0o755)
		case typeLink:
			err = os.Symlink(string(e.data), at)
		default:
			err = os.WriteFile(at, e.data, os.FileMode(e.mode&0o777))
		}
		if err != nil {
			return fmt.Errorf("write the rule tools: %w", err)
		}
	}
	return nil
}

// addTools adds the tools with their libraries and plugins.
func (t *tree) addTools(tools []string) error {
	if err := CheckTools(tools...); err != nil {
		return err
	}
	var xtables bool
	for _, tool := range tools {
		host, err := findTool(tool)
		if err != nil {
			continue // optional
		}
		name := strings.TrimPrefix(tool, "?")
		if f, ok := families[name]; ok {
			name, xtables = f.program, true
			t.addFamily(f)
		}
		if err := errors.Join(t.addProgram("usr/sbin/"+name, host), t.addNeeds(host)); err != nil {
			return err
		}
	}
	if xtables {
		if err := t.addPlugins(); err != nil {
			return err
		}
	}
	if len(tools) > 0 {
		// Rule tools look protocols and services up by name in these files. Without them, rules
		// with numbers still work: a host that has none is no error.
		for _, name := range []string{"/etc/protocols", "/etc/services"} {
			_ = t.addFile(name, File{Source: name})
		}
	}
	return nil
}

// addFamily links the commands of an iptables back-end to its program. The back-end that the host's
// iptables runs gets the plain names as well.
func (t *tree) addFamily(f family) {
	for _, command := range []string{"iptables", "ip6tables"} {
		for _, action := range []string{"", "-restore", "-save"} {
			t.link("usr/sbin/"+command+"-"+f.suffix+action, f.program)
			if plainProgram() == f.program {
				t.link("usr/sbin/"+command+action, f.program)
			}
		}
	}
}

// plainProgram returns the program behind the host's own iptables command.
func plainProgram() string {
	host, err := FindProgram("iptables")
	if err == nil {
		host, err = filepath.EvalSymlinks(host)
	}
	if err != nil {
		return families["iptables-nft"].program
	}
	return filepath.Base(host)
}

// addPlugins adds the matches and targets of iptables, which it opens by name when a rule has them,
// and no other tool's in the same folder.
func (t *tree) addPlugins() error {
	var plugins []string
	for _, dir := range []string{"lib/*-linux-gnu", "lib64", "lib"} {
		for _, prefix := range []string{"libxt_", "libipt_", "libip6t_"} {
			found, err := filepath.Glob(filepath.Join("/usr", dir, "xtables", prefix+"*.so"))
			if err != nil {
				return err
			}
			plugins = append(plugins, found...)
		}
	}
	if len(plugins) == 0 {
		return Missing(Install+"iptables", "the host has no plugins of iptables")
	}
	for _, plugin := range plugins {
		target, err := filepath.EvalSymlinks(plugin)
		if err != nil {
			return fmt.Errorf("plugin %s: %w", plugin, err)
		}
		// Some are links to one another (libxt_NOTRACK.so to libxt_CT.so).
		if target != plugin && filepath.Dir(target) == filepath.Dir(plugin) {
			t.link(plugin, filepath.Base(target))
		}
		if err := t.addProgram(target, target); err != nil {
			return err
		}
	}
	return t.addNeeds(plugins...)
}
