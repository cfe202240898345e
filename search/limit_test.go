package search

import (
	"testing"

	"github.com/ctload/ctload/results"
)

// trial returns a trial of 1000 connections, as far as they did not fail completed ones.
func trial(verdict results.Verdict, change func(*results.Trial)) *results.Trial {
	t := &results.Trial{Verdict: verdict, Stack: &results.Stack{}}
	var e results.Entry
	e.Offered, e.Unit, e.Completed = 1000, "connections", new(int64)
	t.Entries = map[string]results.Entry{"users": e}
	if change != nil {
		change(t)
	}
	for name, e := range t.Entries {
		if e.Completed != nil && e.Role != results.Hostile {
			e.Failed = t.Accounting.Failed
			*e.Completed = e.Offered - e.Failed
			t.Entries[name] = e
		}
	}
	return t
}

// once makes the load of a trial one of flows that are answered, or of packets that are not.
func once(t *results.Trial, unit string) {
	e := t.Entries["users"]
	e.Unit = unit
	if unit == "packets" {
		e.Completed, e.Sent = nil, new(int64(1000))
	}
	t.Entries["users"] = e
}

// TestObserve names the limit that each kind of loss shows, and tells what is lost from what
// succeeded after retries.
func TestObserve(t *testing.T) {
	failed := func(n int64) func(*results.Trial) {
		return func(t *results.Trial) { t.Accounting.Failed = n }
	}
	refused := func(n int64) func(*results.Trial) {
		return func(t *results.Trial) { t.Accounting.Refused = n }
	}
	for _, tc := range []struct {
		name    string
		trial   *results.Trial
		limit   Limit // empty: it holds
		lost    float64
		retried float64
	}{
		{"clean", trial(results.Clean, nil), "", 0, 0},
		{"few failures", trial(results.NotConntrack, failed(1)), "", .001, 0},
		{"more failures", trial(results.NotConntrack, failed(2)), Other, .002, 0},
		{"SYNs sent again", trial(results.TableFull, refused(30)), Table, 0, .03},
		{"few SYNs sent again", trial(results.TableFull, refused(5)), "", 0, .005},
		{"more refused packets than attempts", trial(results.TableFull, refused(3000)),
			Table, 0, 1},
		{"failures after retries, and successes", trial(results.TableFull, func(t *results.Trial) {
			t.Accounting.Failed, t.Accounting.Refused = 10, 40
		}), Table, .01, .03},
		{"failures alone are retried", trial(results.TableFull, func(t *results.Trial) {
			t.Accounting.Failed, t.Accounting.Refused = 20, 140
			e := t.Entries["users"]
			e.Connect = results.Latency{Count: 980, Max: 999}
			t.Entries["users"] = e
		}), Table, .02, 0},
		{"half-open entries evicted",
			trial(results.Evicting, func(t *results.Trial) { t.Accounting.Evicted = 30 }),
			Table, 0, .03},
		{"packets refused", trial(results.TableFull, func(t *results.Trial) {
			once(t, "packets")
			t.Accounting.Refused = 30
		}), Table, .03, 0},
		{"flows evicted", trial(results.Evicting, func(t *results.Trial) {
			once(t, "flows")
			t.Accounting.Evicted = 30
		}), Table, .03, 0},
		{"flows that failed for it", trial(results.TableFull, func(t *results.Trial) {
			once(t, "flows")
			t.Accounting.Failed, t.Accounting.Refused = 30, 30
		}), Table, .03, 0},
		{"flows beside connections", trial(results.TableFull, func(t *results.Trial) {
			var flows results.Entry
			flows.Offered, flows.Unit, flows.Sent = 1000, "flows", new(int64(1000))
			t.Entries["flows"] = flows
			t.Accounting.Refused = 1100
		}), Table, .5, .05},
		{"chains", trial(results.ChainTooLong, failed(30)), Hash, .03, 0},
		{"ports", trial(results.NATExhausted, failed(30)), Ports, .03, 0},
		{"died", trial(results.DutDied, nil), Memory, 0, 0},
		{"an accept queue", trial(results.NotConntrack, func(t *results.Trial) {
			t.Accounting.Failed, t.Stack.ListenDrops = 30, 60
		}), AcceptQueue, .03, .03},
		{"an accept queue that retries outlast", trial(results.Clean, func(t *results.Trial) {
			t.Stack.ListenDrops = 60
		}), AcceptQueue, 0, .06},
		{"a card", trial(results.NotConntrack, func(t *results.Trial) {
			t.Accounting.Failed, t.Stack.SoftnetDropped = 30, 60
		}), Link, .03, 0},
		{"no time", trial(results.NotConntrack, func(t *results.Trial) {
			t.Accounting.Failed, t.CPU = 30, &results.CPU{SoftIRQ: 97, Idle: 3}
		}), CPU, .03, 0},
		{"an attacker's", trial(results.TableFull, func(t *results.Trial) {
			hostile := t.Entries["users"]
			hostile.Role = results.Hostile
			t.Entries["flood"] = hostile
			t.Accounting.Refused = 500
		}), "", 0, 0},
	} {
		o, err := Conditions{Loss: .001, Retried: .005}.Observe(5, tc.trial)
		want := Observation{Value: 5, Held: tc.limit == "", Limit: tc.limit,
			Shares: Shares{tc.lost, tc.retried}}
		if err != nil || o != want {
			t.Errorf("%s: %+v, %v; want %+v", tc.name, o, err, want)
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
