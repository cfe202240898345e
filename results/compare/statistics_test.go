package compare

import (
	"cmp"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

func TestMannWhitneyPublished(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b []float64
		want float64
	}{
		{
			// Hollander & Wolfe 1973, p. 69: permeability of the human chorioamnion; the exact
			// one-sided p of R's wilcox.test is 0.1272.
			"chorioamnion",
			[]float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46},
			[]float64{1.15, 0.88, 0.90, 0.74, 1.21},
			0.2544,
		},
		{
			// Age at the diagnosis of diabetes, the example of SciPy's mannwhitneyu: exact p = 1/9.
			"diabetes", []float64{19, 22, 16, 29, 24}, []float64{20, 11, 17, 12}, 0.1111,
		},
		{"as far apart as three and three can be", []float64{1, 2, 3}, []float64{4, 5, 6}, 0.1},
		{"equal", []float64{7, 7, 7}, []float64{7, 7, 7}, 1},
		{
			"with times that never came", []float64{1, 2, 3, 4},
			[]float64{math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1)}, 2.0 / 70,
		},
		{"nothing", nil, []float64{1}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := mannWhitney(test.a, test.b); math.Abs(got.P-test.want) > 5e-5 {
				t.Errorf("p = %.5f, want %.5f", got.P, test.want)
			}
			x, y := mannWhitney(test.a, test.b), mannWhitney(test.b, test.a)
			if math.Abs(x.P-y.P) > 1e-12 || x.Least != y.Least {
				t.Errorf("not symmetric: %v, %v", x, y)
			}
		})
	}
	got := mannWhitney([]float64{1, 2, 3}, []float64{4, 5, 6})
	if math.Abs(got.P-got.Least) > 1e-9 {
		t.Errorf("the lowest p of three and three is %v, got %v", got.Least, got.P)
	}
}

// TestMannWhitney_UnequalTies: samples of unequal sizes with ties, whose p-values were counted by
// hand or by enumeration.
func TestMannWhitney_UnequalTies(t *testing.T) {
	for _, test := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3}, []float64{0, 0, 0, 0}, 2.0 / 35},
		{[]float64{1, 2, 3}, []float64{0, 0, 0, 0, 0}, 2.0 / 56},
		{[]float64{2}, []float64{0, 0, 1}, 0.5},
		{[]float64{2, 4, 5, 7, 9}, []float64{2}, 0.6667},
		{[]float64{0, 0, 1, 2, 2, 2, 2, 3, 3}, []float64{0, 0}, 0.2182},
		{[]float64{5, 6, 8, 9, 10, 11}, []float64{3, 4, 4, 7, 7}, 0.0563},
		{[]float64{400, 400, 500}, []float64{700}, 0.5},
	} {
		x, y := mannWhitney(test.a, test.b), mannWhitney(test.b, test.a)
		if math.Abs(x.P-test.want) > 5e-5 || x != y {
			t.Errorf("%v against %v: %+v, and %+v the other way; want p = %.5f",
				test.a, test.b, x, y, test.want)
		}
	}
}

// TestMannWhitney_Enumerated holds the p-value to the count over all divisions of the pooled
// values, for all sizes to 6 against 6 and for values with few, some and no ties.
func TestMannWhitney_Enumerated(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	for n := 1; n <= 6; n++ {
		for m := 1; m <= 6; m++ {
			for _, values := range []int{2, 3, 4, 6, 1000} {
				for range 10 {
					pool := make([]float64, n+m)
					for i := range pool {
						pool[i] = float64(r.IntN(values))
					}
					a, b := pool[:n], pool[n:]
					got := mannWhitney(a, b)
					p, least := enumerated(a, b)
					if math.Abs(got.P-p) > 1e-12 || math.Abs(got.Least-least) > 1e-12 {
						t.Errorf("%v against %v: %+v, enumerated p = %v, least %v",
							a, b, got, p, least)
					}
					if swapped := mannWhitney(b, a); swapped != got {
						t.Errorf("%v against %v: %+v, and %+v the other way", a, b, got, swapped)
					}
					lowest := min(1, 2/choose(n+m, n))
					if got.P < got.Least || got.Least < lowest {
						t.Errorf("%v against %v: %+v, below the least possible %v",
							a, b, got, lowest)
					}
				}
			}
		}
	}
}

// enumerated returns the p-value of two samples by the number of pairs that a wins, a tie being
// half a win, in each division of the pooled values; and the lowest such p-value of any division.
func enumerated(a, b []float64) (p, least float64) {
	pool := slices.Concat(a, b)
	wins := func(inA uint) (u float64) {
		for i, x := range pool {
			for j, y := range pool {
				if inA>>i&1 == 1 && inA>>j&1 == 0 {
					u += float64(cmp.Compare(x, y)+1) / 2
				}
			}
		}
		return u
	}
	var all []float64
	for inA := uint(0); inA < 1<<len(pool); inA++ {
		if bits.OnesCount(inA) == len(a) {
			all = append(all, wins(inA))
		}
	}
	tails := func(u float64) float64 {
		below, above := 0, 0
		for _, v := range all {
			if v <= u {
				below++
			}
			if v >= u {
				above++
			}
		}
		return min(1, 2*float64(min(below, above))/float64(len(all)))
	}
	return tails(wins(1<<len(a) - 1)), min(tails(slices.Min(all)), tails(slices.Max(all)))
}

