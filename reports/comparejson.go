package reports

import (
	"io"
	"math"

	"github.com/ctload/ctload/results/compare"
)

// The JSON form of a comparison. A figure that does not exist is null: the median of no trials, of
// a time that never came (n says which), a spread around 0, a change from 0.
type (
	jsonComparison struct {
		Runs      []string    `json:"runs"` // the first is the base
		Scenarios []jsonGroup `json:"scenarios"`
		Alpha     float64     `json:"alpha"` // level of significance, for all cells together
		// TooFew says that there are too few trials for any difference to be significant.
		TooFew bool     `json:"too_few"`
		Notes  []string `json:"notes"`
	}
	jsonGroup struct {
		Name     string       `json:"name"`
		Verdicts []string     `json:"verdicts"` // of each run
		Metrics  []jsonMetric `json:"metrics"`
	}
	jsonMetric struct {
		Name string     `json:"name"` // path in run.json
		Unit string     `json:"unit,omitempty"`
		Runs []jsonCell `json:"runs"`
	}
	jsonCell struct {
		N      int      `json:"n"` // valid trials
		Median *float64 `json:"median"`
		Spread *float64 `json:"spread"` // share of the median by which the farthest trial differs
		*jsonDifference
	}
	// jsonDifference is the difference from the base run, by the Mann-Whitney U test.
	jsonDifference struct {
		Change      *float64 `json:"change"` // of the median, as a share of the base's
		P           float64  `json:"p"`
		Adjusted    float64  `json:"p_adjusted"` // after Holm's correction over all cells
		Significant bool     `json:"significant"`
		Difference  string   `json:"difference"` // as the table shows it
	}
)

func comparisonJSON(w io.Writer, c *compare.Comparison, _ Options) error {
	doc := jsonComparison{
		Runs: c.Sides, Scenarios: []jsonGroup{}, Alpha: compare.Alpha, TooFew: c.TooFew,
		Notes: append([]string{}, c.Notes...),
	}
	for _, g := range c.Groups {
		group := jsonGroup{Name: g.Name, Verdicts: g.Verdicts, Metrics: []jsonMetric{}}
		for _, row := range g.Rows {
			metric := jsonMetric{Name: row.Metric.Name, Unit: row.Metric.Unit}
			for i, cell := range row.Cells {
				j := jsonCell{N: cell.N, Median: number64(cell.Median), Spread: number64(cell.Spread)}
				if i > 0 {
					adjusted := cell.Adjusted
					if cell.Constant || cell.N == 0 || row.Cells[0].N == 0 { // no test was made
						adjusted = 1
					}
					j.jsonDifference = &jsonDifference{
						Change: number64(cell.Change), P: cell.P, Adjusted: adjusted, Significant: cell.Significant, Difference: delta(cell),
					}
				}
				metric.Runs = append(metric.Runs, j)
			}
			group.Metrics = append(group.Metrics, metric)
		}
		doc.Scenarios = append(doc.Scenarios, group)
	}
	return writeJSON(w, doc)
}

// number64 returns nil for NaN and infinity.
func number64(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
