package results

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/kernels"
)

func TestConclude_SmallestChange(t *testing.T) {
	type conf = Configuration
	scenario := func(name string, v Verdict, size kernels.Size, c conf, o ...Outcome) Scenario {
		table := Conntrack{Max: size.Max, Buckets: size.Buckets, Tracked: true}
		return Scenario{
			Name: name, Configuration: c, Thresholds: o,
			Trials: []Trial{{Verdict: v, Conntrack: table}},
		}
	}
	small := kernels.Size{Max: 4096, Buckets: 4096}
	baseline := scenario("baseline", TableFull, small, Configuration{})
	raised := scenario("raised-max", Clean, kernels.Size{Max: 262144, Buckets: 65536},
		Configuration{
			Buckets: 65536, Sysctl: map[string]string{"net.netfilter.nf_conntrack_max": "262144"},
		})
	shorter := scenario("shorter", Clean, small,
		Configuration{
			Sysctl: map[string]string{"net.netfilter.nf_conntrack_tcp_timeout_time_wait": "5"},
		})
	exempt := scenario("raw-notrack", Clean, small,
		Configuration{Rules: "*raw\n-A PREROUTING -j NOTRACK\nCOMMIT"}, Outcome{Passed: true})
	exempt.Trials[0].Rules = notrackCount(1)
	kinder := scenario("keep-alive", Clean, small, conf{})
	kinder.Workload = Asked{{"generator": "http", "keep-alive": true}}
	removed := scenario("module-removed", Clean, kernels.Size{}, Configuration{Rules: "*filter"})
	removed.Trials[0].Tracking = &Tracking{IPv4: trackingNo, IPv6: trackingNo, Source: "absent"}
	summed := exempt
	summed.Summary = "port 80 is not tracked"
	with := func(s Scenario, load Asked) Scenario {
		s.Workload = load
		return s
	}
	asked := func(timeout string, more ...string) Asked {
		e := Settings{"generator": "http", "name": "http", "timeout": timeout}
		for _, key := range more {
			e[key] = "5/s"
		}
		return Asked{e}
	}
	for _, test := range []struct {
		name  string
		run   Run
		words []string
	}{
		{
			"baseline is enough", Run{Scenarios: []Scenario{shorter, raised}},
			[]string{"No change is needed: shorter"},
		},
		{"none", Run{Scenarios: []Scenario{baseline, baseline}}, []string{"No scenario met"}},
		{"fewest settings", Run{Scenarios: []Scenario{baseline, raised, shorter, exempt}},
			[]string{
				"shorter is the smallest change", "nf_conntrack_tcp_timeout_time_wait = 5",
				"forgets idle connections earlier",
			}},
		{"tracked before exempt", Run{Scenarios: []Scenario{baseline, exempt, raised}},
			[]string{
				"raised-max is the smallest change that carried the load cleanly: " +
					"nf_conntrack_max = 262144, 65,536 buckets.",
				"a full table takes 64.5 MiB of kernel memory, 63.5 MiB more",
			}},
		{
			"exempt alone", Run{Scenarios: []Scenario{baseline, exempt}},
			[]string{"raw-notrack", "other rules", "NAT cannot translate it"},
		},
		{
			"rules with a summary", Run{Scenarios: []Scenario{baseline, summed}},
			[]string{"raw-notrack is the smallest change", "other rules (port 80 is not tracked)."},
		},
		{
			"another load",
			Run{Scenarios: []Scenario{baseline, kinder}},
			[]string{"No scenario with the load of baseline met"},
		},
		{
			"another load beside a cure", Run{Scenarios: []Scenario{baseline, kinder, raised}},
			[]string{"raised-max", "nf_conntrack_max = 262144, 65,536 buckets"},
		},
		{
			"a client that waits longer",
			Run{Workload: asked("10s"), Scenarios: []Scenario{
				with(scenario("baseline", TableFull, small, conf{}, Outcome{Passed: true}), nil),
				with(raised, asked("60s")),
			}},
			[]string{"raised-max is the smallest change that carried the load cleanly"},
		},
		{
			"a fault that its thresholds assert",
			Run{Workload: asked("10s"), Scenarios: []Scenario{
				scenario("slow", TableFull, small, conf{}, Outcome{Passed: true}),
				with(scenario("passing", Clean, small, conf{}), asked("10s", "rate")),
			}},
			[]string{
				"No scenario with the load of slow stayed clean, although slow met all its " +
					"thresholds. Clean with another load: passing.",
			},
		},
		{
			"what still fails is not of tracking",
			Run{Scenarios: []Scenario{
				scenario("baseline", Evicting, small, conf{}, Outcome{Passed: true}),
				scenario("larger", NotConntrack, kernels.Size{Max: 8192, Buckets: 8192},
					conf{Buckets: 8192}, Outcome{Passed: true}),
			}},
			[]string{"larger is the smallest change that met all thresholds: 8192 buckets."},
		},
		{
			"a machine that tracks nothing", Run{Scenarios: []Scenario{baseline, removed, raised}},
			[]string{"raised-max is the smallest change"},
		},
		{
			"a machine that tracks nothing alone", Run{Scenarios: []Scenario{baseline, removed}},
			[]string{"module-removed is the smallest change", "no connection has state"},
		},
		{
			"other modules",
			Run{Scenarios: []Scenario{baseline, scenario("no-helper", Clean, small, conf{})}},
			[]string{"no-helper", "other modules", "none that was measured"},
		},
		{
			"a failed threshold",
			Run{Scenarios: []Scenario{baseline, scenario("x", Clean, small, conf{}, Outcome{})}},
			[]string{"No scenario met"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Conclude(&test.run)
			got := c.Answer + " " + c.Cost
			for _, w := range test.words {
				if !strings.Contains(got, w) {
					t.Errorf("%q is not in: %s", w, got)
				}
			}
		})
	}
	one := Conclude(&Run{Scenarios: []Scenario{baseline}})
	if one.Answer != "" || one.Scenario != "" || len(one.Broke) != 1 {
		t.Errorf("one scenario: %+v", one)
	}
}

