package lifetimes

import (
	"math"
	"slices"
	"testing"
	"time"
)

// four are distributions with a mean of 3 s.
var four = []Distribution{
	Of(3 * time.Second),
	{Shape: Exponential, Mean: 3 * time.Second},
	{Shape: LogNormal, Mean: 3 * time.Second, Sigma: 1.2},
	{Shape: Quantiles, Quantiles: []time.Duration{
		0, time.Second, 4 * time.Second, 8 * time.Second,
	}},
}

// TestDraw checks the drawn lives against the distribution: their mean, and Kolmogorov's distance
// from it.
func TestDraw(t *testing.T) {
	const n = 200_000
	for _, d := range four {
		t.Run(string(d.Shape), func(t *testing.T) {
			if err := d.Validate(); err != nil {
				t.Fatal(err)
			}
			if got := d.Average(); got != 3*time.Second {
				t.Errorf("the mean is %s, want 3s", got)
			}
			lives, sum := make([]time.Duration, n), 0.0
			for i := range lives {
				lives[i] = d.Draw(7, int64(i))
				sum += lives[i].Seconds()
				if again := d.Draw(7, int64(i)); again != lives[i] {
					t.Fatalf("life %d is %s and %s", i, lives[i], again)
				}
			}
			if mean := sum / n; math.Abs(mean-3) > .03 {
				t.Errorf("the mean of %d lives is %.3f s, want 3", n, mean)
			}
			if d.Shape == Fixed {
				return
			}
			slices.Sort(lives)
			for i := 1; i < 100; i++ {
				want := d.Quantile(float64(i) / 100)
				at, _ := slices.BinarySearch(lives, want)
				// Beyond 1.63/sqrt(n) in one sample of a hundred.
				if off := math.Abs(float64(at)/n - float64(i)/100); off > 1.63/math.Sqrt(n) {
					t.Errorf("%.3f of the lives are below quantile %d, %s", float64(at)/n, i, want)
				}
			}
			other := 0
			for i := range n {
				if d.Draw(8, int64(i)) == d.Draw(7, int64(i)) {
					other++
				}
			}
			if other > n/100 {
				t.Errorf("%d of %d lives are those of another seed", other, n)
			}
		})
	}
}

// TestOccupancy checks that arrivals at an even rate hold rate x mean lives, whatever their
// distribution (Little's law).
func TestOccupancy(t *testing.T) {
	const rate, seconds, from = 5000, 100, 60
	for _, d := range four {
		living := 0.0 // in connection-seconds, after most of the longest lives have passed once
		for i := range int64(rate * seconds) {
			begin := float64(i) / rate
			end := min(begin+d.Draw(3, i).Seconds(), seconds)
			living += max(0, end-max(begin, from))
		}
		got, want := living/(seconds-from), rate*d.Average().Seconds()
		if math.Abs(got/want-1) > .02 {
			t.Errorf("%s: %.0f live on average, want %.0f", d.Shape, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, d := range []Distribution{
		{Shape: Fixed},
		{Shape: Exponential, Mean: -time.Second},
		{Shape: Exponential, Mean: longest + 1},
		{Shape: LogNormal, Mean: time.Second},
		{Shape: LogNormal, Mean: time.Second, Sigma: math.NaN()},
		{Shape: LogNormal, Mean: time.Second, Sigma: mostSigma + 1},
		{Shape: Quantiles},
		{Shape: Quantiles, Quantiles: []time.Duration{1}},
		{Shape: Quantiles, Quantiles: []time.Duration{0, 0}},
		{Shape: Quantiles, Quantiles: []time.Duration{2, 1}},
		{Shape: "gamma", Mean: time.Second},
	} {
		if d.Validate() == nil {
			t.Errorf("%+v was accepted", d)
		}
	}
	if !Of(0).None() || Of(0).Validate() != nil || Of(0).Draw(1, 1) != 0 {
		t.Error("the life of what does not stay is not 0")
	}
	for _, d := range four {
		if least, most := d.Quantile(0), d.Quantile(1); least > most || most > longest {
			t.Errorf("%s: lives from %s to %s", d.Shape, least, most)
		}
	}
	heavy := Distribution{Shape: LogNormal, Mean: longest, Sigma: mostSigma}
	if got := heavy.Quantile(1 - 1e-9); got != longest {
		t.Errorf("the longest life is %s, want %s", got, longest)
	}
}
