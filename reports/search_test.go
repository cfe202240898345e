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
					{Value: 2026, Step: search.Again, Fill: 1, Limit: search.Table,
						Shares: search.Shares{Lost: .0193, Retried: .05}},
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
		"junit": "search.xml", "html": "search.html",
	} {
		var b bytes.Buffer
		if err := Search(&b, format, found(), Options{}); err != nil {
			t.Fatal(err)
		}
		text := b.Bytes()
		if format == "html" {
			text = withoutParts(t, text)
		}
		golden(t, file, text)
	}
}

// curveFound returns a search over three sizes of the table, of two scenarios; the limit of the
// largest is not known.
func curveFound() *search.Report {
	value := func(v float64) *float64 { return &v }
	r := &search.Report{Search: search.Found{
		Experiment: "gateway", Goal: "highest rate:users", Confidence: .95, Resolution: .02,
		Over: "max", Started: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
	}}
	add := func(of, over string, limit, predicted float64) {
		r.Search.Scenarios = append(r.Search.Scenarios, search.Scenario{
			Name: of + "@max=" + over, Of: of, Over: over, Unit: "/s", Predicted: predicted,
			Value: value(limit), Low: value(limit * .99), High: value(limit * 1.01),
			Limit: search.Table, Trials: 7,
			Made: []search.Trial{
				{Value: limit * .98, Held: true},
				{Value: limit * 1.02, Shares: search.Shares{Lost: .02}},
			},
		})
	}
	for i, over := range []string{"4096", "16384", "65536"} {
		size := float64(int(4096) << (2 * i))
		add("baseline", over, size/120, size/118)
		add("shortened", over, size/30, size/31)
	}
	r.Search.Scenarios[5].High = nil
	return r
}

func TestSearch_Curve(t *testing.T) {
	var b bytes.Buffer
	if err := Search(&b, "html", curveFound(), Options{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "search-curve.html", withoutParts(t, b.Bytes()))
}

// TestSearch_Metrics renders the three metrics of RFC 9693, each with its unit.
func TestSearch_Metrics(t *testing.T) {
	value := func(v float64) *float64 { return &v }
	r := &search.Report{Search: search.Found{
		Experiment: "gateway", Goal: "rfc9693", Confidence: .95, Resolution: .02,
		Started: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
		Scenarios: []search.Scenario{
			{
				Name: "baseline@establishment-rate", Of: "baseline", Unit: "/s", Trials: 4,
				Metric: "maximum connection establishment rate", Limit: search.CPU,
				Value: value(5120), Low: value(5000), High: value(5240),
				Made: []search.Trial{
					{Value: 5000, Step: search.Bisect, Held: true},
					{Value: 5240, Step: search.Bisect, Limit: search.CPU,
						Shares: search.Shares{Lost: .01}},
				},
			},
			{
				Name: "baseline@capacity", Of: "baseline", Unit: "entries", Trials: 7,
				Metric: "connection tracking table capacity", Limit: search.Table,
				Predicted: 4096, Value: value(4096), Low: value(4090), High: value(4101),
				Made: []search.Trial{
					{Value: 3072, Step: search.Predict, Held: true, Fill: .75, Estimate: 4096},
				},
			},
			{
				Name: "baseline@tear-down-rate", Of: "baseline", Unit: "/s", Trials: 2,
				Metric: "connection tear-down rate",
				Value:  value(150000), Low: value(140000), High: value(160000),
				Made: []search.Trial{
					{Value: 3072, Step: search.Measure, Estimate: 140000},
					{Value: 3072, Step: search.Measure, Estimate: 160000},
				},
			},
		},
	}}
	for format, file := range map[string]string{
		"table": "search-metrics.txt", "csv": "search-metrics.csv", "junit": "search-metrics.xml",
		"json": "search-metrics.json", "markdown": "search-metrics.md",
		"html": "search-metrics.html",
	} {
		var b bytes.Buffer
		if err := Search(&b, format, r, Options{}); err != nil {
			t.Fatal(err)
		}
		text := b.Bytes()
		if format == "html" {
			text = withoutParts(t, text)
		}
		golden(t, file, text)
	}
}

func TestScale(t *testing.T) {
	for _, values := range [][]float64{{199, 204}, {100, 204}, {1, 1e6}, {7}, {}, {4096, 65536}} {
		s := scaleOf(0, 100, values)
		for _, v := range values {
			if at := s.at(v); at < 0 || at > 100 {
				t.Errorf("%v: %v is at %v", values, v, at)
			}
		}
		if n := len(s.ticks()); n < 4 || n > 20 {
			t.Errorf("%v: %d ticks", values, n)
		}
	}
}
