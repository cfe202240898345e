package reports

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

// none stands for a figure that does not exist: the table was never full, nothing completed.
const none = "–"

// row is a scenario with the trials that count for its figures.
type row struct {
	name    string
	trials  int             // all of them
	valid   []results.Trial // those whose figures count
	invalid []results.Trial
}

func rows(run *results.Run) []row {
	list := make([]row, 0, len(run.Scenarios))
	for _, s := range run.Scenarios {
		r := row{name: s.Name, trials: len(s.Trials)}
		for _, t := range s.Trials {
			if t.Verdict == results.Invalid {
				r.invalid = append(r.invalid, t)
			} else {
				r.valid = append(r.valid, t)
			}
		}
		list = append(list, r)
	}
	return list
}

// acted reports whether a trial of the scenario has faults or fixes.
func (r row) acted() bool {
	return slices.ContainsFunc(r.valid, func(t results.Trial) bool { return len(t.Actions) > 0 })
}

// several reports whether any scenario has more than one trial.
func several(list []row) bool {
	return slices.ContainsFunc(list, func(r row) bool { return r.trials > 1 })
}

// verdict returns the worst verdict among the valid trials, and how many of them have it.
func (r row) verdict() (v results.Verdict, n int) {
	if len(r.valid) == 0 {
		return results.Invalid, 0
	}
	v = slices.MaxFunc(r.valid, func(a, b results.Trial) int { return a.Verdict.Compare(b.Verdict) }).Verdict
	return v, len(r.having(v))
}

// having returns the valid trials with a verdict.
func (r row) having(v results.Verdict) []results.Trial {
	return slices.DeleteFunc(slices.Clone(r.valid), func(t results.Trial) bool { return t.Verdict != v })
}

// typical returns the trial that represents the scenario: of those with its verdict, the one whose
// number of failures is nearest to their median.
func (r row) typical() (results.Trial, bool) {
	v, _ := r.verdict()
	of := r.having(v)
	if len(of) == 0 {
		return results.Trial{}, false
	}
	failed := make([]float64, len(of))
	for i, t := range of {
		failed[i] = float64(t.Load.Failed)
	}
	middle := compare.Median(failed)
	return slices.MinFunc(of, func(a, b results.Trial) int {
		return cmp.Compare(math.Abs(float64(a.Load.Failed)-middle), math.Abs(float64(b.Load.Failed)-middle))
	}), true
}

// cell formats the median of a figure over the valid trials, with the farthest trial's distance
// from it where they differ.
func (r row) cell(value func(*results.Trial) (float64, bool), format func(float64) string) string {
	values := r.values(value)
	if len(values) == 0 {
		return none
	}
	middle := compare.Median(values)
	text := format(middle)
	if spread := compare.Spread(values); spread > 0 {
		if math.IsInf(spread, 0) {
			text += fmt.Sprintf(" ±%s", format(slices.Max(values)))
		} else if percent := math.Round(spread * 100); percent > 0 {
			text += fmt.Sprintf(" ±%.0f%%", percent)
		}
	}
	return text
}

func (r row) values(value func(*results.Trial) (float64, bool)) []float64 {
	var values []float64
	for i := range r.valid {
		if v, ok := value(&r.valid[i]); ok {
			values = append(values, v)
		}
	}
	return values
}
