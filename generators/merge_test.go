package generators

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ctload/ctload/generators/latency"
)

var equalHistograms = cmp.Comparer(func(a, b *latency.Histogram) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return a.Count() == 0 && b.Count() == 0 || errX == nil && errY == nil && string(x) == string(y)
})

var causes = []Cause{
	Timeout, Reset, Refused, Unreachable, EPERM, NoPort, NoDescriptor, NoBuffer, ClosedEarly,
	BadResponse, Cancelled, Other,
}

// synthetic returns a result as a tally makes it, of n requests that began one after another.
func synthetic(random *rand.Rand, n int, started time.Time) Result {
	t := newTally()
	b := base{load: &load{plan: &plan{Spec: Spec{Kind: Probe}}, start: started}, tally: t}
	for i := range n {
		at := time.Duration(i) * 10 * time.Millisecond
		t.offer(at+time.Duration(random.IntN(int(3*time.Millisecond))), true, at)
		t.second(at).Due++
		end := at + time.Duration(random.IntN(int(time.Second)))
		switch random.IntN(3) {
		case 0:
			t.fail(end, causes[random.IntN(len(causes))])
		default:
			t.Connect.Record(end - at)
			t.FirstByte.Record(end - at)
			t.complete(at, end)
			t.Statuses[200+random.IntN(2)]++
		}
		b.point(at, end, "")
	}
	r := t.result()
	r.Kind, r.Unit, r.Target, r.Started = HTTP, "requests", "10.0.0.1", started
	r.Usage = Usage{Workers: 1, CPUSeconds: 1, Busy: .5, Descriptors: 100}
	r.Limits = []Limit{{LimitPacing, "some"}}
	return r
}

func roundTrip(t *testing.T, r Result) Result {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

func TestResultJSON(t *testing.T) {
	r := synthetic(rand.New(rand.NewPCG(1, 1)), 500, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	sound(t, r)
	if diff := cmp.Diff(r, roundTrip(t, r), equalHistograms); diff != "" {
		t.Error(diff)
	}
}

// TestMerge checks that a merge is a sum: neither the order nor an encoding of the parts matters.
func TestMerge(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var parts []Result
	for i := range 4 {
		parts = append(parts,
			synthetic(random, 300+i*100, start.Add(time.Duration(i)*1100*time.Millisecond)))
	}
	sum := func(order ...int) Result {
		var total Result
		for _, i := range order {
			total.Merge(roundTrip(t, parts[i]))
		}
		return total
	}
	got := sum(0, 1, 2, 3)
	sound(t, got)
	if got.Offered != 300+400+500+600 || len(got.Probe) != int(got.Offered) ||
		got.Total.Count() != got.Completed {
		t.Errorf("offered %d, %d points, %d latencies of %d",
			got.Offered, len(got.Probe), got.Total.Count(), got.Completed)
	}
	if got.Started != start || got.Elapsed != parts[3].Elapsed+3300*time.Millisecond {
		t.Errorf("from %s for %s", got.Started, got.Elapsed)
	}
	if got.Usage.Workers != 4 || got.Usage.Busy != .5 || len(got.Limits) != 1 {
		t.Errorf("usage %+v, limits %q", got.Usage, got.Limits)
	}
	order := cmpopts.SortSlices(func(a, b ProbePoint) bool { return fmt.Sprint(a) < fmt.Sprint(b) })
	if diff := cmp.Diff(got, sum(3, 1, 0, 2), equalHistograms, order); diff != "" {
		t.Errorf("another order: %s", diff)
	}
	var same Result
	same.Merge(parts[0])
	same.Merge(Result{})
	if diff := cmp.Diff(parts[0], same, equalHistograms, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("merged with nothing: %s", diff)
	}
}
