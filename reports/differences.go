package reports

import (
	"bytes"
	"fmt"

	"github.com/ctload/ctload/results"
)

// compared names the metric behind a column of the table, for those that are compared.
var compared = map[string]string{
	"completed": "load.completed", "failed": "load.failed", "conn/s": "load.rate_per_s",
	"connect p50 ms": "load.connect_ms.p50", "connect p99 ms": "load.connect_ms.p99",
	"peak": "conntrack.peak", "drop": "conntrack.drop", "early_drop": "conntrack.early_drop",
	"insert_failed": "conntrack.insert_failed", "seconds to full": "conntrack.seconds_to_full",
	"seconds to recover": "conntrack.seconds_to_recover", "probe lost %": "probe.lost", "probe p99 ms": "probe.latency_ms.p99",
}

// differences draws how the other scenarios differ from the first, under the columns that the
// table has, when there are trials enough to have a spread. It returns the notes of the comparison.
func differences(b *bytes.Buffer, run *results.Run, list []row, width int, wide bool) ([]string, error) {
	if !several(list) || len(list) < 2 || len(list[0].valid) == 0 {
		return nil, nil
	}
	c, err := results.CompareScenarios(run)
	if err != nil {
		return nil, fmt.Errorf("comparing the scenarios: %w", err)
	}
	if c.TooFew {
		return c.Notes, nil
	}
	lines := []line{{column: columns[0]}}
	for _, r := range list[1:] {
		lines[0].cells = append(lines[0].cells, columns[0].cell(r))
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
			lines = append(lines, l)
		}
	}
	if !wide {
		lines, _ = fit(lines, width)
	}
	paragraph(b, "", fmt.Sprintf("Difference from %s (~: not significant, =: no difference)", list[0].name), width)
	b.WriteByte('\n')
	if err := grid(b, lines, list[1:], false); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return c.Notes, nil
}

func delta(c results.ComparedCell) string {
	if c.N == 0 {
		return none
	}
	return c.Delta()
}
