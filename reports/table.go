package reports

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"github.com/ctload/ctload/results"
)

const (
	defaultWidth = 80
	minWidth     = 40
	gap          = 2 // spaces between two columns
)

// renderTable writes a run for a terminal: its conclusion, a row and a line for each scenario, and
// where the rest is. [choose] says which columns.
func renderTable(b *bytes.Buffer, run *results.Run, o Options) error {
	width := o.width()
	list := rows(run)
	all := withParts(list, !o.Verbose && !o.Wide)
	cells, dropped := choose(layout(all), all, width)
	if o.Wide {
		cells, dropped = choose(layout(all), all, math.MaxInt)
	}
	cells, all = prune(cells, all)
	heading(b, run, width, o.Color)
	answerOf(run).write(b, o)
	if len(list) == 0 {
		b.WriteString("No scenario was run.\n\n")
		dropped = 0
	} else {
		if err := grid(b, cells, all, o.Color); err != nil {
			return err
		}
		b.WriteByte('\n')
		briefly(b, list, o)
		b.WriteByte('\n')
	}
	comparison, err := differencesOf(run, list)
	if err != nil {
		return err
	}
	if o.Verbose {
		if err := comparison.write(b, width, o.Wide); err != nil {
			return err
		}
	}
	if line := environment(run); line != "" {
		paragraph(b, "", line, width)
	}
	notes(b, run, append(footnotes(run, list), comparison.notes...), dropped, o)
	return nil
}

// line is a column with its cells, one for each row.
type line struct {
	column
	cells []string
}

// width returns that of the widest line of the column.
func (l line) width() int {
	all := strings.Join(append(l.head[:], l.cells...), "\n")
	return widest(strings.Split(all, "\n"), func(part string) string { return part })
}

// widest returns the width of the widest text of a list, in columns.
func widest[T any](list []T, text func(T) string) (width int) {
	for _, v := range list {
		width = max(width, runewidth.StringWidth(text(v)))
	}
	return width
}

// layout fills the columns that have something to show.
func layout(list []row) (lines []line) {
	for _, c := range columns {
		if c.optional && c.empty(list) {
			continue
		}
		lines = append(lines, c.fill(list))
	}
	return lines
}

// fill returns the column with its cells.
func (c column) fill(list []row) line {
	l := line{column: c}
	for _, r := range list {
		l.cells = append(l.cells, c.text(r))
	}
	return l
}

// prune leaves out the parts of scenarios that have nothing to show in the columns.
func prune(lines []line, list []row) ([]line, []row) {
	shown := func(i int) bool {
		return list[i].part == nil || slices.ContainsFunc(lines[2:], func(l line) bool {
			return l.cells[i] != "" && l.cells[i] != none
		})
	}
	kept := make([]line, len(lines))
	var rows []row
	for i := range list {
		if !shown(i) {
			continue
		}
		rows = append(rows, list[i])
		for j, l := range lines {
			kept[j].column = l.column
			kept[j].cells = append(kept[j].cells, l.cells[i])
		}
	}
	return kept, rows
}

// choose orders the columns as every format shows them, and drops those that do not fit the width:
// after the scenario and its verdict come the columns in which scenarios differ, then those that
// are alike in all. The least important ones in which the parts of scenarios are alike as well are
// dropped first.
func choose(lines []line, list []row, width int) (kept []line, dropped int) {
	differs := func(l line, parts bool) bool {
		first := map[string]string{} // by the name of the part, "" for a whole scenario
		for i, r := range list {
			name := ""
			if r.part != nil {
				if name = r.name; !parts {
					continue
				}
			}
			if cell, seen := first[name]; !seen {
				first[name] = l.cells[i]
			} else if l.cells[i] != cell {
				return true
			}
		}
		return false
	}
	var unlike, alike, telling, same []line
	for i, l := range lines {
		if i < 2 || differs(l, false) {
			unlike = append(unlike, l)
		} else {
			alike = append(alike, l)
		}
		if i < 2 || differs(l, true) {
			telling = append(telling, l)
		} else {
			same = append(same, l)
		}
	}
	kept = slices.Concat(unlike, alike)
	for _, group := range [][]line{same, telling} {
		for i := len(importance) - 1; i >= 2 && total(kept) > width; i-- {
			named := func(l line) bool { return l.name == importance[i] }
			if slices.ContainsFunc(group, named) {
				kept = slices.DeleteFunc(kept, named)
				dropped++
			}
		}
	}
	return kept, dropped
}

