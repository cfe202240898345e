package search

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ctload/ctload/internal/hosttest"
)

// truth is a configuration whose limit is known, as trials see it.
type truth struct {
	name string
	Settings
	limit  float64
	by     Limit
	table  float64 // where the table is full; 0: trials do not tell
	sigma  float64 // scatter of a trial's own limit, as a share
	spread float64 // error of an estimate, as a share of the distance that it is made from
}

// measure returns what a trial at a value shows.
func (t truth) measure(draw *rand.Rand, value float64) Observation {
	o := Observation{Value: value}
	own := t.limit * math.Exp(t.sigma*draw.NormFloat64())
	o.Held = value <= own
	if t.Smallest {
		o.Held = value >= own
	}
	if !o.Held {
		o.Limit = t.by
		return o
	}
	if t.table > 0 {
		full := t.table / t.limit * own
		distance := math.Log(full / value)
		o.Estimate = full * math.Exp(t.spread*distance*draw.NormFloat64())
	}
	return o
}

// run makes a search over the truth.
func (t truth) run(seed uint64) (*Search, Result) {
	draw := rand.New(rand.NewPCG(seed, 1))
	s := New(t.Settings)
	for {
		value, _, more := s.Next()
		if !more {
			return s, s.Result()
		}
		s.Record(t.measure(draw, value))
	}
}

func settings(predicted float64) Settings {
	return Settings{
		Least: 1, Most: 1e6, Start: 100, Predicted: predicted, Resolution: .02, Confidence: .95,
		MaxTrials: 12, Retries: 2,
	}
}

// TestSearch_KnownTruths holds the interval, its width, the number of trials and the named limit to
// limits that the kernel's arithmetic gives, over many searches.
func TestSearch_KnownTruths(t *testing.T) {
	const maximum = 4096.0
	searches := 20
	if hosttest.Long() {
		searches = 200
	}
	smallest := settings(3100)
	smallest.Smallest, smallest.Step, smallest.Start = true, 1, 262144
	timeout := settings(21)
	timeout.Step, timeout.Start = 1, 120
	for _, tc := range []struct {
		truth
		mean  float64 // trials, on average, at most
		width float64
	}{
		{truth{name: "unanswered UDP, max / timeout", Settings: settings(maximum / 30 * 1.06),
			limit: maximum / 30, by: Table, table: maximum / 30, sigma: .003, spread: .05}, 8, .02},
		{truth{name: "the same, of scattered trials", Settings: settings(maximum / 30 * .9),
			limit: maximum / 30, by: Table, table: maximum / 30, sigma: .008, spread: .1},
			9.5, .026},
		{truth{name: "a prediction that is far off", Settings: settings(maximum / 3),
			limit: maximum / 30, by: Table, table: maximum / 30, sigma: .003, spread: .05},
			11, .02},
		{truth{name: "without a prediction", Settings: settings(0),
			limit: maximum / 5, by: Table, table: maximum / 5, sigma: .003, spread: .05}, 9, .02},
		{truth{name: "handshakes held, max / duration", Settings: settings(maximum / 10),
			limit: maximum / 10, by: Table, table: maximum / 10, sigma: .001}, 8, .02},
		{truth{name: "the smallest max", Settings: smallest,
			limit: 3000, by: Table, table: 3000, sigma: .004, spread: .05}, 8, .02},
		{truth{name: "the longest timeout", Settings: timeout,
			limit: 20.5, by: Table, table: 20.5, sigma: .004, spread: .05}, 8, .06},
		{truth{name: "chains of the hash", Settings: settings(1000),
			limit: 420, by: Hash, table: 1000, sigma: .01, spread: .05}, 12, .06},
		{truth{name: "source ports", Settings: settings(1000),
			limit: 640, by: Ports, table: 1000, sigma: .002, spread: .05}, 12, .05},
		{truth{name: "an accept queue, nothing tracked", Settings: settings(0),
			limit: 700, by: AcceptQueue, sigma: .005}, 12, .06},
	} {
		t.Run(tc.name, func(t *testing.T) {
			within, trials, width := 0, 0, 0.0
			for seed := range uint64(searches) {
				_, r := tc.run(seed)
				if r.Limit != tc.by || r.Low == nil || r.High == nil {
					t.Fatalf("seed %d: %+v, want the limit %s", seed, r, tc.by)
				}
				if *r.Low <= tc.limit && tc.limit <= *r.High {
					within++
				}
				if r.Trials > tc.MaxTrials {
					t.Fatalf("seed %d: %d trials", seed, r.Trials)
				}
				trials += r.Trials
				width += (*r.High - *r.Low) / r.Value
			}
			mean, wide := float64(trials)/float64(searches), width/float64(searches)
			t.Logf("%d of %d hold the truth; %.1f trials and %.2f %% wide on average",
				within, searches, mean, 100*wide)
			if within < searches*95/100 || mean > tc.mean || wide > tc.width {
				t.Errorf("%d of %d hold the truth, %.1f trials and %.2f %% wide on average; want "+
					"95 %%, %.1f and %.1f %%", within, searches, mean, 100*wide, tc.mean,
					100*tc.width)
			}
		})
	}
}

