package compare

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	steps := []float64{3, 1, 2, 4, 103, 101, 102, 104, 105, 106}
	at, p := split(steps)
	// Of the 210 divisions of 10 values into 4 and 6, the 2 extreme ones are as far out, and of
	// other sizes those that are farther still.
	if at != 4 || p < 2.0/210/2 || p > 0.05 {
		t.Errorf("a step: at %d, p = %v", at, p)
	}
	if again, q := split(steps); again != at || q != p {
		t.Errorf("another answer for the same series: %d, %v", again, q)
	}
	for name, values := range map[string][]float64{
		"constant": slices.Repeat([]float64{5}, 20), "short": steps[:7], "empty": nil,
	} {
		if at, p := split(values); at != 0 || p != 1 {
			t.Errorf("%s: at %d, p = %v", name, at, p)
		}
	}
	outlier := []float64{1, 2, 3, 2, 1, 3, 2, 1, 2, 3, 1, 999}
	if _, p := split(outlier); p < 0.05 {
		t.Errorf("a single outlier at the end is a change: p = %v", p)
	}
	late := []float64{1, 2, 1, 3, 2, 1, 2, math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1)}
	if at, p := split(late); at != 7 || p > 0.01 {
		t.Errorf("a time that no longer comes: at %d, p = %v", at, p)
	}
}

// TestSplit_Exact holds the drawn p-value to that of all 40,320 orders of 8 values.
func TestSplit_Exact(t *testing.T) {
	for _, values := range [][]float64{
		{1, 2, 3, 4, 5, 6, 7, 8}, {1, 1, 2, 1, 9, 8, 9, 9}, {4, 9, 1, 7, 3, 8, 2, 6},
	} {
		ranks := doubleRanks(values)
		_, found := farthest(ranks)
		above, all := 0, 0
		var order func(k int)
		order = func(k int) {
			if k == len(ranks) {
				all++
				if _, z := farthest(ranks); z >= found-1e-9 {
					above++
				}
				return
			}
			for i := k; i < len(ranks); i++ {
				ranks[k], ranks[i] = ranks[i], ranks[k]
				order(k + 1)
				ranks[k], ranks[i] = ranks[i], ranks[k]
			}
		}
		order(0)
		exact := float64(above) / float64(all)
		_, p := split(values)
		// Four standard deviations of a share among the drawn orders; 50 above end the draw.
		drawn := min(permutations, enoughAbove/exact)
		if off := 4*math.Sqrt(exact*(1-exact)/drawn) + 2/drawn; math.Abs(p-exact) > off {
			t.Errorf("%v: p = %v, of all orders %v", values, p, exact)
		}
	}
}

// TestSplit_RarelyWithoutChange: in series that have no change, p is at most 5 % in about 5 % of
// cases.
func TestSplit_RarelyWithoutChange(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for _, n := range []int{8, 15, 40} {
		const series = 400
		below := 0
		for range series {
			values := make([]float64, n)
			for i := range values {
				values[i] = math.Round(5 * random.NormFloat64()) // with ties
			}
			if _, p := split(values); p <= Alpha {
				below++
			}
		}
		if most := series*Alpha + 4*math.Sqrt(series*Alpha*(1-Alpha)); float64(below) > most {
			t.Errorf("%d values: p is at most 5 %% in %d of %d series", n, below, series)
		}
	}
}

func TestChanges(t *testing.T) {
	level := func(n int, around float64) (values []float64) {
		for i := range n {
			values = append(values, around+float64(i%3))
		}
		return values
	}
	list := changes([][]float64{
		slices.Concat(level(12, 0), level(12, 100), level(12, 50)),
		level(36, 7),
		slices.Concat(level(18, 0), level(18, 10)),
	})
	var at [][]int
	for _, found := range list {
		places := []int{}
		for _, c := range found {
			places = append(places, c.at)
		}
		at = append(at, places)
	}
	if diff := cmp.Diff([][]int{{12, 24}, {}, {18}}, at); diff != "" {
		t.Error(diff)
	}
}

// TestFalseShare has the example of Benjamini and Hochberg (1995), section 4: of 15 p-values, four
// are significant.
func TestFalseShare(t *testing.T) {
	p := []float64{
		0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
		0.5719, 0.6528, 0.7590, 1,
	}
	if got := falseShare(p); got != 0.0095 {
		t.Errorf("the highest significant p-value is %v", got)
	}
	if got := falseShare([]float64{0.2, 0.9}); got >= 0 {
		t.Errorf("%v is significant", got)
	}
}