func total(list []line) int {
	sum := -gap
	for _, l := range list {
		sum += l.width() + gap
	}
	return sum
}

// textGrid draws rows of text; the first columns, as many as left says, are aligned left.
func textGrid(out *bytes.Buffer, heads [][2]string, left int, rows [][]string) error {
	lines := make([]line, len(heads))
	for i, head := range heads {
		lines[i].column = column{name: head[1], head: head, left: i < left}
		for _, r := range rows {
			lines[i].cells = append(lines[i].cells, r[i])
		}
	}
	return grid(out, lines, make([]row, len(rows)), false)
}

// grid draws the table itself: no borders, a rule under the header, two spaces between columns.
func grid(out *bytes.Buffer, lines []line, list []row, color bool) error {
	head := make([]string, len(lines))
	aligns := make([]tw.Align, len(lines))
	paddings := make([]tw.Padding, len(lines))
	groups := slices.ContainsFunc(lines, func(l line) bool { return l.head[0] != "" })
	for i, l := range lines {
		if head[i] = l.head[1]; groups {
			head[i] = l.head[0] + "\n" + l.head[1]
		}
		aligns[i] = tw.AlignRight
		if l.left {
			aligns[i] = tw.AlignLeft
		}
		paddings[i] = tw.Padding{Right: strings.Repeat(" ", gap), Overwrite: true}
		if i == len(lines)-1 {
			paddings[i] = tw.PaddingNone
		}
	}
	var b bytes.Buffer
	section := tw.CellConfig{
		Alignment:  tw.CellAlignment{PerColumn: aligns},
		Padding:    tw.CellPadding{PerColumn: paddings, Global: tw.PaddingNone},
		Formatting: tw.CellFormatting{AutoWrap: tw.WrapNone, AutoFormat: tw.Off},
	}
	config := tablewriter.Config{
		Header: section, Row: section, Behavior: tw.Behavior{TrimSpace: tw.Off, TrimLine: tw.Off},
	}
	rule := tw.Lines{
		ShowTop: tw.Off, ShowBottom: tw.Off, ShowHeaderLine: tw.On, ShowFooterLine: tw.Off,
	}
	table := tablewriter.NewTable(&b,
		tablewriter.WithConfig(config),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders: tw.BorderNone, Symbols: tw.NewSymbols(tw.StyleLight),
			Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: rule},
		})))
	table.Header(head)
	for i := range list {
		cells := make([]string, len(lines)) // Append keeps the slice
		for j, l := range lines {
			cells[j] = l.cells[i]
			if l.name == "verdict" {
				cells[j] = paint(cells[j], list[i], color)
			}
		}
		if err := table.Append(cells); err != nil {
			return fmt.Errorf("adding the row of %s: %w", list[i].name, err)
		}
	}
	if err := table.Render(); err != nil {
		return fmt.Errorf("drawing the table: %w", err)
	}
	for text := range strings.Lines(b.String()) {
		fmt.Fprintln(out, strings.TrimRight(text, " \n"))
	}
	return nil
}

const (
	green, red, yellow, magenta = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[35m"
	bold, reset                 = "\x1b[1m", "\x1b[0m"
)

// colors of the verdicts: green is well, red is loss at the limit, yellow is anything else that the
// kernel had to do, magenta is an untrustworthy measurement.
var colors = map[results.Verdict]string{
	results.Clean: green, results.TableFull: red, results.ChainTooLong: red, results.DutDied: red,
	results.NATExhausted: red, results.StateLost: red,
	results.Evicting: yellow, results.Clash: yellow, results.NotConntrack: yellow,
	results.Invalid: magenta,
}

// paint colours each line of a verdict's cell.
func paint(cell string, r row, color bool) string {
	if !color || r.trials == 0 {
		return cell
	}
	v, _ := r.verdict()
	lines := strings.Split(cell, "\n")
	for i, l := range lines {
		lines[i] = colors[v] + l + reset
	}
	return strings.Join(lines, "\n")
}

func emphasis(s string, color bool) string {
	if !color {
		return s
	}
	return bold + s + reset
}
