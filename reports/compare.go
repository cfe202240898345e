package reports

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/ctload/ctload/results/compare"
)

// comparisonRenderers are the formats of a comparison by name.
var comparisonRenderers = map[string]func(io.Writer, *compare.Comparison, Options) error{
	"json":     comparisonJSON,
	"table":    comparisonTable,
	"markdown": comparisonMarkdown,
}

// ComparisonFormats returns the names that [RenderComparison] accepts.
func ComparisonFormats() []string { return sortedNames(comparisonRenderers) }

// RenderComparison writes a comparison of runs: for each scenario the figures of all runs side by
// side, as medians with their spread, and how each differs from the first run with the corrected
// p-value of the difference.
func RenderComparison(w io.Writer, format string, c *compare.Comparison, o Options) error {
	renderer, ok := comparisonRenderers[format]
	if !ok {
		return unknownFormat(format, ComparisonFormats())
	}
	if err := renderer(w, c, o); err != nil {
		return fmt.Errorf("rendering the comparison as %s: %w", format, err)
	}
	return nil
}

// comparisonLines returns the cells of one group: a row for the verdict, then one for each metric.
func comparisonLines(c *compare.Comparison, g compare.Group) []line {
	lines := []line{{column: column{name: "figure", head: [2]string{"", g.Name}, left: true}, cells: []string{"verdict"}}}
	for i, side := range c.Sides {
		lines = append(lines, line{column: column{name: side, head: [2]string{"", printable(side)}}, cells: []string{g.Verdicts[i]}})
		if i > 0 {
			lines = append(lines, line{column: column{name: "difference", head: [2]string{"", "difference"}}, cells: []string{""}})
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
				add(differenceWords(cell))
			}
		}
	}
	return lines
}

func statWords(m compare.Metric, s compare.Stat) string {
	if s.N == 0 {
		return none
	}
	text := m.Bare(s.Median)
	if percent := math.RoundToEven(s.Spread * 100); percent > 0 && s.Spread < 1e9 {
		text += fmt.Sprintf(" ±%.0f%%", percent)
	}
	return text
}

func differenceWords(c compare.Cell) string {
	switch d := delta(c); {
	case !c.Significant:
		return d
	case c.Adjusted < 0.001:
		return d + " (p<0.001)"
	default:
		return fmt.Sprintf("%s (p=%.3f)", d, c.Adjusted)
	}
}

func comparisonTable(w io.Writer, c *compare.Comparison, o Options) error {
	var b bytes.Buffer
	for _, g := range c.Groups {
		lines := comparisonLines(c, g)
		list := make([]row, len(lines[0].cells))
		if err := grid(&b, lines, list, false); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	width := o.Width
	if width == 0 {
		width = defaultWidth
	}
	width = max(width, minWidth)
	for _, note := range append(comparisonNotes(c), c.Notes...) {
		paragraph(&b, "note: ", note, width)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func comparisonMarkdown(w io.Writer, c *compare.Comparison, _ Options) error {
	var b strings.Builder
	for _, g := range c.Groups {
		lines := comparisonLines(c, g)
		fmt.Fprintf(&b, "### %s\n\n", markdownText(g.Name))
		lines[0].name = "figure"
		markdownGrid(&b, lines)
	}
	for _, note := range append(comparisonNotes(c), c.Notes...) {
		fmt.Fprintf(&b, "> %s\n>\n", markdownText(note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func comparisonNotes(c *compare.Comparison) []string {
	return []string{
		fmt.Sprintf("medians over valid trials, ± the farthest trial; differences are from %s, by the Mann-Whitney U test with Holm's correction over all cells; ~: not significant (p >= %.2f), =: all trials are equal",
			c.Sides[0], compare.Alpha),
	}
}
