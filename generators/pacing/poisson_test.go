package pacing

import (
	"math"
	"slices"
	"testing"
	"time"
)

// arrivals returns the times of a schedule until end.
func arrivals(s Schedule, end time.Duration) (times []time.Duration) {
	for k := int64(0); ; k++ {
		at, ok := s.At(k)
		if !ok || at >= end {
			return times
		}
		times = append(times, at)
	}
}

// chiSquareLimit returns what chi-square exceeds with a probability of 1 % (the approximation of
// Wilson and Hilferty).
func chiSquareLimit(degrees int) float64 {
	const z = 2.326 // of the normal distribution
	n := float64(degrees)
	return n * math.Pow(1-2/(9*n)+z*math.Sqrt(2/(9*n)), 3)
}

// TestPoisson_ChiSquare checks arrivals against what makes a Poisson process: exponential times
// between them, counts that vary as a Poisson distribution says, and the mean schedule's rate.
func TestPoisson_ChiSquare(t *testing.T) {
	const rate, end = 200.0, 100 * time.Second
	for seed := range uint64(5) {
		s, err := NewPoisson(Constant(rate), seed)
		if err != nil {
			t.Fatal(err)
		}
		times := arrivals(s, end)
		if !slices.IsSorted(times) {
			t.Fatal("times decrease")
		}
		// Times between arrivals in classes of equal probability.
		const classes = 50
		var between [classes]float64
		last := time.Duration(0)
		for _, at := range times {
			share := 1 - math.Exp(-rate*(at-last).Seconds())
			between[min(int(share*classes), classes-1)]++
			last = at
		}
		chi, want := 0.0, float64(len(times))/classes
		for _, n := range between {
			chi += (n - want) * (n - want) / want
		}
		if limit := chiSquareLimit(classes - 1); chi > limit {
			t.Errorf("seed %d: chi-square of the times between is %.1f, more than %.1f",
				seed, chi, limit)
		}
		// The dispersion of the counts in windows of 100 ms, each 20 on average: the sum of
		// (n-m)²/m has a chi-square distribution.
		windows := make([]float64, end/(100*time.Millisecond))
		for _, at := range times {
			windows[at/(100*time.Millisecond)]++
		}
		chi, want = 0, float64(len(times))/float64(len(windows))
		for _, n := range windows {
			chi += (n - want) * (n - want) / want
		}
		limit := chiSquareLimit(len(windows) - 1)
		if chi > limit || chi < .8*float64(len(windows)) {
			t.Errorf("seed %d: chi-square of %d counts is %.0f, more than %.0f or far less",
				seed, len(windows), chi, limit)
		}
	}
}

// TestPoisson_FollowsRate checks that arrivals follow a rate that changes.
func TestPoisson_FollowsRate(t *testing.T) {
	stages := Stages{{0, 1000, 20 * time.Second}, {1000, 1000, 20 * time.Second}}
	sine := Sine{Mean: 500, Amplitude: 400, Period: 40 * time.Second}
	for _, test := range []struct {
		mean       flowing
		end        time.Duration
		first, all float64 // due in the first 10 s, and until the end
	}{
		{stages, time.Minute, 2500, 30_000},
		{sine, 40 * time.Second, sine.count(10), 20_000},
	} {
		s, err := NewPoisson(test.mean, 11)
		if err != nil {
			t.Fatal(err)
		}
		times := arrivals(s, test.end)
		first, _ := slices.BinarySearch(times, 10*time.Second)
		for _, count := range []struct{ got, want float64 }{
			{float64(first), test.first}, {float64(len(times)), test.all},
		} {
			if math.Abs(count.got-count.want) > 3*math.Sqrt(count.want) {
				t.Errorf("%T: %.0f arrivals, want about %.0f", test.mean, count.got, count.want)
			}
		}
	}
	if _, err := NewPoisson(Bursts{Size: 5, Every: time.Second}, 1); err == nil {
		t.Error("random bursts were accepted")
	}
}

// TestPoisson_Seed checks that a seed decides the times, however far a pacer looks ahead.
func TestPoisson_Seed(t *testing.T) {
	one, _ := NewPoisson(Constant(100), 1)
	same, _ := NewPoisson(Constant(100), 1)
	other, _ := NewPoisson(Constant(100), 2)
	for k := range int64(1000) {
		same.At(k + backlog)
		a, _ := one.At(k)
		b, _ := same.At(k)
		c, _ := other.At(k)
		if a != b || a == c {
			t.Fatalf("send %d is due at %s, %s and with another seed %s", k, a, b, c)
		}
	}
}
