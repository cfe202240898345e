package samplers

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseKmsg(t *testing.T) {
	for _, test := range []struct {
		record string
		want   Record
	}{
		{"6,339,5140900,-;NET: Registered protocol family 10\n", Record{
			Sequence: 339, Time: 5140900 * time.Microsecond,
			Message: "NET: Registered protocol family 10",
		}},
		{"30,340,5690716,-;udevd[80]: starting version 181\n", Record{
			Facility: 3, Sequence: 340, Time: 5690716 * time.Microsecond,
			Message: "udevd[80]: starting version 181",
		}},
		{"7,160,424069,-;pci_root: bridge window\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n",
			Record{
				Sequence: 160, Time: 424069 * time.Microsecond, Message: "pci_root: bridge window",
			}},
		{"4,900,1,c,caller=T42,future=1;a;b\n", Record{
			Sequence: 900, Time: time.Microsecond, Message: "a;b",
		}},
		{"4,1,2;three fields\n", Record{
			Sequence: 1, Time: 2 * time.Microsecond, Message: "three fields",
		}},
		{`12,2,3,-;tab\x09backslash\x5cend\x5` + "\n", Record{
			Facility: 1, Sequence: 2, Time: 3 * time.Microsecond,
			Message: "tab\tbackslash\\end\\x5",
		}},
		{"0,0,0,-;", Record{}},
	} {
		got, err := parseKmsg(test.record)
		if err != nil {
			t.Errorf("%q: %v", test.record, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.record, diff)
		}
	}
	for _, bad := range []string{
		"", "no semicolon", ";", "6,339;two", "x,1,2,-;m", "6,x,2,-;m", "6,1,x,-;m", "6,1,-2,-;m",
		"-6,1,2,-;m", "6,1,9223372036854775807,-;m",
	} {
		if got, err := parseKmsg(bad); err == nil {
			t.Errorf("%q: %+v, want an error", bad, got)
		}
	}
}

func FuzzParseKmsg(f *testing.F) {
	f.Add("6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=acpi\n")
	f.Add("4,900,1,c,caller=T42;nf_conntrack: nf_conntrack: table full, dropping packet\n")
	f.Add(`12,2,3,-;tab\x09\x5c\x5`)
	f.Add("4,1,2,-;net_ratelimit: 5182 callbacks suppressed")
	f.Fuzz(func(t *testing.T, record string) {
		r, err := parseKmsg(record)
		if err != nil {
			return
		}
		if r.Facility < 0 || r.Time < 0 {
			t.Errorf("%q: %+v", record, r)
		}
		escaped := strings.Contains(strings.ToLower(record), `\x0a`)
		if strings.Contains(r.Message, "\n") && !escaped {
			t.Errorf("%q: message %q of two lines", record, r.Message)
		}
		if Suppressed(r.Message) < 0 {
			t.Errorf("%q: %d suppressed", record, Suppressed(r.Message))
		}
		_ = classifyLine(r.Message)
	})
}

func TestClassifyLine(t *testing.T) {
	for want, messages := range map[LineKind][]string{
		LineTableFull: {
			"nf_conntrack: nf_conntrack: table full, dropping packet",
			"nf_conntrack: table full, dropping packet",
			"nf_conntrack: nf_conntrack: table full in netns 4026531840, dropping packet",
			"ip_conntrack: table full, dropping packet.",
		},
		LineSuppressed: {
			"net_ratelimit: 5182 callbacks suppressed",
		},
		LinePanic: {
			"Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
		},
		LineOops: {
			"Oops: 0000 [#1] PREEMPT SMP NOPTI",
			"Oops: general protection fault, probably for non-canonical address: 0000 [#1]",
			"general protection fault: 0000 [#1] SMP",
			"Internal error: Oops: 96000004 [#1] SMP",
		},
		LineBug: {
			"BUG: kernel NULL pointer dereference, address: 0000000000000008",
			"kernel BUG at net/core/skbuff.c:110!",
		},
		LineLockup: {
			"watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [swapper/0:0]",
			"NMI watchdog: Watchdog detected hard LOCKUP on cpu 1",
		},
		LineStall: {
			"rcu: INFO: rcu_sched self-detected stall on CPU",
			"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
			"rcu: rcu_sched kthread starved for 5250 jiffies!",
		},
		LineHungTask: {
			"INFO: task kworker/0:1:12 blocked for more than 120 seconds.",
		},
		LineOOM: {
			"ctload invoked oom-killer: gfp_mask=0x140cca, order=0",
			"Out of memory: Killed process 812 (ctload) total-vm:1000kB",
			"oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null)",
		},
		LineAllocation: {
			"swapper/0: page allocation failure: order:0, mode:0x920(GFP_ATOMIC)",
			"SLUB: Unable to allocate memory on node -1, gfp=0x820",
		},
		LineWarning: {
			"WARNING: CPU: 0 PID: 1 at net/netfilter/nf_conntrack_core.c:1 x+0x1/0x2",
		},
		LineCallTrace: {
			"Call Trace:",
			"Call trace:",
		},
		LineSYNFlood: {
			"TCP: request_sock_TCP: Possible SYN flooding on port 80. Sending cookies.",
		},
		LineNeighbour: {
			"neighbour: arp_cache: neighbor table overflow!",
		},
		LineLostTime: {
			"hrtimer: interrupt took 203350790 ns",
			"clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable " +
				"because the skew is too large:",
		},
		"": {
			"clocksource: Switched to clocksource tsc",
			"Kernel command line: console=ttyS0 panic=-1 oops=panic Kernel panic Oops: BUG: ",
			"Command line: Oops: BUG: Kernel panic",
			"ACPI: [Firmware Bug]: BIOS _OSI(Linux) query ignored",
			"nf_conntrack: default automatic helper assignment has been turned off",
			"rcu: Hierarchical SRCU implementation.",
			"printk: 12 callbacks suppressed",
			"",
		},
		LineOrphans: {
			"TCP: too many orphaned sockets",
		},
	} {
		for _, message := range messages {
			if got := classifyLine(message); got != want {
				t.Errorf("%q is %q, want %q", message, got, want)
			}
		}
	}
	for kind, bad := range map[LineKind]bool{
		LinePanic: true, LineOOM: true, LineCallTrace: true,
		LineTableFull: false, LineSuppressed: false, LineSYNFlood: false, "": false,
	} {
		if kind.Bad() != bad {
			t.Errorf("%q.Bad() = %v", kind, !bad)
		}
	}
}

func TestLogTally(t *testing.T) {
	full := "nf_conntrack: nf_conntrack: table full, dropping packet"
	var tally logTally
	sequence := uint64(100)
	say := func(messages ...string) {
		for _, message := range messages {
			tally.add(Record{Sequence: sequence, Message: message})
			sequence++
		}
	}
	say("booting", full, full, "BUG: of the past")
	tally.counts = LogCounts{}
	// The kernel prints the count suppressed before the mark with the next limited message after
	// it.
	say("net_ratelimit: 5182 callbacks suppressed", full, full)
	say("net_ratelimit: 7 callbacks suppressed", "TCP: too many orphaned sockets")
	sequence += 30
	say("Oops: 0000 [#1]", "Call Trace:")
	tally.add(Record{Sequence: sequence, Facility: 1, Message: "systemd says " + full})
	want := LogCounts{Lines: 2, Suppressed: 7, Carried: 5182, Missed: 30, Bad: 2, Notes: 1}
	if diff := cmp.Diff(want, tally.counts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
