package reports

import (
	"bytes"
	"fmt"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

// compared maps a column of the table to the compared metric behind it.
var compared = map[string]string{
	"completed": "load.completed", "failed": "load.failed", "conn/s": "load.rate_per_s",
	"connect p50 ms": "load.connect_ms.p50", "connect p99 ms": "load.connect_ms.p99",
	"peak": "conntrack.peak", "drop": "conntrack.drop", "early_drop": "conntrack.early_drop",
	"insert_failed": "conntrack.insert_failed", "seconds to full": "conntrack.seconds_to_full",
	"seconds to recover": "conntrack.seconds_to_recover", "probe lost %": "probe.lost", "probe p99 ms": "probe.latency_ms.p99",
}

// differences show how the other scenarios differ from the first, under the columns of the table.
type differences struct {
	title string
	lines []line // none when there are too few trials for a significant difference
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
		title: fmt.Sprintf("Difference from %s (~: not significant, =: no difference)", list[0].name),
		rows:  list[1:], notes: c.Notes,
	}
	if c.TooFew {
		return d, nil
	}
	d.lines = []line{{column: columns[0]}}
	for _, r := range d.rows {
		d.lines[0].cells = append(d.lines[0].cells, columns[0].cell(r))
	}
	for _, col := range columns {
		for _, m := range c.Groups[0].Rows {
			if m.Metric.Name != compared[col.name] || col.optional && col.empty(list) {
				continue
			}
			l := line{column: col}
			for _, cell := range m.Cells[1:] {
				l.cells = append(l.cells, delta(cell))
			}
			d.lines = append(d.lines, l)
		}
	}
	return d, nil
}

// write draws the differences for a terminal.
func (d differences) write(b *bytes.Buffer, width int, wide bool) error {
	if len(d.lines) == 0 {
		return nil
	}
	lines := d.lines
	if !wide {
		lines, _ = fit(lines, width)
	}
	paragraph(b, "", d.title, width)
	b.WriteByte('\n')
	if err := grid(b, lines, d.rows, false); err != nil {
		return err
	}
	b.WriteByte('\n')
	return nil
}

func delta(c compare.Cell) string {
	if c.N == 0 {
		return none
	}
	return c.Delta()
}
