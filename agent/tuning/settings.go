// Package tuning applies a scenario to the running kernel and verifies it by reading it back.
//
// Three questions stay apart. [Kernel.Apply] changes the kernel. [Kernel.ReadBack] asks the kernel
// for its present state, trusting nothing that Apply did. [Differences] compares the two, and
// [Changes] compares two readings, which reveals a foreign change of a setting in the middle of a
// trial. The last two are pure.
//
// Everything acts on the network namespace of the calling process. nf_conntrack_max and the size of
// the hash belong to the initial network namespace: in any other they are read-only and Apply says
// so.
package tuning

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
)

// The backends of iptables: the two sets of kernel tables that the tool of that name can use.
const (
	BackendNFT    = "nft"
	BackendLegacy = "legacy"
)

// Sysctl is one kernel parameter with its wanted value.
type Sysctl = kernels.Setting

// Settings is one kernel configuration: what a scenario requires of the kernel. The zero value
// requires nothing.
type Settings struct {
	// LoadModules are loaded first, unless the kernel has them: those with parameters, as
	// "nf_conntrack hashsize=4096", before the others, else in this order. A module that an earlier
	// entry loads does not get the parameters of a later one.
	LoadModules []string `json:"load_modules,omitempty"`
	// RemoveModules are removed before anything is loaded, each after those that depend on it.
	// Since rules hold references, Apply first flushes all packet filter rules of the namespace.
	RemoveModules []string `json:"remove_modules,omitempty"`
	// Buckets is the size of the connection-tracking hash; 0 leaves the kernel's own. The kernel
	// rounds it up to whole pages of 8-byte pointers. Setting it does not change nf_conntrack_max.
	Buckets int `json:"buckets,omitempty"`
	// Rules and Rules6 are in the format of iptables-save, for IPv4 and IPv6. They replace the
	// tables that they name, as iptables-restore does.
	Rules        string `json:"rules,omitempty"`
	Rules6       string `json:"rules6,omitempty"`
	RulesBackend string `json:"rules_backend,omitempty"` // BackendNFT (default) or BackendLegacy
	// NFT is a script for nft -f, loaded after Rules and Rules6.
	NFT string `json:"nft,omitempty"`
	// Setup lists command lines that run before sets and rules are loaded.
	Setup []string `json:"setup,omitempty"`
	// IPSet is input of ipset restore, loaded before the rules.
	IPSet string `json:"ipset,omitempty"`
	// IPVS is input of ipvsadm -R: services of the kernel's load balancer, added after the rules.
	IPVS string `json:"ipvs,omitempty"`
	// Sysctl are written last and in this order, since most keys of connection tracking exist only
	// while the module is loaded, and rules load it. A key may be a pattern, as
	// net.ipv4.conf.*.rp_filter, which stands for the parameters that are not named themselves.
	Sysctl []Sysctl `json:"sysctl,omitempty"`
}

// Validate returns an error for settings that contradict each other or can never be applied.
func (s Settings) Validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch s.RulesBackend {
	case "", BackendNFT, BackendLegacy:
	default:
		refuse("rules backend %q: neither %q nor %q", s.RulesBackend, BackendNFT, BackendLegacy)
	}
	if s.Buckets < 0 {
		refuse("buckets %d: negative", s.Buckets)
	}
	seen := map[string]bool{}
	for _, p := range s.Sysctl {
		if _, err := sysctlPath(p.Key); err != nil {
			errs = append(errs, err)
			continue
		}
		if strings.ContainsAny(strings.TrimSpace(p.Value), "\n\x00") {
			refuse("sysctl %s: value %q has more than one line", p.Key, p.Value)
		}
		if strings.TrimSpace(p.Value) == "" && !p.Optional {
			refuse("sysctl %s: empty value", p.Key)
		}
		canonical, _ := kernels.Key(p.Key)
		if seen[canonical] {
			refuse("sysctl %s: given twice", canonical)
		}
		seen[canonical] = true
	}
	for _, name := range s.LoadModules {
		if !validModule(name) {
			refuse("module %q: not the name of a module (and parameters: hashsize=4096)", name)
		}
	}
	for _, name := range s.RemoveModules {
		if !moduleNamePattern.MatchString(name) {
			refuse("module %q: not the name of a module", name)
		}
	}
	for _, name := range s.RemoveModules {
		named := func(load string) bool { return moduleName(load) == moduleName(name) }
		if slices.ContainsFunc(s.LoadModules, named) {
			refuse("module %s: both loaded and removed", name)
		}
		if moduleName(name) == kernels.Module && s.needsConntrack() {
			refuse("module nf_conntrack: removed, but buckets or an nf_conntrack sysctl need it")
		}
	}
	return errors.Join(errs...)
}

// needsConntrack reports whether a setting can be made only while nf_conntrack is loaded.
func (s Settings) needsConntrack() bool {
	if s.Buckets > 0 {
		return true
	}
	return slices.ContainsFunc(s.Sysctl, func(p Sysctl) bool {
		key, _ := kernels.Key(p.Key)
		return strings.HasPrefix(key, kernels.Prefix)
	})
}

func (s Settings) backend() string { return cmp.Or(s.RulesBackend, BackendNFT) }

// Tools returns the programs that applying and reading back these settings runs, by name and in the
// order of their first use: a guest must hold them. It does not list modprobe, which loads modules
// only where [Kernel.LoadModule] is not set.
func (s Settings) Tools() []string {
	var tools []string
	if len(s.RemoveModules) > 0 {
		tools = append(tools, "nft")
	}
	for _, line := range s.Setup {
		words := strings.Fields(line)
		if len(words) > 0 && !slices.Contains(tools, words[0]) {
			tools = append(tools, words[0])
		}
	}
	if s.IPSet != "" && !slices.Contains(tools, "ipset") {
		tools = append(tools, "ipset")
	}
	if s.Rules != "" {
		tools = append(tools, s.tool("iptables", "restore"), s.tool("iptables", "save"))
	}
	if s.Rules6 != "" {
		tools = append(tools, s.tool("ip6tables", "restore"), s.tool("ip6tables", "save"))
	}
	if s.NFT != "" && !slices.Contains(tools, "nft") {
		tools = append(tools, "nft")
	}
	if s.IPVS != "" {
		tools = append(tools, "ipvsadm")
	}
	return tools
}

// tool returns a name such as iptables-nft-restore: the plain name may be either backend, as the
// distribution chose.
func (s Settings) tool(family, verb string) string {
	return family + "-" + s.backend() + "-" + verb
}
