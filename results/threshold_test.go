package results

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestThreshold(t *testing.T) {
	trial := &Trial{
		Number: 2, Verdict: TableFull, Seconds: 12.5,
		Conntrack: Conntrack{
			Counters: Counters{Drop: 312}, Peak: 4096, Max: 4096, SecondsToFull: s(1.25),
			Alerts: []Alert{{Share: 0.75}},
		},
		Load: &Load{Attempts: Attempts{
			Offered: 5000, Completed: new(int64(4096)), Failed: 904,
			Causes: map[string]int64{"timeout": 904}, Latency: Latency{Count: 4096, P99: 31.5},
		}},
	}
	const noProbe = ": not measured, since the trial has no probe"
	const noSample = ": not measured, since load.connect_ms.count is 0: nothing succeeded whose " +
		"time it is"
	for _, test := range []struct {
		expression string
		passed     bool
		actual     string
	}{
		{"conntrack.drop == 0", false, "conntrack.drop = 312"},
		{"conntrack.drop > 0 and load.failed > 0", true, "conntrack.drop = 312, load.failed = 904"},
		{"conntrack.peak <= 10", false, "conntrack.peak = 4096"},
		{"load.failed <= 0.01 * load.offered", false, "load.failed = 904, load.offered = 5000"},
		{"load.latency_ms.p99 < 250", true, "load.latency_ms.p99 = 31.5"},
		{"conntrack.peak <= conntrack.max", true, "conntrack.peak = 4096, conntrack.max = 4096"},
		{`verdict in ["clean", "evicting"]`, false, `verdict = "table-full"`},
		{"conntrack.seconds_to_full > 60", false, "conntrack.seconds_to_full = 1.25"},
		{"conntrack.seconds_to_recover < 10", false, "conntrack.seconds_to_recover = never"},
		{
			"conntrack.seconds_to_first_drop == never", true,
			"conntrack.seconds_to_first_drop = never",
		},
		{
			"load.causes.timeout == 904 && load.causes.reset == 0", true,
			"load.causes.timeout = 904, load.causes.reset = 0",
		},
		{
			"len(conntrack.alerts) == 0", false,
			"conntrack.alerts = [map[fired_s:0 lead_s:+Inf share:0.75]]",
		},
		{"probe.lost == 0", false, "probe.lost = missing" + noProbe},
		{"probe.latency_ms.p99 < 250", false, "probe.latency_ms.p99 = missing" + noProbe},
		{"(probe?.lost ?? 0) == 0", true, "probe.lost = missing"},
		{"load.connect_ms.p99 < 250", false, "load.connect_ms.p99 = missing" + noSample},
		{"load.connect_ms.p99 != 3", false, "load.connect_ms.p99 = missing" + noSample},
		{"not (load.connect_ms.max > 250)", false, "load.connect_ms.max = missing" + noSample},
		{"let c = load.connect_ms; c.p50 != 3", false, "load.connect_ms.p50 = missing" + noSample},
		{
			"let l = load; let c = l.connect_ms; c.count == 0 or c.p50 < 3", true,
			"load.connect_ms.count = 0, load.connect_ms.p50 = missing",
		},
		{"probe == nil or probe.lost == 0", true, "probe.lost = missing"},
		{"accounting.unexplained == 0", true, "accounting.unexplained = 0"},
		{"seconds < 60", true, "seconds = 12.5"},
		{
			"let lost = load.failed / load.offered; lost < 0.1", false,
			"load.failed = 904, load.offered = 5000",
		},
	} {
		t.Run(test.expression, func(t *testing.T) {
			th, err := CompileThreshold(test.expression, Workload{})
			if err != nil {
				t.Fatal(err)
			}
			passed, actual, err := th.Check(trial)
			if err != nil {
				t.Error(err)
			}
			if passed != test.passed || actual != test.actual {
				t.Errorf("%v: %s\nwant %v: %s", passed, actual, test.passed, test.actual)
			}
		})
	}
}

// TestThreshold_FailsInEvaluation: what expr cannot evaluate is an error with its own words, not a
// threshold that does not hold.
func TestThreshold_FailsInEvaluation(t *testing.T) {
	trial := Trial{Number: 2, Verdict: Clean, Load: &Load{Attempts: Attempts{Offered: 5000}}}
	for expression, words := range map[string]string{
		"load.offered % load.failed == 0": "integer divide by zero",
		`conntrack.alerts[3].share > 0.5`: "index out of range",
		`verdict matches "["`:             "missing closing ]",
	} {
		th, err := CompileThreshold(expression, Workload{})
		if err != nil {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v", expression, err)
			}
			continue
		}
		web := &Scenario{Name: "web", Trials: []Trial{trial}}
		outcomes, err := CheckThresholds([]*Threshold{th}, web)
		_, typed := errors.AsType[*EvaluationError](err)
		if !typed || outcomes[0].Passed || !strings.Contains(err.Error(), words) ||
			!strings.Contains(err.Error(), "web, trial 2") {
			t.Errorf("%s: %v, %+v", expression, err, outcomes)
		}
	}
}

