package reports

import (
	"encoding/csv"
	"fmt"
	"io"

	"github.com/ctload/ctload/results"
)

// renderCSV writes a row for each trial, the invalid ones too (their verdict says so), with a
// header of the figures' paths in run.json: raw values, no medians, for a spreadsheet or a data
// frame. The format is RFC 4180 with LF ends of line.
func renderCSV(w io.Writer, run *results.Run, _ Options) error {
	out := csv.NewWriter(w)
	header := []string{"experiment", "scenario"}
	for _, c := range results.Flatten(&results.Trial{}) {
		header = append(header, c.Path)
	}
	if err := out.Write(header); err != nil {
		return fmt.Errorf("writing the header: %w", err)
	}
	for _, s := range run.Scenarios {
		for i := range s.Trials {
			record := []string{run.Experiment, s.Name}
			for _, c := range results.Flatten(&s.Trials[i]) {
				record = append(record, c.Value)
			}
			if err := out.Write(record); err != nil {
				return fmt.Errorf("writing trial %d of %s: %w", s.Trials[i].Number, s.Name, err)
			}
		}
	}
	out.Flush()
	return out.Error()
}
