package reports

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

// varied returns the fixture with many trials that vary a little, with more failures added.
func varied(seed uint64, trials int, more int64) *results.Run {
	r := rand.New(rand.NewPCG(seed, 1))
	run := fixture()
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		first := s.Trials[0]
		s.Trials = nil
		for n := range trials {
			t, l := first, *first.Load
			t.Number, t.Load = n+1, &l
			t.Load.Rate *= 1 + r.NormFloat64()/50
			t.Load.Connect.P50 *= 1 + r.NormFloat64()/20
			t.Load.Connect.P99 *= 1 + r.NormFloat64()/20
			if t.Load.Failed > 0 {
				t.Load.Failed += more + r.Int64N(9)
				t.Load.Completed = new(t.Load.Offered - t.Load.Failed)
				t.Load.Causes = map[string]int64{results.CauseTimeout: t.Load.Failed}
			}
			t.Entries = map[string]results.Entry{"http": {Kind: "http", Attempts: t.Load.Attempts}}
			results.Judge(&t)
			s.Trials = append(s.Trials, t)
		}
	}
	return run
}

func TestComparisonGolden(t *testing.T) {
	runs := []*results.Run{varied(1, 8, 0), varied(2, 8, 100)}
	c, err := compare.Runs([]string{"runs/monday", "runs/friday"}, runs)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range ComparisonFormats() {
		var b bytes.Buffer
		if err := RenderComparison(&b, format, c, Options{Width: 100}); err != nil {
			t.Fatal(err)
		}
		golden(t, "compare."+format+".txt", b.Bytes())
	}
	if err := RenderComparison(&bytes.Buffer{}, "tabel", c, Options{}); err == nil ||
		!strings.Contains(err.Error(), `"table"`) {
		t.Errorf("got %v", err)
	}
}

// TestDifferencesGolden: a run with several trials shows how its scenarios differ.
func TestDifferencesGolden(t *testing.T) {
	golden(t, "table-differences.txt", render(t, "table", varied(3, 8, 0), Options{Width: 100}))
	golden(t, "table-few-trials.txt", render(t, "table", varied(3, 2, 0), Options{Width: 100}))
}

func TestComparisonTakesMany(t *testing.T) {
	var runs []*results.Run
	var names []string
	for i := range 5 {
		runs = append(runs, varied(uint64(i), 3, 0))
		names = append(names, fmt.Sprintf("run|%d", i))
	}
	c, err := compare.Runs(names, runs)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range ComparisonFormats() {
		var b bytes.Buffer
		if err := RenderComparison(&b, format, c, Options{}); err != nil || b.Len() == 0 {
			t.Errorf("%s: %v", format, err)
		}
	}
}
