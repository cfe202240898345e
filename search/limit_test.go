package search

import (
	"testing"

	"github.com/ctload/ctload/results"
)

// trial returns a trial of 1000 attempts.
func trial(verdict results.Verdict, change func(*results.Trial)) *results.Trial {
	t := &results.Trial{Verdict: verdict, Stack: &results.Stack{}}
	var e results.Entry
	e.Offered = 1000
	t.Entries = map[string]results.Entry{"users": e}
	if change != nil {
		change(t)
	}
	return t
}

// TestObserve names the limit that each kind of loss shows, and tells what is a loss.
func TestObserve(t *testing.T) {
	failed := func(n int64) func(*results.Trial) {
		return func(t *results.Trial) { t.Accounting.Failed = n }
	}
	for _, tc := range []struct {
		name  string
		trial *results.Trial
		held  bool
		limit Limit
		loss  float64
	}{
		{"clean", trial(results.Clean, nil), true, "", 0},
		{"few failures", trial(results.NotConntrack, failed(1)), true, "", .001},
		{"more failures", trial(results.NotConntrack, failed(2)), false, Other, .002},
		{"refused", trial(results.TableFull, func(t *results.Trial) { t.Accounting.Refused = 30 }),
			false, Table, .03},
		{"more refused packets than attempts",
			trial(results.TableFull, func(t *results.Trial) { t.Accounting.Refused = 3000 }),
			false, Table, 1},
		{"evicted", trial(results.Evicting, func(t *results.Trial) { t.Accounting.Evicted = 30 }),
			false, Table, .03},
		{"chains", trial(results.ChainTooLong, failed(30)), false, Hash, .03},
		{"ports", trial(results.NATExhausted, failed(30)), false, Ports, .03},
		{"died", trial(results.DutDied, nil), false, Memory, 0},
		{"an accept queue", trial(results.NotConntrack, func(t *results.Trial) {
			t.Accounting.Failed, t.Stack.ListenDrops = 30, 60
		}), false, AcceptQueue, .06},
		{"a card", trial(results.NotConntrack, func(t *results.Trial) {
			t.Accounting.Failed, t.Stack.SoftnetDropped = 30, 60
		}), false, Link, .03},
		{"no time", trial(results.NotConntrack, func(t *results.Trial) {
			t.Accounting.Failed, t.CPU = 30, &results.CPU{SoftIRQ: 97, Idle: 3}
		}), false, CPU, .03},
		{"an attacker's", trial(results.TableFull, func(t *results.Trial) {
			hostile := t.Entries["users"]
			hostile.Role = results.Hostile
			t.Entries["flood"] = hostile
			t.Accounting.Refused = 500
		}), true, "", 0},
	} {
		o, err := Conditions{Loss: .001}.Observe(5, tc.trial)
		if err != nil || o.Held != tc.held || o.Limit != tc.limit || o.Invalid || o.Value != 5 ||
			Loss(tc.trial) != tc.loss {
			t.Errorf("%s: %+v, %v, a loss of %v; want held %v by %q, %v", tc.name, o, err,
				Loss(tc.trial), tc.held, tc.limit, tc.loss)
		}
	}
}

// TestObserve_Invalid: an INVALID trial shows nothing, except that the generator was the limit.
func TestObserve_Invalid(t *testing.T) {
	for code, want := range map[results.Code]Limit{
		results.CodeSteal: "", results.CodePacing: Generator, results.CodeWorkers: Generator,
		results.CodeOverload: Generator,
	} {
		spoilt := trial(results.Invalid, func(t *results.Trial) {
			t.InvalidCodes = []results.Code{results.CodeClock, code}
		})
		o, err := Conditions{}.Observe(5, spoilt)
		if err != nil || !o.Invalid || o.Held || o.Limit != want {
			t.Errorf("%s: %+v, %v; want the limit %q", code, o, err, want)
		}
	}
}

// TestObserve_Keep: a condition of --keep fails a trial that lost nothing.
func TestObserve_Keep(t *testing.T) {
	condition, err := results.CompileThreshold("conntrack.peak < 100", results.Workload{})
	if err != nil {
		t.Fatal(err)
	}
	c := Conditions{Keep: []*results.Threshold{condition}}
	for peak, held := range map[int64]bool{99: true, 100: false} {
		one := trial(results.Clean, func(t *results.Trial) { t.Conntrack.Peak = peak })
		if o, err := c.Observe(5, one); err != nil || o.Held != held || held != (o.Limit == "") {
			t.Errorf("a peak of %d: %+v, %v", peak, o, err)
		}
	}
}
