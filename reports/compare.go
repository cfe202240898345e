package reports

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

// comparisonFormats are the formats of [RenderComparison].
var comparisonFormats = formats[*compare.Comparison]{
	"json":     comparisonJSON,
	"table":    comparisonTable,
	"markdown": comparisonMarkdown,
}

// ComparisonFormats returns the names that [RenderComparison] accepts.
func ComparisonFormats() []string { return comparisonFormats.names() }

// RenderComparison writes a comparison of runs: for each scenario the medians of all runs with
// their spread, and the difference of each from the first run with its corrected p-value.
func RenderComparison(w io.Writer, format string, c *compare.Comparison, o Options) error {
	return comparisonFormats.render(w, "the comparison", format, c, o)
}

// comparisonLines returns the cells of one group: a row for the verdict, then one for each metric.
func comparisonLines(c *compare.Comparison, g compare.Group) []line {
	var lines []line
	begin := func(name, head, cell string) {
		text := column{name: name, head: [2]string{"", head}, left: len(lines) == 0}
		lines = append(lines, line{text, []string{cell}})
	}
	begin("figure", g.Name, "verdict")
	for i, side := range c.Sides {
		begin(side, side, g.Verdicts[i])
		if i > 0 {
			mark := ""
			if g.Worse[i] {
				mark = results.RegressionMark
			}
			begin("difference", "difference", mark)
		}
	}
	for _, row := range g.Rows {
		at := 0
		add := func(text string) {
			lines[at].cells = append(lines[at].cells, text)
			at++
		}
		add(row.Metric.Name)
		for i, cell := range row.Cells {
			add(statWords(row.Metric, cell.Stat))
			if i > 0 {
				add(differenceWords(row, i))
			}
		}
	}
	return lines
}

func statWords(m compare.Metric, s compare.Stat) string {
	text := m.Bare(s.Median)
	if percent := math.RoundToEven(s.Spread * 100); percent > 0 && s.Spread < 1e9 {
		text += fmt.Sprintf(" ±%.0f%%", percent)
	}
	return text
}

func differenceWords(row compare.Row, side int) string {
	c := row.Cells[side]
	switch d := row.Delta(side); {
	case !c.Significant:
		return d // also a regression, in so few trials
	case c.Adjusted < 0.001:
		return d + " (p<0.001)"
	default:
		return fmt.Sprintf("%s (p=%.3f)", d, c.Adjusted)
	}
}

func comparisonTable(b *bytes.Buffer, c *compare.Comparison, o Options) error {
	for _, g := range c.Groups {
		lines := comparisonLines(c, g)
		if err := grid(b, lines, make([]row, len(lines[0].cells)), false); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	for _, note := range comparisonNotes(c) {
		paragraph(b, "note: ", note, o.width())
	}
	return nil
}

func comparisonMarkdown(b *bytes.Buffer, c *compare.Comparison, _ Options) error {
	for _, g := range c.Groups {
		lines := comparisonLines(c, g)
		fmt.Fprintf(b, "### %s\n\n", markdownText(g.Name))
		markdownGrid(b, lines)
	}
	for _, note := range comparisonNotes(c) {
		fmt.Fprintf(b, "> %s\n>\n", markdownText(note))
	}
	return nil
}

// comparisonNotes says how to read the figures, then what the comparison itself notes.
func comparisonNotes(c *compare.Comparison) []string {
	reading := fmt.Sprintf("medians of valid trials, ± the farthest trial; differences are from "+
		"%s: %s; p: exact Mann-Whitney U test, Holm's correction over all cells; "+
		"~: not significant (p >= %.2f), =: all trials are equal, %s: --baseline fails it",
		c.Sides[0], effectsRead(c), compare.Alpha, results.RegressionMark)
	return append([]string{reading}, c.Notes...)
}

// effectsRead says how to read the effects in a comparison.
func effectsRead(c *compare.Comparison) string {
	text := "factors, or amounts where a trial has 0"
	if sure := c.Confidence(); sure > 0 {
		sure = min(sure, 1-compare.Alpha)
		text += fmt.Sprintf(", with their %s intervals", results.Percent(sure))
	}
	return text
}

// The JSON form of a comparison. A figure that does not exist is null: the median of no trials or
// of a time that never came, a spread around 0, a change from 0.
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
		Change *float64 `json:"change"` // of the median, as a share of the base's
		P      float64  `json:"p"`
		// Adjusted is P after Holm's correction; 1 where trials are too few.
		Adjusted    float64 `json:"p_adjusted"`
		Significant bool    `json:"significant"`
		Regression  bool    `json:"regression"` // --baseline fails it
		Difference  string  `json:"difference"` // as the table shows it
		Effect      *effect `json:"effect,omitempty"`
	}
	// effect is the difference of the values from the base's.
	effect struct {
		Ratio    bool    `json:"ratio"` // the figures are factors; otherwise amounts
		Estimate float64 `json:"estimate"`
		// Low and High are the ends of an interval that holds the effect with this confidence;
		// there is none below three trials on a side.
		Low        *float64 `json:"low,omitempty"`
		High       *float64 `json:"high,omitempty"`
		Confidence float64  `json:"confidence,omitempty"`
	}
)

