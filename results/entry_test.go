package results

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sent returns an entry that asks for no answer, all of which left the sender.
func sent(n int64) Entry {
	return Entry{Kind: "udp", Attempts: Attempts{Unit: unitFlows, Offered: n, Sent: &n}}
}

// hostile returns an entry as an attacker's.
func hostile(e Entry) Entry {
	e.Role = Hostile
	return e
}

// TestJudge_Entries: the sentence words each entry by itself, and failures of a hostile one decide
// nothing.
func TestJudge_Entries(t *testing.T) {
	held := Conntrack{Tracked: true, Peak: 80, Max: 400}
	full := Conntrack{
		Tracked: true, Peak: 200, Max: 200, LogLines: 9, Counters: Counters{Drop: 475},
	}
	for _, test := range []struct {
		name    string
		trial   Trial
		verdict Verdict
		words   []string // in the sentence
		not     []string // absent from it
	}{
		{
			name: "an attacker limited by a rule",
			trial: Trial{
				Entries: map[string]Entry{
					"attacker": hostile(entry("connections", 600, 520)),
					"users":    entry("requests", 150, 0),
				},
				Conntrack: held,
				Stack:     &Stack{RulesDropped: 1560},
			},
			verdict: Clean,
			words: []string{
				"All 150 requests of users completed, 520 of 600 connections of attacker " +
					"(hostile) failed (520 timed out), the table held 80 of 400 entries",
				"the stack counted 1560 packets dropped by rules",
			},
		},
		{
			name: "an attacker alone",
			trial: Trial{
				Entries:   map[string]Entry{"attacker": hostile(entry("connections", 600, 600))},
				Conntrack: held,
			},
			verdict: Clean,
			words:   []string{"All 600 connections of attacker (hostile) failed (600 timed out)"},
		},
		{
			name: "users who fail beside an attacker",
			trial: Trial{
				Entries: map[string]Entry{
					"attacker": hostile(entry("connections", 600, 520)),
					"users":    entry("requests", 150, 3),
				},
				Conntrack: held,
			},
			verdict: NotConntrack,
			words: []string{
				"3 of 150 requests of users failed (3 timed out)",
				"(hostile) failed (520 timed out); connection tracking refused and evicted nothing",
			},
		},
		{
			name: "a silent load at a full table",
			trial: Trial{
				Entries: map[string]Entry{
					"hold": entry("connections", 200, 10), "udp": sent(400),
				},
				Conntrack: full,
			},
			verdict: TableFull,
			words: []string{
				"refused 475 packets", "retries included",
				"10 of 200 connections of hold failed (10 timed out), all 400 flows of udp were " +
					"sent, since the sender does not see what the DUT refuses",
			},
			not: []string{"600", "590", "completed"},
		},
		{
			name:    "a silent load alone",
			trial:   Trial{Entries: map[string]Entry{"udp": sent(400)}, Conntrack: full},
			verdict: TableFull,
			words:   []string{"all 400 flows were sent, since the sender does not see"},
			not:     []string{"SYN retries", "completed", "of udp"},
		},
		{
			name:    "a silent load with room",
			trial:   Trial{Entries: map[string]Entry{"udp": sent(400)}, Conntrack: held},
			verdict: Clean,
			words:   []string{"All 400 flows were sent, the table held"},
			not:     []string{"does not see", "completed"},
		},
		{
			name: "two probes, one dead",
			trial: Trial{
				Entries: failing("requests", 10, 0), Conntrack: held,
				Probe: &Probe{Sent: 67, Lost: 31},
				Probes: map[string]Probe{
					"closed": {Sent: 31, Lost: 31}, "ssh": {Sent: 36},
				},
			},
			verdict: Clean,
			words: []string{
				"; bystander closed lost 31 of 31 probes and bystander ssh lost none of 36 probes.",
			},
		},
		{
			name: "an entry that does not add up",
			trial: Trial{Entries: map[string]Entry{
				"users": entry("requests", 10, 0),
				"flood": {Attempts: Attempts{Offered: 90, Sent: new(int64(80)), Failed: 9}},
			}},
			verdict: Invalid,
			words:   []string{"the load of flood does not add up: 90 offered, 80 sent, 9 failed"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			trial := test.trial
			Judge(&trial)
			if trial.Verdict != test.verdict {
				t.Errorf("got %q, want %q", trial.Verdict, test.verdict)
			}
			for _, w := range test.words {
				if !strings.Contains(trial.Sentence, w) {
					t.Errorf("%q is not in: %s", w, trial.Sentence)
				}
			}
			for _, w := range test.not {
				if strings.Contains(trial.Sentence, w) {
					t.Errorf("%q is in: %s", w, trial.Sentence)
				}
			}
		})
	}
}

