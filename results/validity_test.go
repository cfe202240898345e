package results

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/actions"
)

func TestValidate(t *testing.T) {
	sound := Evidence{
		Steal: 0.01, GeneratorCPU: 0.5, Interval: 0.1, OwnTable: 3,
	}
	for _, test := range []struct {
		name   string
		change func(*Trial, *Evidence)
		want   []string // one word for each reason
	}{
		{"sound", func(*Trial, *Evidence) {}, nil},
		{"a mistake accepted", func(t *Trial, _ *Evidence) {
			t.Refused = []Refusal{
				{Command: "sysctl -w a = b", Status: 1}, {Command: "sysctl -w a=b"},
			}
		}, []string{`accepted "sysctl -w a=b"`}},
		{"limits", func(_ *Trial, e *Evidence) {
			e.Limits = []Reason{
				{GeneratorLimit("descriptors"), "no file descriptors left (1024)"},
				{CodePacing, "slots given up"},
			}
		}, []string{"generator-descriptors: the generator was the limit: no file descriptors left",
			"generator-pacing: "}},
		{
			"busy generator", func(_ *Trial, e *Evidence) { e.GeneratorCPU = 0.999 },
			[]string{
				"generator-cpu: the generator was the limit: its CPUs were busy 99.9 % of the time",
			},
		},
		{
			"tracked twice", func(_ *Trial, e *Evidence) { e.OwnTable = 900 },
			[]string{"grew by 900 entries"},
		},
		{"steal", func(_ *Trial, e *Evidence) { e.Steal = 0.2 }, []string{"took 20 %"}},
		{
			"lost CPU", func(_ *Trial, e *Evidence) { e.LostCPU = 0.3 },
			[]string{"waited 30 % of the time"},
		},
		{
			"clock", func(t *Trial, _ *Evidence) { t.Clock = &Clock{ErrorMillis: 12} },
			[]string{"uncertain by 12"},
		},
		{
			"good clock",
			func(t *Trial, _ *Evidence) { t.Clock = &Clock{ErrorMillis: 9.9, DriftPPM: 14000} },
			nil,
		},
		{
			"stall", func(t *Trial, _ *Evidence) { t.Conntrack.LongestGap = 5 },
			[]string{"no sample for 5.00 s"},
		},
		{
			"a guest that stood still for 1.5 s",
			func(t *Trial, _ *Evidence) { t.Conntrack.LongestGap = 1.6 },
			[]string{"no sample for 1.60 s"},
		},
		{
			"a throttled guest gives its samples later",
			func(t *Trial, _ *Evidence) {
				t.Conntrack.LongestGap = 1.6
				t.Actions = []Action{{Kind: string(actions.CPUThrottle), Begun: s(1)}}
			}, nil,
		},
		{
			"slow sampling is no stall",
			func(t *Trial, e *Evidence) { t.Conntrack.LongestGap, e.Interval = 5, 1 }, nil,
		},
		{
			"no sample", func(t *Trial, _ *Evidence) { t.Conntrack.Samples = 0 },
			[]string{"not sampled"},
		},
		{
			"oops",
			func(_ *Trial, e *Evidence) { e.Console = []string{"Kernel panic - not syncing: x"} },
			[]string{"Kernel panic"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			trial := Trial{
				Entries:   failing("requests", 5000, 0),
				Conntrack: Conntrack{Samples: 100, LongestGap: 0.12},
			}
			e := sound
			test.change(&trial, &e)
			got := Validate(&trial, e)
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %d reasons", got, len(test.want))
			}
			for i, w := range test.want {
				if text := string(got[i].Code) + ": " + got[i].Text; !strings.Contains(text, w) {
					t.Errorf("%q is not in %q", w, text)
				}
			}
		})
	}
}

// TestCodesAreDocumented finds each code in docs/reading.md.
func TestCodesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/reading.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("validity.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`Code += (generatorLimit \+ )?"([a-z-]+)"`).FindAllStringSubmatch(
		string(source), -1)
	if len(codes) < 20 {
		t.Fatalf("only %d codes found", len(codes))
	}
	for _, code := range codes {
		name := code[2]
		if code[1] != "" {
			name = generatorLimit + name
		}
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/reading.md lacks the code %s", name)
		}
	}
}

// TestInvalidate_OldTrial gives a trial of a ctload without codes one more reason: each code stays
// with its reason.
func TestInvalidate_OldTrial(t *testing.T) {
	trial := Trial{Invalid: []string{"the clock went wrong"}}
	trial.Invalidate(Reason{CodeNoLoad, "no load was offered"},
		Reason{CodeNoLoad, "no load was offered"})
	want := Trial{
		Invalid:      []string{"the clock went wrong", "no load was offered"},
		InvalidCodes: []Code{CodeUnknown, CodeNoLoad},
	}
	if diff := cmp.Diff(want, trial); diff != "" {
		t.Error(diff)
	}
}

func TestDiedOfMemory(t *testing.T) {
	for console, want := range map[string]string{
		"[    9.1] nf_conntrack: table full\n[   12.1] Kernel panic - not syncing: Fatal": "",
		"[   60.1] udevd invoked oom-killer: gfp_mask=0xcc0\n[   60.4] Mem-Info:\n" +
			"[   60.5] Kernel panic - not syncing: System is deadlocked on memory\n" +
			"[   60.6] CPU: 0": "Kernel panic - not syncing: System is deadlocked on memory",
		"Out of memory: Killed process 71 (ctload)\nsystemd: restart\n": "" +
			"Out of memory: Killed process 71 (ctload)",
	} {
		if got := DiedOfMemory(console); got != want {
			t.Errorf("%q: died of %q, want %q", console, got, want)
		}
	}
}

