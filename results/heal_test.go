package results

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// illBetween returns a trial of 20 s with ten samples and ten probes a second, of which those sent
// in [from, to) are lost.
func illBetween(from, to float64) (samples []Sample, probes []ProbeSample) {
	for i := -10; i <= 200; i++ {
		at := float64(i) / 10
		samples = append(samples, Sample{Seconds: at, Count: 100, Max: 1000})
		sent := at - 0.03 // between two samples
		p := ProbeSample{Seconds: sent, Millis: 1, OK: true}
		if sent >= from && sent < to {
			p = ProbeSample{Seconds: sent, Millis: 1000, Cause: "timeout"}
		}
		probes = append(probes, p)
	}
	return samples, probes
}

// moment returns a time that may not have come: then +Inf.
func moment(v *float64) float64 {
	if v == nil {
		return math.Inf(1)
	}
	return *v
}

func condition(t *testing.T, text string) *Condition {
	t.Helper()
	c, err := CompileCondition(text, Workload{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHeal(t *testing.T) {
	at := func(v float64) *float64 { return &v }
	for _, tc := range []struct {
		name             string
		from, to         float64 // probes are lost
		actions          []Action
		deviate, heal    float64 // NaN: it did not happen
		lost             int64
		unsteady, phrase string
	}{
		{
			"a fault that is over", 5, 8, []Action{{Name: "pause", Begun: at(5), Ended: at(8)}}, 0,
			0, 30, "", "s after the end of the fault",
		},
		{
			"a fault, and a fix", 5, 9.5,
			[]Action{{Name: "full", Begun: at(4)}, {Name: "raise", Fix: true, Begun: at(9)}}, 1.1,
			0.6, 45, "", "returned to it 0.60 s after the fix",
		},
		{
			"a fix that does not help", 5, 100, []Action{{Name: "raise", Fix: true, Begun: at(9)}},
			5.1, math.NaN(), 150, "", "raise did not heal it",
		},
		{
			"well before the fix", 5, 7, []Action{{Name: "raise", Fix: true, Begun: at(9)}}, 5.1, 0,
			20, "", "returned to it before raise",
		},
		{"nothing is done", 5, 7, nil, 5.1, 2, 20, "", "returned to it 2.00 s after the deviation"},
		{
			"nothing happens", 50, 50, []Action{{Name: "flush", Begun: at(9)}}, math.NaN(), 0, 0,
			"", "stayed in its steady state",
		},
		{
			"one lost probe is noise", 5, 5.05, []Action{{Name: "flush", Begun: at(9)}}, math.NaN(),
			0, 0, "", "stayed in its steady state",
		},
		{
			"ill before", 5, 7, []Action{{Name: "flush", Begun: at(6)}}, 0, 1, 10,
			"probe.loss == 0 did not hold at 5.10 s (probe.loss = 1)", "",
		},
		{
			"a short relapse", 5, 19.5, []Action{{Name: "flush", Begun: at(4)}}, 1.1, math.NaN(),
			145, "", "did not return",
		},
		{
			"never made", 5, 7, []Action{{Name: "raise", Fix: true}}, 5.1, 2, 20, "",
			"not performed, since the trial ended first",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			samples, probes := illBetween(tc.from, tc.to)
			trial := &Trial{Seconds: 20, Actions: tc.actions, Verdict: TableFull}
			reasons := JudgeHeal(trial, []*Condition{condition(t, "probe.loss == 0")}, samples,
				probes, 1)
			unsteady := ""
			for _, r := range reasons {
				unsteady = r.Text
			}
			if (tc.unsteady == "") != (unsteady == "") || !strings.Contains(unsteady, tc.unsteady) {
				t.Errorf("unsteady: %q, want %q", unsteady, tc.unsteady)
			}
			h := trial.Heal
			for _, c := range []struct {
				name string
				got  *float64
				want float64
			}{{"deviate", h.SecondsToDeviate, tc.deviate}, {"heal", h.SecondsToHeal, tc.heal}} {
				switch {
				case math.IsNaN(c.want) && c.got != nil:
					t.Errorf("seconds to %s: %v, want none", c.name, *c.got)
				case !math.IsNaN(c.want) && (c.got == nil || math.Abs(*c.got-c.want) > 0.11):
					t.Errorf("seconds to %s: %v, want %v", c.name, moment(c.got), c.want)
				}
			}
			if math.Abs(float64(h.ProbesLost-tc.lost)) > 1 {
				t.Errorf("%d probes lost, want %d", h.ProbesLost, tc.lost)
			}
			if words := actionWords(trial) + healWords(trial); !strings.Contains(words, tc.phrase) {
				t.Errorf("%q lacks %q", words, tc.phrase)
			}
		})
	}
}

// TestHealWithoutSamples: a DUT that boots gives no samples; only the bystander shows its state.
func TestHealWithoutSamples(t *testing.T) {
	samples, probes := illBetween(5, 9)
	samples = slices.DeleteFunc(samples,
		func(s Sample) bool { return s.Seconds > 5 && s.Seconds < 8.5 })
	begun := 5.0
	trial := &Trial{
		Seconds: 20, Actions: []Action{{Name: "reset", Kind: "reset", Begun: &begun, Took: 3.5}},
	}
	JudgeHeal(trial, []*Condition{condition(t, "probe.loss == 0")}, samples, probes, 1)
	h := trial.Heal
	if h.SecondsToDeviate == nil || *h.SecondsToDeviate > 0.2 || h.SecondsToHeal == nil ||
		math.Abs(*h.SecondsToHeal-0.5) > 0.11 || h.ProbesLost != 40 {
		t.Errorf("deviated after %v s, healed after %v s, lost %d; want 0, 0.5, 40",
			moment(h.SecondsToDeviate), moment(h.SecondsToHeal), h.ProbesLost)
	}
}

// TestHealCounts: losses count only from the deviation to the healing, broken connections from the
// first action.
func TestHealCounts(t *testing.T) {
	samples, probes := illBetween(5, 8)
	for i := range samples {
		s := &samples[i]
		if s.Seconds > 0 {
			s.Counters.Drop = int64(s.Seconds * 10)
			s.Counters.InsertFailed = s.Counters.Drop / 2
			s.Failed = int64(s.Seconds * 5)
		}
		if s.Seconds > 6 {
			s.Broken = 3
			s.Failed += 3
		}
	}
	begun := 5.0
	trial := &Trial{Seconds: 20, Actions: []Action{{Name: "flush", Begun: &begun}}}
	JudgeHeal(trial, []*Condition{condition(t, "probe.loss < 0.5")}, samples, probes, 2)
	h := trial.Heal
	if h.Refused < 29 || h.Refused > 33 || h.Failed < 24 || h.Failed > 27 || h.Broken != 3 ||
		h.ProbesLost != 30 {
		t.Errorf("%+v", *h)
	}
	trial.Meaning = &CounterMeaning{} // a lost race is no drop
	JudgeHeal(trial, []*Condition{condition(t, "probe.loss < 0.5")}, samples, probes, 2)
	if n := trial.Heal.Refused; n < 43 || n > 50 {
		t.Errorf("%d refused, want half as many more", n)
	}
}

func TestConditions(t *testing.T) {
	m := Moment{
		Elapsed: 3, Conntrack: MomentTable{Count: 950, Max: 1000, Counters: Counters{Drop: 2}},
	}
	for text, want := range map[string]bool{
		"conntrack.count > 0.9 * conntrack.max": true,
		"first drop":                            true,
		"first loss":                            false,
		"elapsed > 2 and load.failed == 0":      true,
		"conntrack.drop_per_s > 1":              false,
	} {
		if got := condition(t, text).Holds(&m); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for text, words := range map[string]string{
		"conntrack.cuont > 1": `condition "conntrack.cuont > 1", line 1, column 11: ` +
			`the time line has no field "conntrack.cuont"; did you mean "conntrack.count"?`,
		"drop > 0":        `did you mean "conntrack.drop"?`,
		"conntrack.count": "expected bool",
		"first dropp":     "is called \"dropp\"; did you mean \"drop\"?",
		"":                "it is empty",
	} {
		_, err := CompileCondition(text, Workload{})
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q", text, err, words)
		}
	}
}

// TestLive: a live loss is that of the last second.
func TestLive(t *testing.T) {
	var l Live
	for i := range 30 {
		at := float64(i) / 10
		p := MomentProbe{Sent: int64(i)}
		if i > 20 {
			p.Lost = int64(i - 20)
		}
		probes := map[string]MomentProbe{"ssh": p}
		m := l.Add(Sample{Seconds: at, Progress: Progress{Done: int64(i) * 7}}, probes)
		if i == 15 && (m.Probe.Loss != 0 || math.Abs(m.Load.Completions-70) > 0.1) {
			t.Errorf("%+v", m)
		}
		if i == 29 && math.Abs(m.Probe.Loss-0.9) > 0.01 {
			t.Errorf("loss %v, want 0.9", m.Probe.Loss)
		}
	}
}

// TestMemoryFault: exhausted memory spoils no trial that exhausts it on purpose; an oops does.
func TestMemoryFault(t *testing.T) {
	for line, want := range map[string]bool{
		"swapper/0: page allocation failure: order:0, mode:0x800(GFP_ATOMIC)": true,
		"Call Trace:": true,
		"Out of memory: Killed process 71 (ctload)":                           true,
		"BUG: unable to handle page fault for address: 0000000000000010":      false,
		"Kernel panic - not syncing: Out of memory and no killable processes": false,
	} {
		if got := MemoryFault(line); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
