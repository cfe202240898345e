package reports

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

// pastRuns returns runs of the fixture on following days; from the sixth on, more requests failed.
func pastRuns(n int) (list []results.Listed) {
	for day := range n {
		run := fixture()
		run.Started = run.Started.Add(time.Duration(day) * 24 * time.Hour)
		run.Tags = map[string]string{"branch": "main|*x*"}
		t := &run.Scenarios[0].Trials[0]
		t.Load.Failed = int64(900 + day%3)
		t.Conntrack.SecondsToFull = seconds(4 + float64(day))
		if day >= n/2 {
			t.Load.Failed += 1000
			t.Conntrack.SecondsToFull = nil
			run.Environment.Kernel = "6.12.9"
		}
		t.Load.Completed = new(t.Load.Offered - t.Load.Failed)
		name := "runs/night-" + run.Started.Format("02")
		list = append(list, results.Listed{Path: name, Run: run})
	}
	return list
}

func TestHistory(t *testing.T) {
	h, err := compare.Follow("table-full", pastRuns(10))
	if err != nil {
		t.Fatal(err)
	}
	written := func(format string, o Options) string {
		var b bytes.Buffer
		if err := History(&b, format, []*compare.History{h}, o); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	golden(t, "history.txt", []byte(written("table", Options{})))
	for _, line := range strings.Split(written("table", Options{Verbose: true}), "\n") {
		if n := len([]rune(line)); n > 80 && !strings.Contains(line, "branch=") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if md := written("markdown", Options{}); !strings.Contains(md, `branch=main\|\*x\*`) {
		t.Errorf("the tag is markup:\n%s", md)
	}
	if page := written("html", Options{}); !strings.Contains(page, "▁") ||
		strings.Contains(page, "<script") || strings.Count(page, "<polyline") < 2 ||
		!strings.Contains(page, "<title>night-25: 1902</title>") {
		t.Errorf("the page lacks the figures over the runs, or has a script:\n%s", page)
	}
	var documents []struct {
		Experiment string
		Scenarios  []struct {
			Figures []struct {
				Name    string
				Values  []*float64
				Changes []struct {
					Run           string
					Before, After *float64
					Worse, Better bool
					Beside        []string
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(written("json", Options{})), &documents); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range documents[0].Scenarios[0].Figures {
		if f.Name == "load.failed" {
			found++
			c := f.Changes
			if len(f.Values) != 10 || *f.Values[0] != 900 || len(c) != 1 ||
				c[0].Run != "night-25" || *c[0].Before != 901 || *c[0].After != 1901 ||
				!c[0].Worse || c[0].Better || len(c[0].Beside) != 1 {
				t.Errorf("%+v", f)
			}
		}
	}
	if found != 1 {
		t.Errorf("load.failed is %d times in it", found)
	}
}

func TestSparkline(t *testing.T) {
	never, none := math.Inf(1), math.NaN()
	for want, values := range map[string][]float64{
		"▁█":   {1, 2},
		"▁▁":   {5, 5},
		"▁·▅█": {0, none, 5, 10},
		"▁↑":   {3, never},
		"":     nil,
	} {
		if got := sparkline(values); got != want {
			t.Errorf("%v: %s, want %s", values, got, want)
		}
	}
	many := make([]float64, 100)
	if got := []rune(sparkline(many)); len(got) != sparkRuns {
		t.Errorf("%d runs are drawn", len(got))
	}
}
