package reports

import (
	"bytes"
	"testing"
	"time"

	"github.com/ctload/ctload/search"
)

// found returns a search over four scenarios: one with an interval, one that the generator ended,
// one of which nothing held, and one that the host spoilt.
func found() *search.Report {
	value := func(v float64) *float64 { return &v }
	return &search.Report{Search: search.Found{
		Experiment: "gateway", Goal: "highest rate:users", Loss: .001, Confidence: .95,
		Keep: []string{"probes.ssh.lost == 0"}, Resolution: .02, AtLeast: 2000,
		Started: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
		Scenarios: []search.Scenario{
			{
				Name: "baseline", Value: value(1985), Low: value(1970), High: value(2001),
				Unit: "/s", Limit: search.Table, Predicted: 2048, Trials: 7, Invalid: 1,
				Made: []search.Trial{
					{Value: 1536, Step: search.Predict, Held: true, Fill: .774, Estimate: 1984},
					{Value: 1945, Step: search.Below, Held: true, Fill: .98, Estimate: 1985},
					{Value: 2026, Step: search.Above, Invalid: true},
					{Value: 2026, Step: search.Again, Loss: .0193, Fill: 1, Limit: search.Table},
				},
			},
			{
				Name: "notrack", Value: value(20480), Low: value(20480), Unit: "/s",
				Limit: search.Generator, Trials: 4,
				Made: []search.Trial{{Value: 20480, Step: search.Bracket, Held: true}},
			},
			{
				Name: "refusing", High: value(10), Unit: "/s", Limit: search.Kept, Trials: 7,
				Made: []search.Trial{{Value: 10, Step: search.Bracket, Limit: search.Kept}},
			},
			{Name: "spoilt", Unit: "/s", Invalid: 3, Stuck: true},
		},
		Notes: []string{"baseline: the load ends before its first entries expire, after 120 s: a " +
			"longer load has a lower limit"},
	}}
}

func TestSearch(t *testing.T) {
	for format, file := range map[string]string{
		"table": "search.txt", "json": "search.json", "markdown": "search.md", "csv": "search.csv",
		"junit": "search.xml",
	} {
		var b bytes.Buffer
		if err := Search(&b, format, found(), Options{}); err != nil {
			t.Fatal(err)
		}
		golden(t, file, b.Bytes())
	}
}
