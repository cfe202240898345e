package results

import (
	"math"
	"testing"
)

// TestPredictMeasured: the count of a table under even unreplied UDP flows, read from
// nf_conntrack_count of a network namespace of a 6.18 kernel (HZ 250, 262144 buckets), whose first
// scan came after the times shown.
func TestPredictMeasured(t *testing.T) {
	for _, test := range []struct {
		rate, timeout, seconds float64
		count                  int64
	}{
		{1000, 3, 2, 2000},
		{1000, 3, 8, 7944},
		{1000, 3, 14, 13589},
		{1000, 3, 18, 17188},
		{3000, 5, 6, 17961},
		{3000, 5, 10, 29185},
		{3000, 5, 12, 34425},
		{500, 2, 8, 3936},
		{4000, 2, 6, 23052},
		{4000, 2, 8, 29926},
	} {
		p := Predict(Expectation{
			Rate: test.rate, Residence: test.timeout, Duration: test.seconds, Max: 262144,
			Buckets: 262144,
		})
		if off := float64(p.Peak)/float64(test.count) - 1; math.Abs(off) > 0.02 {
			t.Errorf("%v/s for %v s with a timeout of %v s: predicted %d, measured %d (%+.1f %%)",
				test.rate, test.seconds, test.timeout, p.Peak, test.count, off*100)
		}
		if p.SecondsToFull != nil || p.Overflow != 0 {
			t.Errorf("not full, but %+v", p)
		}
	}
}

// TestPredictScans: under a long load the collector scans every few seconds. Measured in the same
// way: scans of the table at 4000/s and 2 s came 6 to 8 s apart, and the count rose to 29,000 to
// 30,000 before each.
func TestPredictScans(t *testing.T) {
	soon := 1.0
	p := Predict(Expectation{
		Rate: 4000, Residence: 2, Duration: 60, Max: 262144, Buckets: 262144, NextScan: &soon,
	})
	if p.Peak < 26000 || p.Peak > 34000 {
		t.Errorf("peak %d", p.Peak)
	}
	if p.Alive != 8000 {
		t.Errorf("alive %d", p.Alive)
	}
}

func TestPredictFull(t *testing.T) {
	for _, test := range []struct {
		name     string
		e        Expectation
		peak     int64
		full     float64 // 0: never
		overflow int64
	}{
		{"http at once", Expectation{Entries: 5000, Max: 4096}, 4096, 0, 904},
		{"http at once, enough room", Expectation{Entries: 5000, Max: 262144}, 5000, 0, 0},
		{"no limit", Expectation{Entries: 5000}, 5000, 0, 0},
		{
			"time_wait churn",
			Expectation{Rate: 100, Entries: 5000, Residence: 120, Max: 4096, Buckets: 4096}, 4096,
			40.96, 904,
		},
		{
			"baseline takes room",
			Expectation{
				Rate: 100, Duration: 10, Residence: 120, Baseline: 500, Max: 1000, Buckets: 1024,
			},
			1000, 5, 500,
		},
		{
			"far beyond sustainable, for a day",
			Expectation{Rate: 100, Duration: 86400, Residence: 30, Max: 300, Buckets: 65536}, 300,
			3, 86400 * 90,
		},
		{
			"held for ever",
			Expectation{Rate: 10, Duration: 100, Residence: 432000, Max: 600, Buckets: 4096}, 600,
			60, 400,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := Predict(test.e)
			if p.Peak != test.peak {
				t.Errorf("peak %d, want %d", p.Peak, test.peak)
			}
			if (p.SecondsToFull != nil) != (test.full > 0) ||
				p.SecondsToFull != nil && math.Abs(*p.SecondsToFull-test.full) > 0.02*test.full {
				t.Errorf("full after %v, want %v", p.SecondsToFull, test.full)
			}
			if off := p.Overflow - test.overflow; off > 10+test.overflow/20 || off < -10 {
				t.Errorf("overflow %d, want %d", p.Overflow, test.overflow)
			}
		})
	}
}

// TestRefusedShareMeasured: refused and evicted flows of unreplied UDP loads of five times max,
// measured in guests of 6.1 and 6.12.
func TestRefusedShareMeasured(t *testing.T) {
	for _, test := range []struct {
		max, buckets, overflow, drop int64
		within                       float64
	}{
		{2000, 65536, 8000, 4900, 100},
		{2000, 2048, 8000, 0, 1},
		{2000, 512, 8000, 0, 1},
		{20000, 65536, 80000, 370, 150},
		{20000, 20480, 80000, 0, 1},
	} {
		got := RefusedShare(test.max, test.buckets) * float64(test.overflow)
		if math.Abs(got-float64(test.drop)) > test.within {
			t.Errorf("max %d, buckets %d: predicted %.0f drops, measured %d", test.max,
				test.buckets, got, test.drop)
		}
	}
}

// TestPredictDrops compares the predicted drops with those measured of unreplied flows, and with
// the whole overflow where no entry can be evicted.
func TestPredictDrops(t *testing.T) {
	flood := Expectation{Rate: 2000, Entries: 10000, Residence: 30, Max: 2000, Buckets: 65536}
	if p := Predict(flood); p.Drop < 4800 || p.Drop > 5000 {
		t.Errorf("%d drops predicted, measured were 4900", p.Drop)
	}
	flood.Assured = true
	if p := Predict(flood); p.Drop != p.Overflow || p.Drop < 7990 {
		t.Errorf("%d drops predicted of %d that overflow, want all", p.Drop, p.Overflow)
	}
}

func TestSustainable(t *testing.T) {
	for _, test := range []struct {
		max       int64
		residence float64
		want      int
	}{{262144, 120, 2184}, {65536, 120, 546}, {4096, 120, 34}, {262144, 30, 8738}} {
		if got := Predict(Expectation{
			Rate: 1, Duration: 1, Max: test.max, Residence: test.residence,
		}).Sustainable; int(got) != test.want {
			t.Errorf("max %d for %v s: %v/s, want %d", test.max, test.residence, got, test.want)
		}
	}
}