// TestSummed: the load adds up like units alone, and leaves out hostile entries.
func TestSummed(t *testing.T) {
	requests, connections := entry("requests", 9, 0), entry("connections", 9, 0)
	answered := entry(unitFlows, 9, 0)
	for _, test := range []struct {
		entries map[string]Entry
		names   []string
		why     string
	}{
		{map[string]Entry{"b": requests, "a": requests}, []string{"a", "b"}, ""},
		{map[string]Entry{"a": hostile(connections), "b": requests}, []string{"b"}, ""},
		{
			map[string]Entry{"a": connections, "b": requests}, nil,
			"its entries count connections and requests, which are not added",
		},
		{map[string]Entry{"a": sent(9), "b": answered}, nil, "ask for no answer"},
		{map[string]Entry{"a": hostile(requests)}, nil, "every entry is hostile"},
	} {
		names, why := Summed(test.entries)
		if !cmp.Equal(names, test.names) || !strings.Contains(why, test.why) ||
			(why == "") != (test.why == "") {
			t.Errorf("%v: %v %q", test.entries, names, why)
		}
	}
}

// TestSetReceived: what arrived is known where the DUT counted it, or where nothing got lost.
func TestSetReceived(t *testing.T) {
	counted := map[string]int64{"flood": 377, "users": 9, "own": 5}
	for _, test := range []struct {
		missing int64
		counted map[string]int64
		want    *int64
	}{
		{0, nil, new(int64(400))},
		{1, nil, nil},
		{23, counted, new(int64(377))},
		{0, map[string]int64{}, new(int64(400))},
	} {
		own := sent(5)
		own.From = "dut"
		trial := Trial{
			Entries: map[string]Entry{
				"flood": sent(400), "users": entry("requests", 9, 0), "own": own,
			},
			Transit: &Transit{ToDUT: Crossing{
				Sent: 500, Received: 500 - test.missing, Missing: test.missing,
			}},
		}
		trial.SetReceived("dut", test.counted)
		if diff := cmp.Diff(test.want, trial.Entries["flood"].Received); diff != "" {
			t.Errorf("%+v (-want +got)\n%s", test, diff)
		}
		for _, name := range []string{"users", "own"} {
			if got := trial.Entries[name].Received; got != nil {
				t.Errorf("received %d of %s", *got, name)
			}
		}
	}
}

// ofRelay returns the entries and the probes of an experiment, before it runs.
func ofRelay() Workload {
	return Workload{
		Entries: map[string]Entry{
			"attacker": hostile(entry("connections", 0, 0)), "my-users": entry("requests", 0, 0),
			"users": entry("requests", 0, 0), "flood.v6": hostile(sent(0)),
		},
		Probes: map[string]Probe{"ssh": {}},
	}
}

