package kernels

import (
	"maps"
	"slices"
	"strings"
)

// Module is the module of connection tracking.
const Module = "nf_conntrack"

// The keys of connection tracking that ctload itself sets or reads.
const (
	Prefix     = "net.netfilter.nf_conntrack_" // begins all of them
	KeyMax     = Prefix + "max"
	KeyBuckets = Prefix + "buckets"
	KeyCount   = Prefix + "count"
)

// SharedKeys are the parameters of connection tracking that all network namespaces of a kernel
// share; older kernels let any of them write. Every other parameter belongs to its namespace and
// begins at the kernel's default.
var SharedKeys = []string{KeyMax, KeyBuckets, Prefix + "expect_max"}

// Settings are the writable settings of nf_conntrack in Linux 6.x
// (net/netfilter/nf_conntrack_standalone.c), without [Prefix].
var Settings = strings.Fields(`
	acct buckets checksum dccp_loose dccp_timeout_closereq dccp_timeout_closing dccp_timeout_open
	dccp_timeout_partopen dccp_timeout_request dccp_timeout_respond dccp_timeout_timewait events
	expect_max flowtable_tcp_timeout flowtable_udp_timeout frag6_high_thresh frag6_low_thresh
	frag6_timeout generic_timeout gre_timeout gre_timeout_stream helper icmp_timeout icmpv6_timeout
	log_invalid max sctp_timeout_closed sctp_timeout_cookie_echoed sctp_timeout_cookie_wait
	sctp_timeout_established sctp_timeout_heartbeat_sent sctp_timeout_shutdown_ack_sent
	sctp_timeout_shutdown_recd sctp_timeout_shutdown_sent tcp_be_liberal tcp_ignore_invalid_rst
	tcp_loose tcp_max_retrans tcp_timeout_close tcp_timeout_close_wait tcp_timeout_established
	tcp_timeout_fin_wait tcp_timeout_last_ack tcp_timeout_max_retrans tcp_timeout_syn_recv
	tcp_timeout_syn_sent tcp_timeout_time_wait tcp_timeout_unacknowledged timestamp udp_timeout
	udp_timeout_stream`)

// oldPrefixes begin older names of keys, and words that leave the folder out. Kernels up to 4.8 had
// net.ipv4.netfilter.ip_conntrack_* (CONFIG_NF_CONNTRACK_PROC_COMPAT), 2.4 had
// net.ipv4.ip_conntrack_*; net.nf_conntrack_max still exists beside its new name.
var oldPrefixes = []string{
	"net.ipv4.netfilter.ip_conntrack_", "net.ipv4.netfilter.nf_conntrack_",
	"net.ipv4.ip_conntrack_", "net.ipv4.nf_conntrack_", "net.netfilter.ip_conntrack_",
	"net.nf_conntrack_", "ip_conntrack_", "nf_conntrack_",
}

// Key returns the name, with dots, that current kernels have for a parameter; renamed reports
// whether the given name is an older one. As with sysctl(8), slashes may stand for dots, below
// /proc/sys too: Key returns net.ipv4.conf.eth0/100.forwarding for
// net/ipv4/conf/eth0.100/forwarding, where the dot is part of a name.
func Key(given string) (key string, renamed bool) {
	key = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(given), "/proc/sys/"))
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		key = SwapSeparators(key)
	}
	for _, prefix := range oldPrefixes {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			return Prefix + rest, true
		}
	}
	return key, false
}

// SwapSeparators turns the dotted form of a key into its path below /proc/sys, and back.
func SwapSeparators(key string) string {
	return strings.NewReplacer(".", "/", "/", ".").Replace(key)
}

// RenamedModules are modules of guides that current kernels lack, each with the module that holds
// its code now.
var RenamedModules = map[string]string{
	"ip_conntrack":               Module,
	"ip_conntrack_netbios_ns":    "nf_conntrack_netbios_ns",
	"nf_conntrack_ipv4":          Module,
	"nf_conntrack_ipv6":          Module,
	"ip_nat":                     "nf_nat",
	"nf_nat_ipv4":                "nf_nat",
	"nf_nat_ipv6":                "nf_nat",
	"ipt_MASQUERADE":             "xt_MASQUERADE",
	"xt_NOTRACK":                 "xt_CT",
	"ipt_NOTRACK":                "xt_CT",
	"ipt_state":                  "xt_state",
	"nf_conntrack_proto_gre":     Module,
	"nf_conntrack_proto_sctp":    Module,
	"nf_conntrack_proto_dccp":    Module,
	"nf_conntrack_proto_udplite": Module,
}

// Timeouts returns the timeouts that a kernel has by itself, in seconds, by key
// (nf_conntrack_proto_*.c).
func Timeouts(v Version) map[string]int64 {
	timeouts := maps.Clone(defaultTimeouts)
	if !v.AtLeast(5, 0) {
		timeouts[Prefix+"udp_timeout_stream"] = 180
	}
	return timeouts
}

var defaultTimeouts = map[string]int64{
	Prefix + "tcp_timeout_syn_sent": 120, Prefix + "tcp_timeout_syn_recv": 60,
	Prefix + "tcp_timeout_established": 432000, Prefix + "tcp_timeout_fin_wait": 120,
	Prefix + "tcp_timeout_close_wait": 60, Prefix + "tcp_timeout_last_ack": 30,
	Prefix + "tcp_timeout_time_wait": 120, Prefix + "tcp_timeout_close": 10,
	Prefix + "tcp_timeout_max_retrans": 300, Prefix + "tcp_timeout_unacknowledged": 300,
	Prefix + "udp_timeout": 30, Prefix + "udp_timeout_stream": 120,
	Prefix + "icmp_timeout": 30, Prefix + "icmpv6_timeout": 30, Prefix + "generic_timeout": 600,
}

// States returns the states in which a load can leave an entry, each with its timeout in seconds:
// time_wait, udp_stream.
func States(v Version) map[string]int64 {
	states, timeouts := map[string]int64{}, Timeouts(v)
	for name, key := range StateKeys() {
		states[name] = timeouts[key]
	}
	return states
}

// StateKeys returns the keys of the timeouts by the states of [States].
func StateKeys() map[string]string {
	keys := map[string]string{}
	for key := range defaultTimeouts {
		name := strings.TrimPrefix(strings.TrimPrefix(key, Prefix), "tcp_timeout_")
		if !slices.Contains([]string{"max_retrans", "unacknowledged"}, name) { // of any state
			keys[strings.Replace(name, "_timeout", "", 1)] = key
		}
	}
	return keys
}

// Setting is one kernel parameter with its wanted value.
type Setting struct {
	Key   string `json:"key"` // as net.netfilter.nf_conntrack_max; older spellings see [Key]
	Value string `json:"value"`
	// Optional says that a kernel may lack it, or refuse the value. Without a value it is not set:
	// it is left out of the patterns of others.
	Optional bool `json:"optional,omitempty"`
}
