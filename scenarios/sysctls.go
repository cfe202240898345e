package scenarios

import (
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// The keys of the kernel that the language knows something about.
const (
	keyMax     = "net.netfilter.nf_conntrack_max"
	keyBuckets = "net.netfilter.nf_conntrack_buckets"
	keyCount   = "net.netfilter.nf_conntrack_count"
	keyLoose   = "net.netfilter.nf_conntrack_tcp_loose"

	conntrackPrefix = "net.netfilter.nf_conntrack_"
)

// conntrackKeys are the writable settings of nf_conntrack in Linux 6.x
// (net/netfilter/nf_conntrack_standalone.c), without their prefix.
var conntrackKeys = strings.Fields(`
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

// todaysKey is the name that the kernel has now for a sysctl, dotted. renamed says whether the
// name given is an old one; the path form, with slashes, is none.
//
// Kernels up to 4.8 had net.ipv4.netfilter.ip_conntrack_* (CONFIG_NF_CONNTRACK_PROC_COMPAT), 2.4
// had net.ipv4.ip_conntrack_*; net.nf_conntrack_max still exists beside its new name.
func todaysKey(given string) (key string, renamed bool) {
	key = strings.TrimPrefix(given, "/proc/sys/")
	if slash := strings.IndexByte(key, '/'); slash >= 0 {
		if dot := strings.IndexByte(key, '.'); dot < 0 || slash < dot {
			key = strings.NewReplacer("/", ".", ".", "/").Replace(key)
		}
	}
	for _, prefix := range []string{"net.ipv4.netfilter.ip_conntrack_", "net.ipv4.netfilter.nf_conntrack_", "net.ipv4.ip_conntrack_", "net.ipv4.nf_conntrack_", "net.netfilter.ip_conntrack_", "net.nf_conntrack_", "ip_conntrack_", "nf_conntrack_"} {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			return conntrackPrefix + rest, true
		}
	}
	return key, false
}

// checkKey judges the name of a sysctl, which is today's already.
func checkKey(p *problems, at Position, key string) {
	if !sysctlForm(key) {
		p.errorf(at, "%s is not the name of a sysctl, such as %s", quote(key), keyMax)
		return
	}
	rest, ok := strings.CutPrefix(key, conntrackPrefix)
	if !ok {
		if near := spelling.Nearest(key, []string{keyMax, keyBuckets}); near != "" && strings.Contains(key, "conntrack") {
			p.errorf(at, "%s is not a setting of connection tracking; did you mean %q?", quote(key), near)
		}
		return
	}
	if slices.Contains(conntrackKeys, rest) {
		return
	}
	if near := spelling.Nearest(rest, conntrackKeys); near != "" {
		p.errorf(at, "%s is not a setting of nf_conntrack; did you mean %q?", quote(key), conntrackPrefix+near)
		return
	}
	p.warnf(at, "%s is not a setting of nf_conntrack that ctload knows; a kernel without it makes the trial invalid", quote(key))
}

// sysctlForm says whether a text can be the dotted name of a sysctl. Names of interfaces in it may
// hold a slash for a dot.
func sysctlForm(key string) bool {
	parts := strings.Split(key, ".")
	if len(parts) < 2 || len(key) > 200 {
		return false
	}
	for _, part := range parts {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/@:") != "" {
			return false
		}
	}
	return true
}