// TestConclude_Cure has a scenario whose thresholds assert the fault: it is not the one to apply.
func TestConclude_Cure(t *testing.T) {
	trial := func(v Verdict) []Trial { return []Trial{{Number: 1, Verdict: v}} }
	held := []Outcome{{Expression: "x", Passed: true}}
	run := &Run{Scenarios: []Scenario{
		{Name: "fault", Trials: trial(TableFull), Thresholds: held},
		{
			Name: "cure", Configuration: Configuration{Buckets: 65536}, Trials: trial(Clean),
			Thresholds: held,
		},
	}}
	if got := Conclude(run).Scenario; got != "cure" {
		t.Errorf("it applies %q, want the cure", got)
	}
	run.Scenarios[1].Trials = trial(TableFull)
	if c := Conclude(run); c.Scenario != "" || !strings.Contains(c.Answer, "although fault met") {
		t.Errorf("without a clean one it applies %q: %s", c.Scenario, c.Answer)
	}
}

// TestConclude_Faults: where all actions are faults, the answer is the scenario that they hurt
// least, with the lines that make it where it differs in its configuration alone.
func TestConclude_Faults(t *testing.T) {
	hurt := func(name string, broken int64, c Configuration) Scenario {
		s := fixed(name, "pause", broken, 0.5)
		s.Actions, s.Configuration = Asked{{"action": "pause"}}, c
		s.Trials[0].Actions[0].Fix = false
		return s
	}
	loose := Configuration{Sysctl: map[string]string{"net.netfilter.nf_conntrack_tcp_loose": "1"}}
	strict := hurt("strict", 50, Configuration{})
	for _, test := range []struct {
		run      []Scenario
		words    string
		scenario string
	}{
		{[]Scenario{strict}, "", ""},
		{
			[]Scenario{strict, hurt("loose", 0, loose)},
			"The faults hurt loose least: healed in 0.50 s, no connection broke.", "loose",
		},
		{
			[]Scenario{hurt("loose", 0, loose), strict},
			"The faults hurt loose least: healed in 0.50 s, no connection broke.", "",
		},
		{
			[]Scenario{hurt("a", 0, loose), hurt("b", 0, Configuration{})},
			"The faults hurt all scenarios alike; a: healed in 0.50 s, no connection broke.", "",
		},
	} {
		c := Conclude(&Run{Scenarios: test.run})
		if c.Answer != test.words || c.Scenario != test.scenario ||
			(len(c.Steps) > 0) != (test.scenario != "") {
			t.Errorf("%q, %q, %d steps; want %q, %q", c.Answer, c.Scenario, len(c.Steps),
				test.words, test.scenario)
		}
	}
}

