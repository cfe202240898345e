package results

import (
	"fmt"
	"math"
	"slices"
)

// Regression is a figure of a scenario that became worse than in a baseline run.
type Regression struct {
	Scenario string `json:"scenario"`
	Metric   string `json:"metric"` // path in run.json
	Before   string `json:"before"`
	After    string `json:"after"`
}

func (r Regression) String() string {
	return fmt.Sprintf("%s: %s was %s and is %s", r.Scenario, r.Metric, r.Before, r.After)
}

// noiseFloor is the share of what was offered below which a count of failures or packets is taken
// for noise.
const noiseFloor = 0.001

// FindRegressions compares a run with a baseline run. A scenario has become worse when
//   - its verdict has: a worse one than any that the baseline's trials have;
//   - a count that is worse when higher (or lower, for completed) has changed for the worse by more
//     than the allowed share of the baseline's median, by more than 0.1 % of what was offered, and
//     in all trials beyond all of the baseline's;
//   - a time or a rate has changed so, and significantly in the sense of [CompareRuns]. Under
//     emulation they are not judged, since they depend on the host's other work.
//
// drop and insert_failed count packets, retries included, and vary with their timing: they are
// judged only where the baseline has none. A scenario with no valid trial on a side is an error, as
// are unlike runs. Notes are those of the comparison.
func FindRegressions(base, run *Run, allowed float64) (found []Regression, notes []string, err error) {
	c, err := CompareRuns([]string{"the baseline", "this run"}, []*Run{base, run})
	if err != nil {
		return nil, nil, err
	}
	for _, g := range c.Groups {
		before, after := base.scenario(g.Name), run.scenario(g.Name)
		if validTrials(before) == 0 || validTrials(after) == 0 {
			return nil, nil, fmt.Errorf("comparing %s with the baseline: one of them has no valid trial", g.Name)
		}
		if worst(after).Worse(worst(before)) {
			found = append(found, Regression{g.Name, "verdict", string(worst(before)), string(worst(after))})
		}
		for _, row := range g.Rows {
			cell := row.Cells[1]
			if row.Metric.Worse == 0 || row.Cells[0].N == 0 || cell.N == 0 {
				continue
			}
			if row.Metric.Timing && (base.Environment.Accelerator == "tcg" || !cell.Significant) {
				continue
			}
			if row.Metric.worsened(before, after, allowed) {
				found = append(found, Regression{g.Name, row.Metric.Name, row.Metric.Words(row.Cells[0].Median), row.Metric.Words(cell.Median)})
			}
		}
	}
	return found, c.Notes, nil
}

// worsened reports whether the metric is worse by more than the allowed share and beyond noise.
func (m Metric) worsened(before, after *Scenario, allowed float64) bool {
	sign := float64(m.Worse)
	b, a := m.Values(before), m.Values(after)
	mb, ma := Median(b), Median(a)
	if sign*(ma-mb) <= 0 || math.IsNaN(ma-mb) {
		return false
	}
	if (m.Name == "conntrack.drop" || m.Name == "conntrack.insert_failed") && mb > 0 {
		return false
	}
	if sign > 0 && slices.Min(a) <= slices.Max(b) || sign < 0 && slices.Max(a) >= slices.Min(b) {
		return false
	}
	if !m.Timing && math.Abs(ma-mb) <= noiseFloor*offered(after) {
		return false
	}
	return math.IsInf(ma, 0) || math.IsInf(mb, 0) || sign*(ma-mb) > allowed*math.Abs(mb)
}

func offered(s *Scenario) float64 {
	var values []float64
	for _, t := range s.Trials {
		if t.Verdict != Invalid {
			values = append(values, float64(t.Load.Offered))
		}
	}
	return Median(values)
}

func validTrials(s *Scenario) int {
	n := 0
	for _, t := range s.Trials {
		if t.Verdict != Invalid {
			n++
		}
	}
	return n
}

// worst is the worst verdict among the valid trials.
func worst(s *Scenario) Verdict {
	v := Invalid
	for _, t := range s.Trials {
		if t.Verdict.Worse(v) {
			v = t.Verdict
		}
	}
	return v
}
