package reports

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/alerts"
)

// TrialAlerts are the alerts of a trial.
type TrialAlerts struct {
	Scenario  string          `json:"scenario"`
	Trial     int             `json:"trial"`
	FirstDrop *float64        `json:"first_drop_s,omitempty"` // nil: nothing was dropped
	Alerts    []alerts.Firing `json:"alerts"`
}

// Alerts writes which alerts fired in each trial: a table, or JSON.
func Alerts(w io.Writer, format string, list []TrialAlerts, o Options) error {
	return textOrJSON(alertTable).render(w, "the alerts", format, list, o)
}

func alertTable(out *bytes.Buffer, list []TrialAlerts, _ Options) error {
	heads := [][2]string{
		{"", "scenario"}, {"", "alert"}, {"", "trial"}, {"fired", "after s"}, {"first", "drop s"},
		{"lead", "s"},
	}
	figure := func(v *float64) string {
		if v == nil {
			return none
		}
		return results.Figure(*v)
	}
	var cells [][]string
	for _, t := range list {
		for _, a := range t.Alerts {
			name := a.Alert
			for _, label := range slices.Sorted(maps.Keys(a.Labels)) {
				name += fmt.Sprintf(" %s=%s", label, a.Labels[label])
			}
			cells = append(cells, []string{
				t.Scenario, strings.TrimSpace(name), fmt.Sprint(t.Trial), figure(a.Fired),
				figure(t.FirstDrop), figure(a.Lead),
			})
		}
	}
	return textGrid(out, heads, 2, cells)
}
