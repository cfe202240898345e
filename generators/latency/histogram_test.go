package latency

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAndPrecision(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	h := New()
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(random.ExpFloat64() * float64(20*time.Millisecond))
		all = append(all, d)
		h.Record(d)
	}
	slices.Sort(all)
	for _, q := range []float64{.1, .5, .9, .99, .999, 1} {
		want := all[int(q*float64(len(all)))-1]
		if got := h.Quantile(q); math.Abs(float64(got-want)) > float64(want)/500+float64(lowest) {
			t.Errorf("quantile %v is %s, want %s", q, got, want)
		}
	}
}

// TestMergeThroughJSONLosesNothing checks that histograms that pass through JSON and are then
// merged equal one histogram of all values.
func TestMergeThroughJSONLosesNothing(t *testing.T) {
	for _, make := range []func() *Histogram{New, NewCoarse} {
		random := rand.New(rand.NewPCG(2, 2))
		whole, merged := make(), make()
		for range 5 {
			part := make()
			for range 1000 {
				d := time.Duration(random.Int64N(int64(2 * highest)))
				if random.IntN(2) == 0 {
					d = time.Duration(random.Int64N(int64(time.Millisecond)))
				}
				part.Record(d)
				whole.Record(d)
			}
			data, err := json.Marshal(part)
			if err != nil {
				t.Fatal(err)
			}
			var back Histogram
			if err := json.Unmarshal(data, &back); err != nil {
				t.Fatal(err)
			}
			if !back.counts.Equals(part.counts) || back.Coarse() != part.Coarse() {
				t.Fatal("JSON lost something")
			}
			merged.Merge(&back)
		}
		if !merged.counts.Equals(whole.counts) {
			t.Error("merging lost something")
		}
	}
}

func TestEmpty(t *testing.T) {
	var missing *Histogram
	for _, h := range []*Histogram{missing, New()} {
		if h.Count() != 0 || h.Max() != 0 || h.Min() != 0 || h.Mean() != 0 || h.Quantile(.5) != 0 ||
			h.StdDev() != 0 || h.CountAbove(0) != 0 {
			t.Error("an empty histogram has values")
		}
	}
	data, err := json.Marshal(New())
	if err != nil {
		t.Fatal(err)
	}
	back := New()
	back.Record(time.Second)
	if err := json.Unmarshal(data, back); err != nil || back.Count() != 0 {
		t.Errorf("read as %d values, %v", back.Count(), err)
	}
	sum := New()
	sum.Merge(missing)
	sum.Merge(New())
	if sum.Count() != 0 {
		t.Error("nothing and nothing is something")
	}
}

func TestCountAbove(t *testing.T) {
	h := New()
	for i := range 100 {
		h.Record(time.Duration(i) * time.Millisecond)
	}
	if got := h.CountAbove(89500 * time.Microsecond); got != 10 {
		t.Errorf("%d are above, want 10", got)
	}
}

func FuzzUnmarshal(f *testing.F) {
	h := New()
	h.Record(time.Millisecond)
	data, err := json.Marshal(h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"count":1,"hdr":"HISTFAAAABx4nJNpmSzMwMDAyAABMJoRTM"}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h := New()
		if json.Unmarshal(data, h) != nil {
			return
		}
		h.Record(time.Second)
		if h.Count() < 1 {
			t.Error("it cannot be used")
		}
	})
}
