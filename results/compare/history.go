package compare

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/results"
)

// History follows the figures of one experiment over its runs.
type History struct {
	Experiment string
	Runs       []PastRun // the oldest first
	Scenarios  []Course
	Notes      []string // what was left out, and what could not be told
}

// PastRun is a run of a history.
type PastRun struct {
	Name    string
	Started time.Time
	Ctload  string
	Kernel  string
	Tags    map[string]string
}

// Course is the way of one scenario through the runs.
type Course struct {
	Scenario string
	Verdicts []string // of each run; empty where it has none
	Trends   []Trend
}

// Trend is one figure over the runs.
type Trend struct {
	Metric Metric
	// Values are the medians over the valid trials of each run; NaN where a run has none.
	Values  []float64
	Changes []Shift
}

// Shift is a change of a figure's level between two runs.
type Shift struct {
	Run           int // index of the first run after it
	Before, After float64
	P             float64
	// Direction is 1 where the figure became worse, -1 where it became better, 0 for a figure of
	// which neither can be said.
	Direction int
	// Beside lists what else changed between the two runs: kernel, settings, ctload.
	Beside []string
}

// Latest returns the last value of the trend; NaN without one.
func (t Trend) Latest() float64 {
	for _, v := range slices.Backward(t.Values) {
		if !math.IsNaN(v) {
			return v
		}
	}
	return math.NaN()
}

// Follow returns the history of an experiment: of its runs that are whole, and like the newest of
// them in what [Runs] asks of compared runs.
func Follow(experiment string, list []results.Listed) (*History, error) {
	h := &History{Experiment: experiment}
	var runs []*results.Run
	list = h.alike(list)
	for _, l := range list {
		e := l.Run.Environment
		h.Runs = append(h.Runs, PastRun{
			Name: l.Name(), Started: l.Run.Started, Ctload: l.Run.Ctload, Kernel: e.Kernel,
			Tags: l.Run.Tags,
		})
		runs = append(runs, l.Run)
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("no finished run of %s", experiment)
	}
	newest := runs[len(runs)-1]
	emulated := newest.Environment.Accelerator == "tcg"
	for _, s := range newest.Scenarios {
		h.Scenarios = append(h.Scenarios, courseOf(s.Name, runs, emulated))
	}
	h.findChanges(runs)
	if emulated {
		h.note("times and rates are left out: they mean little under emulation")
	}
	if n := len(runs); n < fewestValues {
		h.note("%d runs show no change for sure: that takes %d", n, fewestValues)
	}
	return h, nil
}

func (h *History) note(format string, args ...any) {
	h.Notes = append(h.Notes, fmt.Sprintf(format, args...))
}

// alike returns the runs of the experiment that are whole, and that can be compared with the newest
// of these.
func (h *History) alike(list []results.Listed) (kept []results.Listed) {
	parts := 0
	for _, l := range list {
		switch {
		case l.Run.Experiment != h.Experiment || l.Search:
		case l.Run.Part("") != nil:
			parts++
		default:
			kept = append(kept, l)
		}
	}
	if parts > 0 {
		h.note("%d unfinished or empty runs are left out", parts)
	}
	if len(kept) == 0 {
		return nil
	}
	newest := kept[len(kept)-1]
	return slices.DeleteFunc(kept, func(l results.Listed) bool {
		unlike, _ := pair{l.Name(), newest.Name()}.differences(l.Run, newest.Run, false)
		if len(unlike) > 0 {
			h.note("%s is left out, unlike the newest run: %s", l.Name(),
				strings.Join(unlike, "; "))
		}
		return len(unlike) > 0
	})
}

// courseOf returns the figures of a scenario in all runs, without times and rates of emulated
// guests.
func courseOf(name string, runs []*results.Run, emulated bool) Course {
	c := Course{Scenario: name}
	sides := make([]*results.Scenario, len(runs))
	for i, run := range runs {
		if sides[i] = run.Scenario(name); sides[i] == nil {
			sides[i] = &results.Scenario{Name: name}
		}
		verdict := ""
		if sides[i].Valid() > 0 {
			verdict = string(sides[i].Worst())
		}
		c.Verdicts = append(c.Verdicts, verdict)
	}
	for _, m := range metricsOf(sides) {
		if m.Timing && emulated {
			continue
		}
		t := Trend{Metric: m}
		found := false
		for _, s := range sides {
			value := Median(m.Values(s))
			found = found || !math.IsNaN(value)
			t.Values = append(t.Values, value)
		}
		if found {
			c.Trends = append(c.Trends, t)
		}
	}
	return c
}

// findChanges finds the changes of all figures, and what else changed beside each.
func (h *History) findChanges(runs []*results.Run) {
	var trends []*Trend
	var series [][]float64
	var places [][]int // of the values in the runs
	for i := range h.Scenarios {
		for j := range h.Scenarios[i].Trends {
			t := &h.Scenarios[i].Trends[j]
			var values []float64
			var at []int
			for run, v := range t.Values {
				if !math.IsNaN(v) {
					values, at = append(values, v), append(at, run)
				}
			}
			trends, series, places = append(trends, t), append(series, values), append(places, at)
		}
	}
	for i, found := range changes(series) {
		values, at := series[i], places[i]
		for k, c := range found {
			from, to := 0, len(values)
			if k > 0 {
				from = found[k-1].at
			}
			if k+1 < len(found) {
				to = found[k+1].at
			}
			before, after := Median(values[from:c.at]), Median(values[c.at:to])
			shift := Shift{Run: at[c.at], Before: before, After: after, P: c.p}
			if after > before {
				shift.Direction = trends[i].Metric.Worse
			} else {
				shift.Direction = -trends[i].Metric.Worse
			}
			last := at[c.at-1]
			names := pair{h.Runs[last].Name, h.Runs[shift.Run].Name}
			_, shift.Beside = names.differences(runs[last], runs[shift.Run], true)
			trends[i].Changes = append(trends[i].Changes, shift)
		}
	}
}
