package kernels

import (
	_ "embed"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/ctload/ctload/internal/spelling"
)

// sysctlNames lists parameters of Linux 6.18 beside those of connection tracking; of interfaces it
// has those of all and default.
//
//go:embed sysctls.txt
var sysctlNames string

var sysctls = sync.OnceValue(func() []string { return strings.Fields(sysctlNames) })

// perInterface matches the name of an interface in a key.
var perInterface = regexp.MustCompile(`^(net\.ipv[46]\.)(conf|neigh)\.([^.]+)\.`)

// InterfaceOf returns the interface that a key is about; "" for all others, those of all or default
// interfaces, and patterns.
func InterfaceOf(key string) string {
	m := perInterface.FindStringSubmatch(key)
	if m == nil || m[3] == "all" || m[3] == "default" || strings.ContainsAny(m[3], "*?[") {
		return ""
	}
	return strings.ReplaceAll(m[3], "/", ".")
}

// general returns the key of all interfaces, or of the default one, for that of one interface.
func general(key string) string {
	return perInterface.ReplaceAllStringFunc(key, func(found string) string {
		part := perInterface.FindStringSubmatch(found)
		return part[1] + part[2] + map[string]string{"conf": ".all.", "neigh": ".default."}[part[2]]
	})
}

// KnownSysctl reports whether some kernel is known to have a parameter.
func KnownSysctl(key string) bool {
	_, gone := goneSysctls[key]
	rest, tracking := strings.CutPrefix(key, Prefix)
	return gone || tracking && slices.Contains(Settings, rest) ||
		slices.Contains(sysctls(), general(key))
}

// NearSysctl returns the parameter that a key most likely means which no kernel is known to have;
// "" for a known key, and for one that is near to none.
func NearSysctl(key string) string {
	if KnownSysctl(key) {
		return ""
	}
	all := general(key)
	folder := all[:strings.LastIndexByte(all, '.')+1]
	var siblings []string
	for _, name := range sysctls() {
		if strings.HasPrefix(name, folder) {
			siblings = append(siblings, name[len(folder):])
		}
	}
	if near := spelling.Nearest(all[len(folder):], siblings); near != "" {
		return key[:strings.LastIndexByte(key, '.')+1] + near
	}
	if len(siblings) > 0 {
		return "" // another one of a known folder
	}
	return spelling.Nearest(all, sysctls())
}

// goneSysctls are parameters that guides still set, with the version that took each away.
var goneSysctls = map[string]Version{
	"net.ipv4.tcp_tw_recycle":            {4, 12},
	Prefix + "helper":                    {6, 0},
	"kernel.sched_min_granularity_ns":    {5, 13}, // to debugfs, like the next ones
	"kernel.sched_latency_ns":            {5, 13},
	"kernel.sched_wakeup_granularity_ns": {5, 13},
	"kernel.sched_migration_cost_ns":     {5, 13},
	"kernel.sched_tunable_scaling":       {5, 13},
	"kernel.sched_nr_migrate":            {5, 13},
}

// Gone returns the version that took a parameter away, if this one does not have it any more.
func (v Version) Gone(key string) (since Version, gone bool) {
	since, listed := goneSysctls[key]
	return since, listed && v.AtLeast(since.Major, since.Minor)
}

// severalNumbers are parameters of which the kernel reads more than one number.
var severalNumbers = regexp.MustCompile(`\.(tcp_[rw]?mem|udp_mem|sctp_[rw]?mem|` +
	`ip_local_port_range|ip_local_reserved_ports|ping_group_range|tcp_fastopen_key|` +
	`tcp_available_ulp|flow_limit_cpu_bitmap|rps_default_mask)$`)

// OneNumber reports whether the kernel reads a single number of a network parameter, and passes
// over what follows it (proc_dointvec and its siblings).
func OneNumber(key string) bool {
	return strings.HasPrefix(key, "net.") && !severalNumbers.MatchString(key)
}

// moduleParameters are the parameters of modules that experiments give.
var moduleParameters = map[string][]string{
	Module: strings.Fields("acct enable_hooks expect_hashsize hashsize nf_conntrack_helper tstamp"),
}

// ParameterMeant returns what a message says about a parameter of a module that it is known not to
// have: known is false then.
func ParameterMeant(module, parameter string) (hint string, known bool) {
	names, listed := moduleParameters[module]
	if !listed || slices.Contains(names, parameter) {
		return "", true
	}
	return spelling.Hint(parameter, names), false
}

// CurrentModule returns the module that current kernels have in place of one of guides; ok is false
// where they have it by its own name.
func CurrentModule(name string) (current string, ok bool) {
	if current, ok = RenamedModules[name]; ok {
		return current, true
	}
	for old, now := range map[string]string{
		"ip_conntrack_": "nf_conntrack_", "ip_nat_": "nf_nat_",
	} {
		if rest, is := strings.CutPrefix(name, old); is {
			return now + rest, true
		}
	}
	return name, false
}