// fixed returns a scenario with one fix and as many trials as times to heal, NaN where it did not.
func fixed(name, kind string, broken int64, healed ...float64) Scenario {
	s := Scenario{Name: name, Actions: Asked{{
		"action": kind, "fix": true,
		"sysctl": map[string]any{"net.netfilter.nf_conntrack_max": 65536},
	}}}
	for i, seconds := range healed {
		t := Trial{
			Number: i + 1, Seconds: 20, Verdict: TableFull,
			Actions: []Action{{Name: name, Kind: kind, Fix: true, Begun: new(12.0)}},
			Heal:    &Heal{Deviated: new(2.0), Broken: broken},
		}
		if !math.IsNaN(seconds) {
			t.Heal.Healed, t.Heal.SecondsToHeal = new(12+seconds), new(seconds)
		}
		s.Trials = append(s.Trials, t)
	}
	return s
}

// TestConclude_Fixes ranks fixes: what healed in every trial, what broke nothing, what takes
// nothing from the DUT, and then the fastest.
func TestConclude_Fixes(t *testing.T) {
	alone := Scenario{Name: "nothing", Trials: []Trial{
		{Number: 1, Seconds: 20, Verdict: TableFull, Heal: &Heal{Deviated: new(2.0)}},
	}}
	c := Conclude(&Run{Scenarios: []Scenario{
		alone, fixed("modules", "module-remove", 0, 0.01), fixed("sometimes", "flush", 0,
			0.1, math.NaN()),
		fixed("slow", "sysctl", 0, 3, 1), fixed("never", "flush", 0, math.NaN()),
		fixed("breaks", "rules-load", 20, 0.1), fixed("fast", "sysctl", 0, 0.3, 0.5),
	}})
	var order []string
	for _, f := range c.Fixes {
		order = append(order, fmt.Sprintf("%s: %s, %s", f.Scenario, f.HealWords(),
			f.BrokenWords()))
	}
	want := []string{
		"fast: healed in 0.40 s, no connection broke",
		"slow: healed in 2.00 s, no connection broke",
		"modules: healed in 0.01 s, no connection broke",
		"breaks: healed in 0.10 s, 20 connections broke",
		"sometimes: healed in 1 of 2 trials, no connection broke",
		"never: not healed in 8.00 s, no connection broke",
		"nothing: not healed in 18.0 s, no connection broke",
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
	if c.Scenario != "fast" || len(c.Steps) != 1 ||
		!strings.Contains(c.Steps[0].Text, "net.netfilter.nf_conntrack_max = 65536") {
		t.Errorf("%s: %+v", c.Scenario, c.Steps)
	}
	none := Conclude(&Run{Scenarios: []Scenario{alone, fixed("never", "flush", 0, math.NaN())}})
	if none.Scenario != "" || !strings.HasPrefix(none.Answer, "No fix healed") {
		t.Errorf("%+v", none)
	}
}

// TestConclude_Unwatched asks what a watch was too short for, scenarios alike together.
func TestConclude_Unwatched(t *testing.T) {
	cut := Trial{
		Number: 1, Verdict: TableFull, Probe: &Probe{Sent: 10, Lost: 5},
		Conntrack: Conntrack{Peak: 100, Max: 100},
		Recovery:  &Recovery{Watched: 5, Ended: TimeOver},
	}
	settled := cut
	settled.Recovery = &Recovery{Watched: 5, Ended: Settled}
	c := Conclude(&Run{Scenarios: []Scenario{
		{Name: "a", Trials: []Trial{cut, cut}}, {Name: "b", Trials: []Trial{cut}},
		{Name: "c", Trials: []Trial{settled}},
	}})
	want := []string{
		"when new connections and the table recover after the load (a, b: watched 5.00 s)",
	}
	if diff := cmp.Diff(want, c.Unwatched); diff != "" {
		t.Error(diff)
	}
}