func comparisonJSON(b *bytes.Buffer, c *compare.Comparison, _ Options) error {
	doc := jsonComparison{
		Runs: c.Sides, Scenarios: []jsonGroup{}, Alpha: compare.Alpha, TooFew: c.TooFew,
		Notes: append([]string{}, c.Notes...),
	}
	for _, g := range c.Groups {
		group := jsonGroup{Name: g.Name, Verdicts: g.Verdicts, Metrics: []jsonMetric{}}
		for _, row := range g.Rows {
			metric := jsonMetric{Name: row.Metric.Name, Unit: row.Metric.Unit}
			for i, cell := range row.Cells {
				median, spread := number64(cell.Median), number64(cell.Spread)
				j := jsonCell{N: cell.N, Median: median, Spread: spread}
				if i > 0 {
					j.jsonDifference = &jsonDifference{
						Change: number64(cell.Change), P: cell.P, Adjusted: cell.Adjusted,
						Significant: cell.Significant, Regression: cell.Worse,
						Difference: row.Delta(i), Effect: effectOf(cell),
					}
				}
				metric.Runs = append(metric.Runs, j)
			}
			group.Metrics = append(group.Metrics, metric)
		}
		doc.Scenarios = append(doc.Scenarios, group)
	}
	return results.WriteJSON(b, doc)
}

func effectOf(c compare.Cell) *effect {
	found := c.Effect()
	if found == nil {
		return nil
	}
	e := effect{Ratio: found.Ratio, Estimate: found.Estimate, Confidence: found.Confidence}
	if e.Confidence > 0 {
		e.Low, e.High = &found.Low, &found.High
	}
	return &e
}

// number64 returns nil for NaN and infinity.
func number64(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// differences show how the other scenarios differ from the first, under the columns of the table.
type differences struct {
	title string
	lines []line // none when there are too few trials for an effect to have an interval
	rows  []row
	notes []string
}

// differencesOf compares the scenarios when there are enough trials for a spread.
func differencesOf(run *results.Run, list []row) (differences, error) {
	if !several(list) || len(list) < 2 || len(list[0].valid) == 0 {
		return differences{}, nil
	}
	c, err := compare.Scenarios(run)
	if err != nil {
		return differences{}, fmt.Errorf("comparing the scenarios: %w", err)
	}
	d := differences{
		title: fmt.Sprintf("Difference from %s: %s (~: not significant, =: no difference)",
			list[0].name, effectsRead(c)),
		rows: list[1:], notes: c.Notes,
	}
	if c.TooFew && c.Confidence() == 0 {
		return d, nil
	}
	d.lines = []line{columns[0].fill(d.rows)}
	for _, col := range columns {
		for _, m := range c.Groups[0].Rows {
			if m.Metric.Figure != col.metric || col.optional && col.empty(list) {
				continue
			}
			l := line{column: col}
			if part := m.Metric.Part; part != "" {
				l.name = part + " " + l.name
				l.head[0] = strings.TrimSpace(part + " " + l.head[0])
			}
			for side := range d.rows {
				l.cells = append(l.cells, m.Delta(side+1))
			}
			d.lines = append(d.lines, l)
		}
	}
	return d, nil
}

// write draws the differences for a terminal: a row for each figure, and as many scenarios beside
// each other as fit.
func (d differences) write(b *bytes.Buffer, width int, wide bool) error {
	if len(d.lines) == 0 {
		return nil
	}
	paragraph(b, "", d.title, width)
	b.WriteByte('\n')
	figures := line{column: column{name: "figure", left: true}}
	for _, l := range d.lines[1:] {
		figures.cells = append(figures.cells, l.name)
	}
	var sides []line
	for i, r := range d.rows {
		side := line{column: column{name: r.name, head: [2]string{"", r.name}}}
		for _, l := range d.lines[1:] {
			side.cells = append(side.cells, l.cells[i])
		}
		sides = append(sides, side)
	}
	for len(sides) > 0 {
		beside := []line{figures, sides[0]}
		sides = sides[1:]
		for len(sides) > 0 && (wide || total(append(beside, sides[0])) <= width) {
			beside, sides = append(beside, sides[0]), sides[1:]
		}
		if err := grid(b, beside, make([]row, len(figures.cells)), false); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	return nil
}
