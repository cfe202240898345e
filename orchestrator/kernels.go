package orchestrator

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm/guest"
)

// versions are those of the kernels that distributions ship under their names. For a trial the kernel itself
// is asked; this is for arithmetic without one, which needs them to the point where rules changed (3.19,
// 5.0, 5.15).
var versions = map[string]results.KernelVersion{
	"debian/bullseye": {Major: 5, Minor: 10}, "debian/bookworm": {Major: 6, Minor: 1}, "debian/trixie": {Major: 6, Minor: 12},
	"ubuntu/focal": {Major: 5, Minor: 4}, "ubuntu/jammy": {Major: 5, Minor: 15}, "ubuntu/noble": {Major: 6, Minor: 8},
}

// recent stands for names whose kernel moves on: sid, backports, later releases.
var recent = results.KernelVersion{Major: 6, Minor: 12}

// assumedVersion is the version that a kernel's name or path stands for.
func assumedVersion(name string) results.KernelVersion {
	if v, ok := versions[name]; ok {
		return v
	}
	release := strings.TrimPrefix(filepath.Base(name), "vmlinuz-")
	if name == guest.HostName {
		var uname unix.Utsname
		if unix.Uname(&uname) == nil {
			release = unix.ByteSliceToString(uname.Release[:])
		}
	}
	if v, err := results.ParseKernel(release); err == nil {
		return v
	}
	return recent
}

// visibleMemory is about what the kernel of a guest has of its memory (MemTotal): measured 470 of 512 MiB
// and 218 of 256 MiB with Debian's 6.1.
func visibleMemory(given int64) int64 {
	const own = 34 << 20
	return max(given-given/64-own, given/2)
}

// defaultTimeouts are the kernel's own in seconds (nf_conntrack_proto_*.c).
func defaultTimeouts(v results.KernelVersion) map[string]int64 {
	timeouts := map[string]int64{
		"tcp_timeout_syn_sent": 120, "tcp_timeout_syn_recv": 60, "tcp_timeout_established": 432000,
		"tcp_timeout_fin_wait": 120, "tcp_timeout_close_wait": 60, "tcp_timeout_last_ack": 30,
		"tcp_timeout_time_wait": 120, "tcp_timeout_close": 10,
		"udp_timeout": 30, "udp_timeout_stream": 120, "icmp_timeout": 30, "generic_timeout": 600,
	}
	if !v.AtLeast(5, 0) {
		timeouts["udp_timeout_stream"] = 180
	}
	named := map[string]int64{}
	for name, seconds := range timeouts {
		named[conntrackKey+name] = seconds
	}
	return named
}

// Residence reads the life of an entry in seconds: a duration with its unit, or the state in which the load
// leaves it, as time_wait or udp, which is as long as that timeout of a kernel of this version by itself.
func Residence(text string, v results.KernelVersion) (seconds float64, err error) {
	var d scenarios.Duration
	durationErr := d.UnmarshalText([]byte(text))
	if durationErr == nil {
		return d.Seconds(), nil
	}
	if text == "" || text[0] >= '0' && text[0] <= '9' || text[0] == '-' {
		return 0, durationErr
	}
	timeouts := defaultTimeouts(v)
	var names []string
	for key, n := range timeouts {
		name := strings.TrimPrefix(strings.TrimPrefix(key, conntrackKey), "tcp_timeout_")
		if name = strings.Replace(name, "_timeout", "", 1); name == text { // udp_timeout_stream is udp_stream
			return float64(n), nil
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return 0, fmt.Errorf("%q is neither a duration, such as 120s, nor a state%s", text, spelling.Hint(text, names))
}

// conntrackKey begins the names of connection tracking's parameters.
const conntrackKey = "net.netfilter.nf_conntrack_"
