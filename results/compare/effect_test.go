package compare

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ctload/ctload/internal/hosttest"
)

// TestEffect_Published: the examples of Hollander and Wolfe, whose estimates and intervals of
// differences R's wilcox.test(conf.int = TRUE) gives too.
func TestEffect_Published(t *testing.T) {
	// Permeability of the human chorioamnion. A zero makes it a matter of differences.
	term := []float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46}
	early := []float64{1.15, 0.88, 0.90, 0.74, 1.21}
	shift := func(values []float64) (list []float64) {
		for _, v := range values {
			list = append(list, v-0.73)
		}
		return list
	}
	e := effectOf(shift(early), shift(term))
	if e.Ratio || math.Abs(e.Estimate-0.305) > 1e-9 || math.Abs(e.Low+0.15) > 1e-9 ||
		math.Abs(e.High-0.76) > 1e-9 || math.Abs(e.Confidence-0.9600) > 1e-4 {
		t.Errorf("got %+v", e)
	}
}

// TestEffect_HoldsInItsShare: of many comparisons, the intervals miss the true factor in no more
// than their share, ties included.
func TestEffect_HoldsInItsShare(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 2))
	const truth = 1.4
	repetitions := 200
	if hosttest.Long() {
		repetitions = 5000
	}
	for _, sizes := range [][2]int{{3, 3}, {3, 4}, {3, 10}, {5, 5}, {10, 7}, {10, 10}} {
		for _, step := range []float64{0, 0.25} { // values are rounded to it: ties
			draw := func(n int, by float64) []float64 {
				values := make([]float64, n)
				for i := range values {
					v := 0.5 * r.NormFloat64()
					if step > 0 {
						v = math.Round(v/step) * step
					}
					values[i] = by * math.Exp(v)
				}
				return values
			}
			missed, sure := 0, 0.0
			for range repetitions {
				e := effectOf(draw(sizes[0], 1), draw(sizes[1], truth))
				if !e.Ratio {
					t.Fatalf("no ratio: %+v", e)
				}
				if sure = e.Confidence; e.Low > truth*(1+1e-9) || e.High < truth*(1-1e-9) {
					missed++
				}
			}
			share := 1 - sure
			n := float64(repetitions)
			chance := 3 * math.Sqrt(share*(1-share)/n)
			if float64(missed) > n*(share+chance) {
				t.Errorf("%v trials, steps of %v: %d of %d intervals of %.1f %% miss",
					sizes, step, missed, repetitions, 100*sure)
			}
		}
	}
}

func TestEffect_Words(t *testing.T) {
	type values = []float64
	never := math.Inf(1)
	count, ms := metricsOf(nil)[1], metricsOf(nil)[3]
	for _, test := range []struct {
		name      string
		metric    Metric
		base, now values
		want      string // without the mark of insignificance
	}{
		{"a factor", ms, values{10, 10.5, 11, 11.5}, values{15, 15, 16, 16},
			"1.44 x, 1.30 to 1.60"},
		{
			"a small one", ms, values{100, 101, 102}, values{101, 102, 103},
			"1.010 x, 0.990 to 1.030",
		},
		{"a large one", count, values{2, 2, 3}, values{2000, 2100, 2400}, "1000 x, 667 to 1200"},
		{"no interval of two", ms, values{10, 11}, values{20, 22, 20, 22, 21, 23, 20, 22}, ""},
		{"none before", count, values{0, 0, 0}, values{80, 97, 110}, "+97, +80 to +110"},
		{
			"none now", count, values{12000, 12500, 13000}, values{0, 0, 0},
			"-12,500, -13,000 to -12,000",
		},
		{"a zero among others", count, values{0, 10, 20}, values{10, 20, 30}, "+10, -10 to +30"},
		{"equal", count, values{5, 5, 5}, values{5, 5, 5}, "="},
		{"a time that comes no longer", ms, values{1, 2, 3}, values{never, never, never}, ""},
	} {
		stat := func(values []float64) Stat {
			return Stat{len(values), Median(values), Spread(values)}
		}
		row := Row{Metric: test.metric, Cells: []Cell{
			{Stat: stat(test.base)},
			{
				Stat: stat(test.now), Test: mannWhitney(test.base, test.now),
				base: test.base, values: test.now,
			},
		}}
		want := "~"
		if test.want != "" {
			want = "~ " + test.want
		}
		if test.want == "=" {
			want = "="
		}
		if got := row.Delta(1); got != want {
			t.Errorf("%s: %q, want %q", test.name, got, want)
		}
	}
}
