package compare

import (
	"encoding/csv"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// measuredTrials reads the trials of testdata/measured.csv, by scenario in the order of the file.
func measuredTrials(t *testing.T) (names []string, trials map[string][]results.Trial) {
	f, err := os.Open("testdata/measured.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comment = '#'
	lines, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	trials = map[string][]results.Trial{}
	for _, cells := range lines[1:] {
		at := 1
		next := func() string { at++; return cells[at] }
		number := func() float64 {
			v, err := strconv.ParseFloat(next(), 64)
			if err != nil {
				t.Fatalf("%q, column %s: %v", cells, lines[0][at], err)
			}
			return v
		}
		count := func() int64 { return int64(number()) }
		moment := func() *float64 {
			if next() == "" {
				return nil
			}
			at--
			v := number()
			return &v
		}
		latency := func() results.Latency {
			return results.Latency{Count: 1, P50: number(), P99: number()}
		}
		trial := results.Trial{Verdict: results.Verdict(cells[1]), Probe: &results.Probe{}}
		trial.Load = &results.Load{Generator: "http", Attempts: results.Attempts{
			Unit: "requests", Offered: count(), Completed: new(int64), Failed: count(),
			Rate: number(), Connect: latency(), Latency: latency(),
		}}
		trial.Conntrack.Peak = count()
		trial.Conntrack.Counters = results.Counters{
			Drop: count(), EarlyDrop: count(), InsertFailed: count(),
		}
		trial.Conntrack.SecondsToFull = moment()
		trial.Conntrack.SecondsToRecover = moment()
		trial.Probe.Sent, trial.Probe.Lost = count(), count()
		trial.Probe.Latency = results.Latency{Count: 1, P99: number()}
		if len(trials[cells[0]]) == 0 {
			names = append(names, cells[0])
		}
		trials[cells[0]] = append(trials[cells[0]], trial)
	}
	return names, trials
}

// blurred returns a trial like a measured one, whose figures are a little different from it, so
// that two draws of one trial do not tie.
func blurred(r *rand.Rand, trial results.Trial) results.Trial {
	blur := func(v float64) float64 { return v * math.Exp(0.05*r.NormFloat64()) }
	count := func(v *int64) { *v = int64(math.Round(blur(float64(*v)))) }
	moment := func(v *float64) *float64 {
		if v == nil {
			return nil
		}
		return s(blur(*v))
	}
	l, c, probe := *trial.Load, &trial.Conntrack, *trial.Probe
	for _, v := range []*int64{&l.Failed, &c.Drop, &c.EarlyDrop, &c.InsertFailed, &probe.Lost} {
		count(v)
	}
	for _, v := range []*float64{
		&l.Rate, &l.Connect.P50, &l.Connect.P99, &l.Latency.P50, &l.Latency.P99, &probe.Latency.P99,
	} {
		*v = blur(*v)
	}
	l.Completed = new(l.Offered - l.Failed)
	c.SecondsToFull, c.SecondsToRecover = moment(c.SecondsToFull), moment(c.SecondsToRecover)
	trial.Load, trial.Probe = &l, &probe
	return trial
}

// TestFalseAlarms compares runs of the same thing, drawn from measured trials, for numbers of
// trials from 1 to 10 on either side: at most one comparison in 20 finds a difference, and at most
// one in 20 a regression. Beside the measured scenarios stand two that fail in 40 % of their
// trials, as one does whose table the load just fills: sometimes loses some requests then, heavily
// half of them.
func TestFalseAlarms(t *testing.T) {
	names, measured := measuredTrials(t)
	draw := func(r *rand.Rand, trials int) *results.Run {
		run := &results.Run{Environment: results.Environment{Accelerator: "kvm"}}
		for _, name := range append(names, "sometimes", "heavily") {
			sc := results.Scenario{Name: name}
			for range trials {
				from, loses := name, false
				if !slices.Contains(names, name) {
					if from = "raised-max"; r.Float64() < 0.4 {
						from, loses = "shortened-timeouts", name == "heavily"
					}
				}
				trial := measured[from][r.IntN(len(measured[from]))]
				if loses {
					trial.Load.Failed = trial.Load.Offered / 2
				}
				sc.Trials = append(sc.Trials, blurred(r, trial))
			}
			run.Scenarios = append(run.Scenarios, sc)
		}
		return run
	}
	sizes, repetitions := []int{1, 3, 10}, 20
	if hosttest.Long() {
		sizes, repetitions = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 500
	}
	type alarms struct{ differ, worse int }
	// expect allows the chance by which so few repetitions show more than there is.
	expect := func(what string, a alarms, repetitions, chance float64) {
		most := Alpha*repetitions + chance*math.Sqrt(Alpha*(1-Alpha)*repetitions)
		if float64(max(a.differ, a.worse)) > most {
			t.Errorf("%s: of %.0f comparisons of the same thing %d find a difference, %d a "+
				"regression", what, repetitions, a.differ, a.worse)
		}
	}
	var all alarms
	// By the number of trials of one side, whatever that of the other.
	base, run := map[int]*alarms{}, map[int]*alarms{}
	for _, n := range sizes {
		base[n], run[n] = new(alarms), new(alarms)
	}
	for _, n := range sizes {
		for _, m := range sizes {
			r := rand.New(rand.NewPCG(uint64(n), uint64(m)))
			var found alarms
			for range repetitions {
				before, after := draw(r, n), draw(r, m)
				c, err := Runs([]string{"before", "after"}, []*results.Run{before, after})
				if err != nil {
					t.Fatal(err)
				}
				regressions, err := findRegressions(before, after, 0.1)
				if err != nil {
					t.Fatal(err)
				}
				if len(significant(c)) > 0 {
					found.differ++
				}
				if len(regressions.Found) > 0 {
					found.worse++
				}
			}
			t.Logf("%2d against %2d: %d differ, %d became worse", n, m, found.differ, found.worse)
			for _, sum := range []*alarms{&all, base[n], run[m]} {
				sum.differ += found.differ
				sum.worse += found.worse
			}
			expect(fmt.Sprintf("%d trials against %d", n, m), found, float64(repetitions), 3)
		}
	}
	for _, n := range sizes {
		repeated := float64(len(sizes) * repetitions)
		expect(fmt.Sprintf("%d trials against any number", n), *base[n], repeated, 0)
		expect(fmt.Sprintf("any number of trials against %d", n), *run[n], repeated, 0)
	}
	t.Logf("all: %+v of %d", all, len(sizes)*len(sizes)*repetitions)
}

// TestRegressions_Found: what became worse is found again, from the number of trials on that the
// documentation names.
func TestRegressions_Found(t *testing.T) {
	_, measured := measuredTrials(t)
	draw := func(r *rand.Rand, trials int, from string) *results.Run {
		run := &results.Run{Environment: results.Environment{Accelerator: "tcg"}}
		sc := results.Scenario{Name: "web"}
		for range trials {
			sc.Trials = append(sc.Trials, blurred(r, measured[from][r.IntN(len(measured[from]))]))
		}
		run.Scenarios = []results.Scenario{sc}
		return run
	}
	r := rand.New(rand.NewPCG(8, 1))
	for _, sizes := range [][2]int{{3, 3}, {2, 3}, {3, 10}, {10, 3}, {1, 8}, {5, 5}} {
		for range 20 {
			before := draw(r, sizes[0], "raised-max")
			after := draw(r, sizes[1], "shortened-timeouts")
			found, err := findRegressions(before, after, 0.1)
			if err != nil {
				t.Fatal(err)
			}
			failed := func(r results.Regression) bool { return r.Metric == "load.failed" }
			if !slices.ContainsFunc(found.Found, failed) || found.Found[0].Metric != "verdict" {
				t.Errorf("%v trials: no request failed before, all trials were full after, and "+
					"it found %v", sizes, found.Found)
			}
		}
	}
}
