package results

import "regexp"

// faults are lines that a kernel prints to its console when something went wrong that spoils a
// measurement. The list follows the kernel's own messages; "table full" is none of them.
var faults = regexp.MustCompile(`Kernel panic - not syncing|NETDEV WATCHDOG: |` +
	`\bBUG: |` + // unable to handle, soft lockup, scheduling while atomic, KASAN
	`\bOops: |Oops\[#|general protection fault|` +
	`(Internal error|Unhandled fault): |` +
	`\bWARNING: (CPU: |\S+:\d+ at )|` + // the second form from 6.19 on
	`watchdog: .* (lockup|stuck)|` +
	`rcu: INFO: .* (self-detected stall|detected stalls)|rcu_(sched|preempt|bh) (self-)?detected|` +
	`INFO: task .* blocked for more than|` +
	`[Oo]ut of memory: |invoked oom-killer|oom-kill:|Memory cgroup out of memory|` +
	`page allocation failure|SLUB: Unable to allocate memory|` +
	`nf_conntrack: .*(unable to|can't) allocate|` +
	`EXT4-fs error|I/O error, dev |` +
	`clocksource: .* (unstable|skew)|Marking clocksource .* unstable`)

// memoryFaults are those of a kernel that has run out of memory and knows it.
var memoryFaults = regexp.MustCompile(`[Oo]ut of memory: |invoked oom-killer|oom-kill:|page allocation failure|SLUB: Unable to allocate memory|` +
	`nf_conntrack: .*(unable to|can't) allocate|Call Trace:`) // a trace follows a failed allocation; an oops has lines of its own

// MemoryFault reports whether a line tells of memory that ran out, which spoils no trial that was to.
func MemoryFault(line string) bool { return memoryFaults.MatchString(line) }

// ConsoleFault reports whether a line of the DUT's console tells of a fault that spoils a trial:
// an oops, a panic, a lockup, a stall, a hung task, a failed allocation, an unstable clock.
func ConsoleFault(line string) bool { return faults.MatchString(line) }