// TestSearch_InvalidTrials: an INVALID trial is made again and counts for nothing; where the
// generator is the limit, the result has no upper bound, and otherwise the search gives up.
func TestSearch_InvalidTrials(t *testing.T) {
	perfect := truth{Settings: settings(100), limit: 100, by: Table, table: 100}
	clean := New(perfect.Settings)
	s := New(perfect.Settings)
	draw := rand.New(rand.NewPCG(1, 1))
	for spoil := true; ; spoil = !spoil {
		value, why, more := s.Next()
		if !more {
			break
		}
		if spoil {
			s.Record(Observation{Value: value, Invalid: true})
			continue
		}
		want, _, _ := clean.Next()
		if value != want || why != Again {
			t.Fatalf("%s at %v after an INVALID trial, want %v again", why, value, want)
		}
		o := perfect.measure(draw, value)
		s.Record(o)
		clean.Record(o)
	}
	if r, want := s.Result(), clean.Result(); r.Value != want.Value || r.Trials != want.Trials ||
		r.Invalid == 0 || s.Stuck() {
		t.Errorf("%+v with INVALID trials, want %+v", r, want)
	}

	s = New(settings(0)) // begins at 100, and the generator makes 900 at most
	for {
		value, _, more := s.Next()
		if !more {
			break
		}
		o := Observation{Value: value, Held: true}
		if value > 900 {
			o = Observation{Value: value, Invalid: true, Limit: Generator}
		}
		s.Record(o)
	}
	if r := s.Result(); r.Limit != Generator || r.High != nil || r.Low == nil || *r.Low < 800 ||
		*r.Low > 900 || s.Stuck() {
		t.Errorf("a generator that ends at 900: %+v", r)
	}

	s = New(settings(100))
	for {
		value, _, more := s.Next()
		if !more {
			break
		}
		s.Record(Observation{Value: value, Invalid: true})
	}
	if r := s.Result(); !s.Stuck() || r.Trials != 0 || r.Invalid != 3 || r.Low != nil {
		t.Errorf("a host that spoils all: %+v", r)
	}
}

// TestSearch_Bounds: a limit beyond the bounds of a search has no bound on that side.
func TestSearch_Bounds(t *testing.T) {
	for _, smallest := range []bool{false, true} {
		for _, held := range []bool{false, true} {
			set := settings(0)
			set.Smallest = smallest
			s := New(set)
			for {
				value, _, more := s.Next()
				if !more {
					break
				}
				if value < set.Least || value > set.Most {
					t.Fatalf("a trial at %v", value)
				}
				s.Record(Observation{Value: value, Held: held, Limit: Other})
			}
			r := s.Result()
			open := r.High == nil
			if smallest == held {
				open = r.Low == nil
			}
			if !open || held != (r.Value > 0) || s.Stuck() {
				t.Errorf("smallest %v, all held %v: %+v", smallest, held, r)
			}
		}
	}
}

// TestSearch_OtherLoss: a loss before the table is full ends the use of estimates, and is named.
func TestSearch_OtherLoss(t *testing.T) {
	tc := truth{Settings: settings(1000), limit: 900, by: AcceptQueue, table: 1000}
	s, r := tc.run(1)
	if r.Limit != AcceptQueue || math.Abs(r.Value/900-1) > .03 {
		t.Errorf("%+v, want 900 by the accept queue", r)
	}
	if s.byTable() {
		t.Error("the table still counts as the limit")
	}
}