// TestThreshold_Names: thresholds name entries and probes.
func TestThreshold_Names(t *testing.T) {
	trial := &Trial{Entries: ofRelay().Entries, Probes: map[string]Probe{
		"ssh": {Sent: 100, Lost: 1, Loss: 0.01},
	}}
	trial.Entries["attacker"] = hostile(entry("connections", 600, 520))
	trial.Entries["flood.v6"] = hostile(sent(400))
	for _, test := range []struct {
		expression string
		passed     bool
		actual     string
	}{
		{"entries.users.failed == 0", true, "entries.users.failed = 0"},
		{
			"entries.attacker.causes.timeout == 520 and entries.attacker.completed == 80", true,
			"entries.attacker.causes.timeout = 520, entries.attacker.completed = 80",
		},
		{`entries["my-users"].offered == 0`, true, `entries["my-users"].offered = 0`},
		{`entries["flood.v6"].sent == 400`, true, `entries["flood.v6"].sent = 400`},
		{
			`entries["flood.v6"].received == 400`, false,
			`entries["flood.v6"].received = missing: not measured, since it is known only of a ` +
				"load without answers, where every frame arrived, or where each attempt is one " +
				"packet on tuples that no other entry has",
		},
		{"probes.ssh.loss < 0.01", false, "probes.ssh.loss = 0.01"},
		{
			"let u = entries.users; u.connect_ms.p50 < 3", false,
			"entries.users.connect_ms.p50 = missing: not measured, since " +
				"entries.users.connect_ms.count is 0: nothing succeeded whose time it is",
		},
	} {
		threshold, err := CompileThreshold(test.expression, ofRelay())
		if err != nil {
			t.Error(err)
			continue
		}
		passed, actual, err := threshold.Check(trial)
		if err != nil || passed != test.passed || actual != test.actual {
			t.Errorf("%s: %v, %s, %v", test.expression, passed, actual, err)
		}
	}
	lost, err := CompileThreshold("entries.users.failed == 0", ofRelay())
	if err != nil {
		t.Fatal(err)
	}
	const want = "entries.users.failed = missing: not measured, since the trial has no " +
		"entries.users"
	if passed, actual, err := lost.Check(&Trial{}); passed || actual != want || err != nil {
		t.Errorf("a trial without entries: %v, %s, %v", passed, actual, err)
	}
}

// TestThreshold_UnknownNames: a name that the workload lacks is refused, with the nearest one.
func TestThreshold_UnknownNames(t *testing.T) {
	unlike := ofRelay()
	unlike.Entries["held"] = entry("connections", 0, 0)
	for _, test := range []struct {
		expression string
		of         Workload
		words      string
	}{
		{"entries.usrs.failed == 0", ofRelay(), `no entry "usrs"; did you mean "users"?`},
		{"probes.sshd.loss < 1", ofRelay(), `no probe "sshd"; did you mean "ssh"?`},
		{"probes.dns.loss < 1", ofRelay(), `no probe "dns"; valid here: ssh`},
		{"probes.dns.loss < 1", Workload{}, "the workload has no probe"},
		{
			"entries.my-users.failed == 0", ofRelay(),
			`my-users is written entries["my-users"]`,
		},
		{
			"entries.users.fialed == 0", ofRelay(),
			`no field "entries.users.fialed"; did you mean "entries.users.failed"?`,
		},
		{
			"entries.users.sent == 0", ofRelay(),
			"entries.users.sent: it awaits answers: completed says how many it got",
		},
		{
			`entries["flood.v6"].completed > 0`, ofRelay(),
			`entries["flood.v6"].completed: it asks for no answer: sent says how many left`,
		},
		{
			"load.failed == 0", unlike, "the load has no sum: its entries count connections and " +
				"requests, which are not added; name one, as entries.held.failed",
		},
		{"load.sent == 0", ofRelay(), "load.sent: it awaits answers"},
	} {
		_, err := CompileThreshold(test.expression, test.of)
		if err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v, want %q", test.expression, err, test.words)
		}
	}
}

