package samplers

import (
	"regexp"
	"strconv"
)

// LineKind is the meaning of a line of the kernel log for a trial.
type LineKind string

// The kinds of lines. The empty kind is everything else.
const (
	LineTableFull  LineKind = "table-full" // a packet was dropped because the table is full
	LineSuppressed LineKind = "suppressed" // lines that net_ratelimit suppressed
	LinePanic      LineKind = "panic"
	LineOops       LineKind = "oops"
	LineBug        LineKind = "bug"
	LineOOM        LineKind = "oom"
	LineAllocation LineKind = "allocation-failure"
	LineLockup     LineKind = "lockup"
	LineHungTask   LineKind = "hung-task"
	LineStall      LineKind = "rcu-stall"
	LineWarning    LineKind = "warning"
	LineCallTrace  LineKind = "call-trace"
	LineSYNFlood   LineKind = "syn-flood"          // a listener's SYN queue overflowed
	LineNeighbour  LineKind = "neighbour-overflow" // gc_thresh3 reached
	LineOrphans    LineKind = "orphaned-sockets"
	LineLostTime   LineKind = "lost-time" // the machine stood still: its host withheld the CPU
)

// Bad reports whether such a line puts the measurement in doubt: the kernel broke, or lacked memory
// or time.
func (k LineKind) Bad() bool {
	switch k {
	case LinePanic, LineOops, LineBug, LineOOM, LineAllocation, LineLockup, LineHungTask, LineStall, LineWarning, LineCallTrace:
		return true
	}
	return false
}

// Note reports whether such a line explains failures or delays that connection tracking did not
// cause.
func (k LineKind) Note() bool {
	return k == LineSYNFlood || k == LineNeighbour || k == LineOrphans || k == LineLostTime
}

// linePatterns are tried in turn; the first match names the line.
var linePatterns = []struct {
	kind    LineKind
	pattern *regexp.Regexp
}{
	// "nf_conntrack: nf_conntrack: table full, dropping packet"; newer kernels (2025) name the
	// namespace.
	{LineTableFull, regexp.MustCompile(`table full( in netns \d+)?, dropping packet`)},
	{LineSuppressed, regexp.MustCompile(`net_ratelimit: \d+ callbacks suppressed`)},
	{"", regexp.MustCompile(`(?i)^(kernel )?command line: `)}, // it may hold any of the words below
	{LinePanic, regexp.MustCompile(`Kernel panic`)},
	{LineLockup, regexp.MustCompile(`(?i)soft lockup|hard lockup`)},
	{LineStall, regexp.MustCompile(`rcu.*(detected stall|detected expedited stalls|self-detected stall|kthread starved)`)},
	{LineHungTask, regexp.MustCompile(`task .* blocked for more than \d+ seconds`)},
	{LineOOM, regexp.MustCompile(`(?i)out of memory: kill|invoked oom-killer|^oom-kill:|memory cgroup out of memory`)},
	{LineAllocation, regexp.MustCompile(`page allocation failure|SLUB: Unable to allocate memory|^nf_conntrack: (table|hash).*alloc.*fail`)},
	{LineOops, regexp.MustCompile(`\bOops(:| -|\[)|general protection fault|double fault|stack guard page was hit|Unable to handle kernel|^Internal error:`)},
	{LineBug, regexp.MustCompile(`\bBUG: |kernel BUG at |UBSAN: |KASAN: |KFENCE: |INFO: possible (recursive|circular)|Bad page (state|map)`)},
	{LineWarning, regexp.MustCompile(`^WARNING: (CPU:|at )|^WARNING: .*\+0x[0-9a-f]+/0x`)},
	{LineCallTrace, regexp.MustCompile(`^\s*Call [Tt]race:`)},
	{LineSYNFlood, regexp.MustCompile(`Possible SYN flooding`)},
	{LineNeighbour, regexp.MustCompile(`neighbou?r table overflow`)},
	{LineOrphans, regexp.MustCompile(`too many orphaned sockets|TCP: out of memory`)},
	{LineLostTime, regexp.MustCompile(`^hrtimer: interrupt took \d+ ns|^clocksource: .*(skew|unstable)|^sched: RT throttling`)},
}

// classifyLine returns the kind of a line of the kernel log.
func classifyLine(message string) LineKind {
	for _, p := range linePatterns {
		if p.pattern.MatchString(message) {
			return p.kind
		}
	}
	return ""
}

var suppressedCount = regexp.MustCompile(`net_ratelimit: (\d+) callbacks suppressed`)

// Suppressed returns the number in a line such as "net_ratelimit: 5182 callbacks suppressed", 0 for
// any other. It counts all messages of the network code under the common limit, not table-full
// lines alone.
func Suppressed(message string) int64 {
	match := suppressedCount.FindStringSubmatch(message)
	if match == nil {
		return 0
	}
	n, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