func TestConsoleFault(t *testing.T) {
	for _, line := range []string{
		"[   12.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009",
		"[    3.2] BUG: kernel NULL pointer dereference, address: 0000000000000000",
		"[    3.2] Oops: 0002 [#1] PREEMPT SMP PTI",
		"watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [ksoftirqd/0:12]",
		"rcu: INFO: rcu_preempt self-detected stall on CPU",
		"INFO: task ctload:44 blocked for more than 120 seconds.",
		"Out of memory: Killed process 71 (ctload) total-vm:1kB",
		"ctload invoked oom-killer: gfp_mask=0xcc0, order=0",
		"WARNING: CPU: 0 PID: 1 at net/netfilter/nf_conntrack_core.c:1200",
		"WARNING: net/netfilter/nf_conntrack_core.c:1200 at gc_worker+0x1/0x2, CPU#0: " +
			"kworker/0:1/12",
		"general protection fault, probably for non-canonical address",
		"swapper/0: page allocation failure: order:0, mode:0x820(GFP_ATOMIC)",
		"clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable " +
			"because the skew is too large:",
	} {
		if !ConsoleFault(line) {
			t.Errorf("missed: %s", line)
		}
	}
	for _, line := range []string{
		"[   10.0] nf_conntrack: nf_conntrack: table full, dropping packet",
		"net_ratelimit: 220 callbacks suppressed",
		"TCP: request_sock_TCP: Possible SYN flooding on port 0.0.0.0:80. Sending cookies.",
		"x86/cpu: SGX disabled by BIOS.",
		"Debian bug reports: https://bugs.debian.org",
		"sched_clock: Marking stable (1234, 567)",
		"printk: legacy bootconsole [earlyser0] disabled",
		"Run /init as init process",
	} {
		if ConsoleFault(line) {
			t.Errorf("false alarm: %s", line)
		}
	}
}

// TestReconcileScenarios: scenarios that ask for the same kernel and memory must get the same.
func TestReconcileScenarios(t *testing.T) {
	trial := func(kernel string, memory int64) []Trial {
		t := Trial{Kernel: kernel, MemoryBytes: memory, Entries: failing("requests", 10, 0)}
		Judge(&t)
		return []Trial{t}
	}
	bookworm := Configuration{Kernel: "debian/bookworm", MemoryBytes: 1 << 29}
	small := Configuration{Kernel: "debian/bookworm", MemoryBytes: 1 << 28}
	trixie := Configuration{Kernel: "debian/trixie", MemoryBytes: 1 << 29}
	for _, test := range []struct {
		name      string
		scenarios []Scenario
		want      []bool
	}{
		{"asked for", []Scenario{
			{Name: "a", Configuration: bookworm, Trials: trial("6.1", 480<<20)},
			{Name: "b", Configuration: small, Trials: trial("6.1", 230<<20)},
			{Name: "c", Configuration: trixie, Trials: trial("6.12", 478<<20)},
		}, []bool{true, true, true}},
		{"another kernel", []Scenario{
			{Name: "a", Configuration: bookworm, Trials: trial("6.1.0-1", 480<<20)},
			{Name: "b", Configuration: small, Trials: trial("6.1.0-2", 230<<20)},
			{Name: "c", Configuration: bookworm, Trials: trial("6.1.0-2", 480<<20)},
		}, []bool{false, true, true}},
		{"other memory", []Scenario{
			{Name: "a", Configuration: bookworm, Trials: trial("6.1", 480<<20)},
			{Name: "b", Configuration: bookworm, Trials: trial("6.1", 470<<20)},
		}, []bool{false, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := &Run{Scenarios: test.scenarios}
			Reconcile(run)
			got := []bool{}
			for _, s := range run.Scenarios {
				got = append(got, s.Trials[0].Verdict != Invalid)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReconcile(t *testing.T) {
	ok := Trial{
		Kernel: "6.1", Entries: failing("requests", 10, 0),
		Conntrack: Conntrack{Tracked: true, Max: 4096, Buckets: 4096},
	}
	with := func(change func(*Trial)) Trial {
		t := ok
		change(&t)
		Judge(&t)
		return t
	}
	good := with(func(*Trial) {})
	for _, test := range []struct {
		name   string
		trials []Trial
		want   []bool // valid
	}{
		{"alike", []Trial{good, good, good}, []bool{true, true, true}},
		{
			"another table", []Trial{good, with(func(t *Trial) { t.Conntrack.Max = 8192 }), good},
			[]bool{true, false, true},
		},
		{
			"another kernel", []Trial{with(func(t *Trial) { t.Kernel = "6.12" }), good, good},
			[]bool{false, true, true},
		},
		{
			"no majority", []Trial{good, with(func(t *Trial) { t.Conntrack.Buckets = 512 })},
			[]bool{false, false},
		},
		{
			"an invalid one has no say",
			[]Trial{good, with(func(t *Trial) { t.Conntrack.Max = 1; t.Invalid = []string{"x"} })},
			[]bool{true, false},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := &Run{Scenarios: []Scenario{{Trials: test.trials}}}
			Reconcile(run)
			got := []bool{}
			for _, tr := range run.Scenarios[0].Trials {
				got = append(got, tr.Verdict != Invalid)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