func TestThresholdErrors(t *testing.T) {
	for _, test := range []struct {
		expression   string
		line, column int
		words        string
	}{
		{"conntrak.drop == 0", 1, 1, `no field "conntrak"; did you mean "conntrack"`},
		{
			"conntrack.drops == 0", 1, 11,
			`no field "conntrack.drops"; did you mean "conntrack.drop"`,
		},
		{"load.failed == 0 and drop == 0", 1, 22, `did you mean "conntrack.drop"`},
		{"load.failed == 0 and\n  load.latncy_ms.p99 < 5", 2, 8, `did you mean "load.latency_ms`},
		{"conntrack.drop ==", 1, 17, "unexpected token EOF"},
		{"conntrack.drop", 1, 1, "expected bool"},
		{"conntrack.drop == true", 1, 16, "mismatched types"},
		{"verdict > 5", 1, 9, "mismatched types"},
		{"", 1, 1, "empty"},
		{"probe.latency.p99 < 5", 1, 7, `did you mean "probe.latency_ms"`},
		{"let l = load; l.fails == 0", 1, 17, `no field "load.fails"`},
	} {
		t.Run(test.expression, func(t *testing.T) {
			_, err := CompileThreshold(test.expression, Workload{})
			at, ok := errors.AsType[*exprError](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			if at.Line != test.line || at.Column != test.column ||
				!strings.Contains(at.Message, test.words) {
				t.Errorf("got %v\nwant line %d, column %d: %s", err, test.line, test.column,
					test.words)
			}
		})
	}
}

func TestCheckThresholds(t *testing.T) {
	th, err := CompileThreshold("conntrack.drop == 0", Workload{})
	if err != nil {
		t.Fatal(err)
	}
	trial := func(n int, v Verdict, drop int64) Trial {
		return Trial{Number: n, Verdict: v, Conntrack: Conntrack{Counters: Counters{Drop: drop}}}
	}
	for _, test := range []struct {
		name   string
		trials []Trial
		want   Outcome
	}{
		{
			"held", []Trial{trial(1, Clean, 0), trial(2, Clean, 0)},
			Outcome{"conntrack.drop == 0", true, "trial 2: conntrack.drop = 0"},
		},
		{
			"one failed", []Trial{trial(1, Clean, 0), trial(2, TableFull, 7), trial(3, Clean, 0)},
			Outcome{"conntrack.drop == 0", false, "trial 2: conntrack.drop = 7"},
		},
		{
			"invalid ones do not count", []Trial{trial(1, Clean, 0), trial(2, Invalid, 7)},
			Outcome{"conntrack.drop == 0", true, "trial 1: conntrack.drop = 0"},
		},
		{
			"nothing measured", []Trial{trial(1, Invalid, 0)},
			Outcome{"conntrack.drop == 0", false, "there is no valid trial"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := CheckThresholds([]*Threshold{th}, &Scenario{Trials: test.trials})
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]Outcome{test.want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzThreshold: no expression, however broken, makes the compiler or the evaluation panic.
func FuzzThreshold(f *testing.F) {
	for _, seed := range []string{
		"conntrack.drop == 0", "load.causes.x > 1", "probe?.lost == 0", "a.b.c", "[",
		"let x = load; x.failed == 0", "all(conntrack.alerts, .share > 0.5)", "\"",
		"load[\"failed\"] == 0", "conntrack.drop.x == 0", "seconds > 1 ? true : false",
	} {
		f.Add(seed)
	}
	trial := &Trial{Conntrack: Conntrack{Alerts: []Alert{{Share: 0.75}}}}
	f.Fuzz(func(t *testing.T, expression string) {
		th, err := CompileThreshold(expression, Workload{})
		if err != nil {
			if _, ok := errors.AsType[*exprError](err); !ok {
				t.Errorf("%q: %T", expression, err)
			}
			return
		}
		_, _, err = th.Check(trial)
		if _, ok := errors.AsType[*EvaluationError](err); err != nil && !ok {
			t.Errorf("%q: %T", expression, err)
		}
	})
}
