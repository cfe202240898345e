package alerts

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/metrics"
)

// filling returns a trial whose table gains entries at a rate from second 0 on, up to its max, with
// a sample each second.
func filling(rate, most int64, seconds int) metrics.Series {
	s := metrics.Series{Run: "night", Scenario: "baseline", Trial: 1}
	for n := -2; n <= seconds; n++ {
		all := max(0, rate*int64(n))
		s.Samples = append(s.Samples, results.Sample{
			Seconds: float64(n), Count: min(most, all), Max: most,
			Counters: results.Counters{Drop: max(0, all-most)},
		})
	}
	return s
}

func at(seconds float64) *float64 { return &seconds }

// TestPlay lets rules of a user run over a trial: thresholds, a rule that waits, one over a
// recording rule, labels with what a label may hold, and an alert that never fires.
func TestPlay(t *testing.T) {
	hosttest.Need(t, "promtool")
	rules := []byte(`groups:
- name: mine
  rules:
  - record: fill
    expr: node_nf_conntrack_entries{job="node"} / node_nf_conntrack_entries_limit
  - alert: Filling
    expr: node_nf_conntrack_entries / node_nf_conntrack_entries_limit > 0.75
  - alert: FillingForAWhile
    expr: fill > 0.75
    for: 3s
    labels: {severity: 'pa"ge, {now} = 1'}
  - alert: Dropping
    expr: increase(node_nf_conntrack_stat_drop[5s]) > 0
  - alert: Never
    expr: fill > 1
`)
	names, err := Check(t.Context(), rules)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Filling", "FillingForAWhile", "Dropping", "Never"},
		names); diff != "" {
		t.Error(diff)
	}
	// 100 of 1000 a second: above 75 % from second 8 on, the first drop is at 11.
	got, err := Play(t.Context(), rules, names, filling(100, 1000, 20), time.Second, at(11))
	if err != nil {
		t.Fatal(err)
	}
	want := []Firing{
		{Alert: "Filling", Labels: map[string]string{}, Fired: at(8), Lead: at(3)},
		{Alert: "FillingForAWhile", Labels: map[string]string{"severity": `pa"ge, {now} = 1`},
			Fired: at(11), Lead: at(0)},
		{Alert: "Dropping", Labels: map[string]string{}, Fired: at(11), Lead: at(0)},
		{Alert: "Never"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Nothing fires, and nothing drops.
	got, err = Play(t.Context(), rules, names, filling(10, 1000, 20), time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range got {
		if f.Fired != nil || f.Lead != nil {
			t.Errorf("%s fired: %+v", f.Alert, f)
		}
	}
	// Scrapes of five seconds see it at their next turn: -2, 3, 8.
	got, err = Play(t.Context(), rules, names, filling(100, 1000, 20), 5*time.Second, at(11))
	if err != nil || *got[0].Fired != 8 {
		t.Errorf("%v, %+v", err, got)
	}
}

// TestCheck refuses what Prometheus would not load, with its words.
func TestCheck(t *testing.T) {
	hosttest.Need(t, "promtool")
	_, err := Check(t.Context(), []byte("groups: [{name: a, rules: [{alert: B, expr: 'x >'}]}]"))
	if _, refused := errors.AsType[*rulesError](err); !refused ||
		!strings.Contains(err.Error(), "parse error") {
		t.Errorf("%v", err)
	}
}

// TestRules: promtool takes the rules for any load and table, and over a trial with that load, they
// fire as early as they promise.
func TestRules(t *testing.T) {
	hosttest.Need(t, "promtool")
	for _, tc := range []struct {
		name                  string
		rate, residence, most float64
		lead                  time.Duration
		inTime                bool // the table has room for the lead
	}{
		{"fits, and there is room", 20, 120, 65536, 10 * time.Minute, true},
		{"fits, without room", 100, 120, 32768, 10 * time.Minute, false},
		{"does not fit", 100, 600, 16384, 30 * time.Second, true},
		{"does not fit at all", 2000, 120, 16384, 10 * time.Minute, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			size := kernels.Size{Max: int64(tc.most), Buckets: int64(tc.most)}
			flows := results.Flows{Pairs: []results.Pair{{Rate: tc.rate, Residence: tc.residence}}}
			need := Need{Load: flows.Words(), Max: size.Max, Prediction: flows.Predict(size),
				Lead: tc.lead}
			rules := []byte(Rules(need))
			names, err := Check(t.Context(), rules)
			if err != nil {
				t.Fatalf("%v in\n%s", err, rules)
			}
			if len(names) != 4 {
				t.Errorf("alerts %q", names)
			}
			// Entries beside the planned ones come at the load's own rate, and none expires.
			normal := int64(need.normal() * tc.most)
			if need.normal() == 1 {
				normal = 0
			}
			trial := metrics.Series{Run: "r", Scenario: "surge", Trial: 1}
			full := -1.0
			for n := 0; full < 0 || n < int(full)+300; n += 15 {
				count := normal + int64(tc.rate)*int64(n)
				if count >= size.Max && full < 0 {
					full = float64(n)
				}
				trial.Samples = append(trial.Samples, results.Sample{
					Seconds: float64(n), Count: min(size.Max, count), Max: size.Max,
					Counters: results.Counters{Drop: max(0, count-size.Max)},
				})
			}
			got, err := Play(t.Context(), rules, names, trial, 15*time.Second, &full)
			if err != nil {
				t.Fatal(err)
			}
			by := map[string]Firing{}
			for _, f := range got {
				by[f.Alert] = f
			}
			_, _, promised := need.threshold()
			if f := by["ConntrackTableFilling"]; promised > 0 && (f.Lead == nil ||
				*f.Lead < promised.Seconds()) {
				t.Errorf("promised %v before, fired %+v of %v\n%s", promised, f, full, rules)
			}
			if tc.inTime != (promised >= tc.lead) {
				t.Errorf("promised %v of %v", promised, tc.lead)
			}
			if by["ConntrackRefusing"].Fired == nil || by["ConntrackLimitBelowPlan"].Fired != nil {
				t.Errorf("%+v", got)
			}
			// The load as planned is no alert.
			if need.normal() < 1 {
				calm := filling(0, size.Max, 1200)
				for i := range calm.Samples {
					calm.Samples[i].Count = min(normal, int64(float64(i)*tc.rate))
				}
				got, err := Play(t.Context(), rules, names, calm, 15*time.Second, nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range got {
					if f.Fired != nil {
						t.Errorf("the planned load makes %s fire\n%s", f.Alert, rules)
					}
				}
			}
		})
	}
}

// FuzzParse: what promtool prints is read without a panic, whatever it is.
func FuzzParse(f *testing.F) {
	f.Add(`got: {alertname="A", alertstate="firing"} 3E+00, {alertname="B", x="y\"}"} 6E+00`)
	f.Add("got: {")
	f.Add(`got: {a="b"`)
	f.Add(`got: {alertname="A"}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parse(text)
		if err == nil && len(list) == 0 {
			t.Error(fmt.Errorf("nothing is found in %q, without an error", text))
		}
	})
}