// TestCondition_Names: the time line has each entry and each probe by its name, and a loss of one
// probe is not thinned by another.
func TestCondition_Names(t *testing.T) {
	w := ofRelay()
	delete(w.Entries, "flood.v6")
	samples := []Sample{
		{Seconds: 1.6},
		{Seconds: 2, Entries: map[string]Progress{
			"attacker": {Offered: 60, Done: 50, Failed: 10}, "users": {Offered: 10, Done: 10},
		}},
	}
	probes := []ProbeSample{
		{Probe: "ssh", Seconds: 1.7}, {Probe: "dns", Seconds: 1.8, OK: true, Millis: 3},
	}
	w.Probes["dns"] = Probe{}
	moments := momentsOf(w, samples, probes)
	m := &moments[1]
	for text, want := range map[string]bool{
		"entries.users.failed == 0":                            true,
		"abs(entries.attacker.failed_per_s - 25) < 0.01":       true,
		`entries["my-users"].offered == 0`:                     true,
		"probes.ssh.loss == 1 and probes.dns.loss == 0":        true,
		"probe.loss == 0.5 and probes.dns.latency_ms == 3":     true,
		"entries.users.completed_per_s < 10 or elapsed == 100": false,
	} {
		c, err := CompileCondition(text, w)
		if err != nil {
			t.Error(err)
		} else if got := c.Holds(m); got != want {
			t.Errorf("%s: %v, %s", text, got, c.Words(m))
		}
	}
	if m.failed != 0 {
		t.Errorf("%d attempts failed without the hostile ones", m.failed)
	}
	if _, err := CompileCondition("entries.usrs.failed == 0", w); err == nil ||
		!strings.Contains(err.Error(), `did you mean "users"`) {
		t.Error(err)
	}
	w.Entries["held"] = entry("connections", 0, 0) // no unit of users
	first, err := CompileCondition("first failed", w)
	if err != nil {
		t.Fatal(err)
	}
	if first.Holds(m) {
		t.Errorf("only the attacker failed: %s", first.Words(m))
	}
}

// TestSummarise_Probes: each probe has its own losses and its own recovery.
func TestSummarise_Probes(t *testing.T) {
	tcp := Probe{Kind: "tcp"}
	trial := Trial{Seconds: 1, Probes: map[string]Probe{"dead": tcp, "ssh": tcp}}
	var attempts []ProbeSample
	for i := range 8 {
		at := float64(i)
		attempts = append(attempts,
			ProbeSample{Probe: "dead", Seconds: at, Millis: 500, Cause: CauseRefused},
			ProbeSample{Probe: "ssh", Seconds: at, Millis: 2, OK: i != 1, Cause: CauseTimeout})
	}
	Summarise(&trial, nil, attempts)
	ssh, dead := trial.Probes["ssh"], trial.Probes["dead"]
	if dead.Sent != 8 || dead.Lost != 8 || dead.Loss != 1 || dead.Causes[CauseRefused] != 8 ||
		dead.SecondsToRecover != nil || dead.Kind != "tcp" {
		t.Errorf("dead: %+v", dead)
	}
	if ssh.Sent != 8 || ssh.Lost != 1 || ssh.Loss != 0.125 || ssh.Causes[CauseTimeout] != 1 ||
		ssh.SecondsToRecover == nil || math.Abs(*ssh.SecondsToRecover-1.002) > 1e-9 {
		t.Errorf("ssh: %+v", ssh)
	}
	if trial.Probe.Sent != 16 || trial.Probe.Lost != 9 || trial.Conntrack.SecondsToRecover != nil {
		t.Errorf("together: %+v, recovered after %v", trial.Probe, trial.Conntrack.SecondsToRecover)
	}
	trial.Verdict, trial.Conntrack.Alerts = TableFull, []Alert{{Share: 0.75}}
	const want = "new connections of dead did not become reliable; new connections of ssh " +
		"succeeded again after 1.00 s"
	if got := recoveryWords(&trial); !strings.Contains(got, want) {
		t.Errorf("%q is not in: %s", want, got)
	}
	if got := bystanderWords(&trial); !strings.Contains(got, "Bystander dead: during it 100 %") ||
		!strings.Contains(got, "Bystander ssh: during it 0 %") {
		t.Errorf("bystanders: %s", got)
	}
}