// TestHolmPublished: the example of Holm's procedure that textbooks share: at 0.05 the first and
// the last of these are rejected.
func TestHolmPublished(t *testing.T) {
	got := holm([]float64{0.01, 0.04, 0.03, 0.005})
	if diff := gocmp.Diff([]float64{0.03, 0.06, 0.06, 0.02}, got, nearly); diff != "" {
		t.Error(diff)
	}
	if got := holm(nil); len(got) != 0 {
		t.Error(got)
	}
	if diff := gocmp.Diff([]float64{1, 1}, holm([]float64{0.9, 0.8}), nearly); diff != "" {
		t.Error(diff)
	}
}

func TestMedianAndSpread(t *testing.T) {
	for _, test := range []struct {
		values         []float64
		median, spread float64
	}{
		{[]float64{5}, 5, 0},
		{[]float64{3, 1, 2}, 2, 0.5},
		{[]float64{4, 1, 2, 3}, 2.5, 0.6},
		{[]float64{0, 0, 0}, 0, 0},
		{[]float64{0, 0, 9}, 0, math.Inf(1)},
	} {
		if got := Median(test.values); got != test.median {
			t.Errorf("median of %v: %v", test.values, got)
		}
		if got := Spread(test.values); math.Abs(got-test.spread) > 1e-12 && got != test.spread {
			t.Errorf("spread of %v: %v", test.values, got)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("median of nothing")
	}
}

// random returns a run of two scenarios whose trials vary as measured ones do; slower multiplies
// its latencies.
func random(r *rand.Rand, trials int, slower float64) *results.Run {
	run := &results.Run{
		Experiment: "x", Environment: results.Environment{Driver: "libvirt", Accelerator: "kvm"},
	}
	for _, name := range []string{"a", "b"} {
		sc := results.Scenario{Name: name}
		for n := range trials {
			failed := int64(900 + r.IntN(40))
			lat := func() results.Latency {
				p50 := slower * math.Exp(r.NormFloat64()/10) * 3
				return results.Latency{Count: 1, P50: p50, P99: p50 * (10 + r.Float64())}
			}
			tr := results.Trial{
				Number: n + 1, Verdict: results.TableFull, Seconds: 30,
				Load: &results.Load{Generator: "http", Attempts: results.Attempts{
					Unit: "requests", Offered: 5000, Completed: new(5000 - failed), Failed: failed,
					Rate: 130 + r.NormFloat64(), Connect: lat(), Latency: lat(),
				}},
				Conntrack: results.Conntrack{
					Counters: results.Counters{Drop: 3600 + r.Int64N(300)}, Peak: 4096, Max: 4096,
					SecondsToFull: s(4 + r.Float64()),
				},
				Probe: &results.Probe{Sent: 300, Lost: 40 + r.Int64N(20), Latency: lat()},
			}
			sc.Trials = append(sc.Trials, tr)
		}
		run.Scenarios = append(run.Scenarios, sc)
	}
	return run
}

// TestSimulatedNull: two runs of the same experiment differ in no cell in at least 19 of 20
// repetitions, however many cells there are; the test finds a real difference.
func TestSimulatedNull(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 7))
	repetitions := 100
	if hosttest.Long() {
		repetitions = 2000
	}
	wrong := 0
	for range repetitions {
		c, err := Runs([]string{"a", "b"}, []*results.Run{random(r, 10, 1), random(r, 10, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if len(significant(c)) > 0 {
			wrong++
		}
	}
	t.Logf("%d of %d runs of the same thing differ somewhere", wrong, repetitions)
	n := float64(repetitions)
	if float64(wrong) > Alpha*n+3*math.Sqrt(Alpha*(1-Alpha)*n) {
		t.Errorf("%d of %d", wrong, repetitions)
	}
	c, err := Runs([]string{"a", "b"}, []*results.Run{random(r, 10, 1), random(r, 10, 1.5)})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a load.connect_ms.p50", "a load.connect_ms.p99", "a load.latency_ms.p50",
		"a load.latency_ms.p99", "a probe.latency_ms.p99",
		"b load.connect_ms.p50", "b load.connect_ms.p99", "b load.latency_ms.p50",
		"b load.latency_ms.p99", "b probe.latency_ms.p99",
	}
	if diff := gocmp.Diff(want, significant(c)); diff != "" {
		t.Error(diff)
	}
}

func significant(c *Comparison) []string {
	var list []string
	for _, g := range c.Groups {
		for _, row := range g.Rows {
			for _, cell := range row.Cells {
				if cell.Significant {
					list = append(list, g.Name+" "+row.Metric.Name)
				}
			}
		}
	}
	return list
}
