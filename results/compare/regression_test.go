package compare

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// simple returns a run of one scenario with the given failures in each trial.
func simple(accelerator string, v results.Verdict, drop int64, failed ...int64) *results.Run {
	sc := results.Scenario{Name: "baseline"}
	for i, n := range failed {
		tr := results.Trial{Number: i + 1, Verdict: v, Load: failing("requests", 5000, n)}
		tr.Conntrack.Drop = drop
		tr.Load.Rate = 100
		sc.Trials = append(sc.Trials, tr)
	}
	return &results.Run{
		Environment: results.Environment{Accelerator: accelerator},
		Scenarios:   []results.Scenario{sc},
	}
}

// probed gives each trial a probe that lost the given number of 250 attempts.
func probed(run *results.Run, lost ...int64) *results.Run {
	for i := range run.Scenarios[0].Trials {
		run.Scenarios[0].Trials[i].Probe = &results.Probe{Sent: 250, Lost: lost[i]}
	}
	return run
}

// verdicts gives each trial a verdict.
func verdicts(run *results.Run, list ...results.Verdict) *results.Run {
	for i := range run.Scenarios[0].Trials {
		run.Scenarios[0].Trials[i].Verdict = list[i]
	}
	return run
}

func TestFindRegressions(t *testing.T) {
	for _, test := range []struct {
		name      string
		base, run *results.Run
		want      []string
	}{
		{
			"the same twice", simple("kvm", results.TableFull, 3600, 904),
			simple("kvm", results.TableFull, 3600, 904), nil,
		},
		{
			"within the allowance", simple("kvm", results.TableFull, 3600, 904, 904, 904),
			simple("kvm", results.TableFull, 3900, 950, 950, 950), nil,
		},
		{
			"as trials of one machine were seen to scatter",
			simple("tcg", results.TableFull, 3600, 678, 897, 384),
			simple("tcg", results.TableFull, 6000, 717, 563, 886), nil,
		},
		{
			"and one of each", simple("tcg", results.TableFull, 3600, 384),
			simple("tcg", results.TableFull, 6000, 897), nil,
		},
		{
			"a lower max", simple("tcg", results.TableFull, 3600, 678, 897, 384),
			simple("tcg", results.TableFull, 9000, 2952, 2960, 3100),
			[]string{
				"baseline: load.completed was 4322 and is 2040 (0.46 x, 0.41 to 0.50)",
				"baseline: load.failed was 678 and is 2960 (4.37 x, 3.29 to 8.07)",
			},
		},
		{
			"a lower max, one trial", simple("tcg", results.TableFull, 3600, 904),
			simple("tcg", results.TableFull, 9000, 2960), nil,
		},
		{
			"a lower max, two trials and three",
			simple("tcg", results.TableFull, 3600, 904, 904),
			simple("tcg", results.TableFull, 9000, 2960, 2960, 2960),
			[]string{
				"baseline: load.completed was 4096 and is 2040",
				"baseline: load.failed was 904 and is 2960",
			},
		},
		{
			"from clean to full", simple("tcg", results.Clean, 0, 0, 0, 0),
			simple("tcg", results.TableFull, 40, 20, 20, 30),
			[]string{
				"baseline: verdict was clean and is table-full",
				"baseline: load.failed was 0 and is 20 (+20, +20 to +30)",
				"baseline: conntrack.drop was 0 and is 40 (+40, +40 to +40)",
			},
		},
		{
			"from clean to full by chance", simple("tcg", results.Clean, 0, 0),
			simple("tcg", results.TableFull, 40, 20), nil,
		},
		{
			"overlapping trials are noise", simple("kvm", results.TableFull, 9, 100, 400, 110),
			simple("kvm", results.TableFull, 9, 390, 800, 810), nil,
		},
		{
			"apart, but by less than they scatter",
			simple("kvm", results.TableFull, 9, 100, 400, 300),
			simple("kvm", results.TableFull, 9, 410, 800, 700), nil,
		},
		{
			"below the floor", simple("kvm", results.NotConntrack, 0, 1, 1, 1),
			simple("kvm", results.NotConntrack, 0, 5, 5, 5), nil,
		},
		{
			"better", simple("kvm", results.TableFull, 9, 100), simple("kvm", results.Clean, 0, 0),
			nil,
		},
		{
			"the bystander's scatter", probed(simple("tcg", results.TableFull, 9, 800), 72),
			probed(simple("tcg", results.TableFull, 9, 800), 199), nil,
		},
		{
			"a probe lost by chance", probed(simple("tcg", results.Clean, 0, 0), 0),
			probed(simple("tcg", results.Clean, 0, 0), 4), nil,
		},
		{
			"a bystander that suffers now",
			probed(simple("tcg", results.Clean, 0, 0, 0, 0), 0, 0, 0),
			probed(simple("tcg", results.Clean, 0, 0, 0, 0), 30, 30, 40),
			[]string{"baseline: probe.lost was 0 and is 30 (+30, +30 to +40)"},
		},
		{
			"one worse trial of three", simple("tcg", results.Clean, 0, 0, 0, 0),
			verdicts(simple("tcg", results.Clean, 0, 0, 0, 0), results.Clean, results.Evicting,
				results.Clean),
			nil,
		},
		{
			"two worse trials of three", simple("tcg", results.Clean, 0, 0, 0, 0),
			verdicts(simple("tcg", results.Clean, 0, 0, 0, 0), results.Evicting, results.Clean,
				results.Evicting), nil,
		},
		{
			"three worse trials of four", simple("tcg", results.Clean, 0, 0, 0, 0, 0),
			verdicts(simple("tcg", results.Clean, 0, 0, 0, 0, 0), results.Evicting, results.Clean,
				results.Evicting, results.Evicting),
			[]string{"baseline: verdict was clean and is evicting"},
		},
		{
			"no worse than the worst before",
			verdicts(simple("tcg", results.Clean, 0, 0, 0, 0), results.Clean, results.Clean,
				results.Evicting),
			verdicts(simple("tcg", results.Clean, 0, 0, 0, 0), results.Evicting, results.Evicting,
				results.Evicting),
			nil,
		},
		{
			"an invalid trial is none", simple("tcg", results.Clean, 0, 0, 0, 0),
			verdicts(simple("tcg", results.Clean, 0, 0, 900, 0), results.Clean, results.Invalid,
				results.Clean),
			nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			regressions, err := findRegressions(test.base, test.run, 0.10)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range regressions.Found {
				got = append(got, r.Scenario+": "+r.Change())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRegressionsThatCannotBeTold(t *testing.T) {
	clean := simple("kvm", results.Clean, 0, 0)
	if _, err := findRegressions(simple("kvm", results.Invalid, 0, 0), clean, 0.1); err == nil {
		t.Error("compared with a baseline without a valid trial")
	}
	_, err := findRegressions(clean, simple("tcg", results.Clean, 0, 0), 0.1)
	if _, unlike := errors.AsType[*UnlikeError](err); !unlike {
		t.Errorf("unlike runs: %v", err)
	}
	many := simple("tcg", results.Clean, 0, 0, 0, 0)
	other := simple("kvm", results.Clean, 0, 0)
	other.Scenarios = append(other.Scenarios, results.Scenario{Name: "new"})
	for _, test := range []struct {
		name      string
		base, run *results.Run
		compared  []string
		says      []string
		not       string
	}{
		{
			"no valid trial", clean, simple("kvm", results.Invalid, 0, 0), nil,
			[]string{"baseline was not compared with the baseline: it has no valid trial"},
			"emulation",
		},
		{
			"one trial", clean, clean, []string{"baseline"},
			[]string{
				"fewer than 3 valid trials", "takes 4 valid trials",
				"baseline: only a significant difference counts as worse",
			}, "emulation",
		},
		{"emulated", many, many, []string{"baseline"}, []string{"emulation"}, "fewer than"},
		{
			"a new scenario", clean, other, []string{"baseline"},
			[]string{"scenario new of this run is not in the baseline"}, "emulation",
		},
	} {
		r, err := findRegressions(test.base, test.run, 0.1)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.compared, r.Scenarios); diff != "" || len(r.Found) > 0 {
			t.Errorf("%s: %v\n%s", test.name, r.Found, diff)
		}
		text := strings.Join(r.Notes, "\n")
		for _, words := range test.says {
			if !strings.Contains(text, words) {
				t.Errorf("%s: %q is not in:\n%s", test.name, words, text)
			}
		}
		if strings.Contains(text, test.not) {
			t.Errorf("%s: %q is in:\n%s", test.name, test.not, text)
		}
	}
}

// TestRegressionOfTimes: times and rates are judged where they mean something and differ by more
// than they scatter.
func TestRegressionOfTimes(t *testing.T) {
	source := rand.New(rand.NewPCG(5, 5))
	for _, accelerator := range []string{"kvm", "tcg"} {
		for _, trials := range []int{3, 5, 10} {
			base, run := random(source, trials, 1), random(source, trials, 3)
			base.Environment.Accelerator, run.Environment.Accelerator = accelerator, accelerator
			r, err := findRegressions(base, run, 0.10)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			if accelerator == "kvm" && trials > 3 {
				want = 10
			}
			if len(r.Found) != want {
				t.Errorf("%s, %d trials: %d, want %d: %v", accelerator, trials, len(r.Found), want,
					r.Found)
			}
		}
	}
	// A table that never recovers is worse than any time.
	moments := func(v ...*float64) *results.Run {
		run := probed(simple("kvm", results.TableFull, 9, 100, 100, 100, 100), 9, 9, 9, 9)
		for i := range run.Scenarios[0].Trials {
			run.Scenarios[0].Trials[i].Conntrack.SecondsToRecover = v[i]
		}
		return run
	}
	for _, test := range []struct {
		name      string
		base, run *results.Run
		want      []results.Regression
	}{
		{
			"never now", moments(s(1), s(2), s(1.5), s(1.5)), moments(nil, nil, nil, nil),
			[]results.Regression{{
				Scenario: "baseline", Metric: "conntrack.seconds_to_recover",
				Before: "1.50 s", After: "never",
			}},
		},
		{"once never", moments(s(1), s(2), s(1.5), s(1.5)), moments(s(1), nil, s(1), s(1)), nil},
		{"never as before", moments(nil, nil, nil, nil), moments(nil, nil, nil, nil), nil},
		{
			"at once, but for the sampling", moments(s(0), s(0), s(0), s(0)),
			moments(s(0.1), s(0.1), s(0.1), s(0.1)), nil,
		},
	} {
		r, err := findRegressions(test.base, test.run, 0.10)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, r.Found); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// overloaded returns a run of an experiment like the shipped one: two scenarios that carry the
// load, and two whose figures scatter as widely as measured ones. more adds failures.
func overloaded(r *rand.Rand, trials int, accelerator string, more int64) *results.Run {
	run := &results.Run{
		Environment: results.Environment{Driver: "libvirt", Accelerator: accelerator},
	}
	for _, scatter := range []float64{0, 0, 0.4, 1.6} {
		sc := results.Scenario{Name: string(rune('a' + len(run.Scenarios)))}
		for n := range trials {
			vary := func(median float64) int64 {
				return int64(median * math.Exp(scatter*r.NormFloat64()))
			}
			lat := func(p50 float64) results.Latency {
				p50 *= math.Exp(0.1 * r.NormFloat64())
				return results.Latency{
					Count: 1, P50: p50, P99: p50 * 5 * math.Exp(0.4*r.NormFloat64()),
				}
			}
			tr := results.Trial{
				Number: n + 1, Verdict: results.Clean,
				Probe: &results.Probe{Sent: 240, Latency: lat(2)},
			}
			if scatter > 0 {
				tr.Verdict = results.TableFull
				tr.Probe.Lost = min(240, vary(80))
				c := &tr.Conntrack
				c.Drop, c.EarlyDrop, c.InsertFailed = vary(4000), vary(1000), vary(80)
				c.SecondsToFull = s(3 * math.Exp(0.2*r.NormFloat64()))
				c.SecondsToRecover = s(float64(vary(500)) / 100)
			}
			failed := int64(0)
			if scatter > 0 {
				failed = min(5000, vary(400-200*scatter)+more)
			}
			tr.Load = &results.Load{Generator: "http", Attempts: results.Attempts{
				Unit: "requests", Offered: 5000, Completed: new(5000 - failed), Failed: failed,
				Rate: 300 * math.Exp(0.1*r.NormFloat64()), Connect: lat(30), Latency: lat(60),
			}}
			sc.Trials = append(sc.Trials, tr)
		}
		run.Scenarios = append(run.Scenarios, sc)
	}
	return run
}

// TestRegressionsOfNothing: the same experiment run twice passes in 19 of 20 repetitions, however
// many trials there are; from three trials on the test finds a real regression.
func TestRegressionsOfNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 4))
	repetitions := 10
	if hosttest.Long() {
		repetitions = 500
	}
	for _, accelerator := range []string{"tcg", "kvm"} {
		for _, trials := range []int{1, 2, 3, 4, 5, 10} {
			wrong := map[string]int{}
			alarms := 0
			for range repetitions {
				same, err := findRegressions(overloaded(r, trials, accelerator, 0),
					overloaded(r, trials, accelerator, 0), 0.10)
				if err != nil {
					t.Fatal(err)
				}
				if len(same.Found) > 0 {
					alarms++
				}
				for _, f := range same.Found {
					wrong[f.Metric]++
				}
			}
			t.Logf("%s, %d trials: %d false alarms in %d repetitions %v", accelerator, trials,
				alarms, repetitions, wrong)
			// One in 20, and three standard deviations more.
			n := float64(repetitions)
			if float64(alarms) > Alpha*n+3*math.Sqrt(Alpha*(1-Alpha)*n) {
				t.Errorf("%s, %d trials: %d false alarms in %d repetitions: %v", accelerator,
					trials, alarms, repetitions, wrong)
			}
			worse, err := findRegressions(overloaded(r, trials, accelerator, 0),
				overloaded(r, trials, accelerator, 2500), 0.10)
			if err != nil {
				t.Fatal(err)
			}
			found := slices.ContainsFunc(worse.Found, func(r results.Regression) bool {
				return r.Scenario == "c" && r.Metric == "load.failed"
			})
			if found != (trials >= enough) {
				t.Errorf("%s, %d trials: half of the requests fail now, and it found %v",
					accelerator, trials, worse.Found)
			}
		}
	}
}
