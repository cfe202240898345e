package reports

import (
	"bytes"
	"encoding/csv"

	"github.com/ctload/ctload/results"
)

// renderCSV writes a row for each trial, the invalid ones too (their verdict says so), with a
// header of the figures' paths in run.json: raw values, no medians, for a spreadsheet or a data
// frame. The format is RFC 4180 with LF ends of line.
func renderCSV(b *bytes.Buffer, run *results.Run, _ Options) error {
	records := [][]string{{"experiment", "scenario"}}
	for _, c := range results.Flatten(&results.Trial{}) {
		records[0] = append(records[0], c.Path)
	}
	for _, s := range run.Scenarios {
		for i := range s.Trials {
			record := []string{run.Experiment, s.Name}
			for _, c := range results.Flatten(&s.Trials[i]) {
				record = append(record, c.Value)
			}
			records = append(records, record)
		}
	}
	return csv.NewWriter(b).WriteAll(records)
}
