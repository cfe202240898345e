package reports

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// judged returns repeated with thresholds, a baseline, and text that every format has to escape.
func judged() *results.Run {
	run := repeated()
	run.Interrupted = false
	run.Summary = `pipes | stars * <tags> & "quotes"`
	run.Baseline, run.MaxRegression = "runs/last", 0.025
	run.BaselineScenarios = []string{"baseline", "raised-max", "shortened-timeouts"}
	run.BaselineNotes = []string{"kernel differs: 6.1 in the baseline, 6.12 in this run"}
	run.Regressions = []results.Regression{
		{Scenario: "baseline", Metric: "load.failed", Before: "880", After: "904"},
	}
	run.Scenarios[0].Thresholds = []results.Outcome{
		{Expression: "conntrack.drop == 0", Actual: "trial 1: conntrack.drop = 3616"},
		{
			Expression: `verdict in ["clean", "table-full"]`, Passed: true,
			Actual: `trial 3: verdict = "table-full"`,
		},
	}
	run.Scenarios[3].Thresholds = []results.Outcome{
		{Expression: "conntrack.peak <= 10", Actual: "there is no valid trial"},
	}
	return run
}

func TestFormatsGolden(t *testing.T) {
	for format, name := range map[string]string{
		"markdown": "run.md", "csv": "run.csv", "junit": "run.junit.xml", "json": "run.json",
	} {
		t.Run(format, func(t *testing.T) {
			golden(t, name, render(t, format, judged(), Options{}))
		})
	}
	golden(t, "run.om", render(t, "openmetrics", fixture(), Options{Series: sampled{3}}))
	golden(t, "table-judged.txt", render(t, "table", judged(), Options{}))
}

// TestFormats_Conclusion: JSON and CSV have the conclusion that the other formats begin with.
func TestFormats_Conclusion(t *testing.T) {
	for name, run := range map[string]*results.Run{"judged": judged(), "fixes": fixes()} {
		want := results.Conclude(run)
		var document struct{ Conclusion results.Conclusion }
		if err := json.Unmarshal(render(t, "json", run, Options{}), &document); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, document.Conclusion); diff != "" {
			t.Errorf("%s as JSON: %s", name, diff)
		}
		records, err := csv.NewReader(bytes.NewReader(render(t, "csv", run, Options{}))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		last := len(records[0]) - 1
		if records[0][last] != "conclusion" {
			t.Errorf("the last column is %s", records[0][last])
		}
		for _, r := range records[1:] {
			if r[last] != want.Of(r[1]) || r[1] == want.Scenario && r[last] != want.Answer {
				t.Errorf("%s: %s: %q", name, r[1], r[last])
			}
		}
	}
}

// TestFormatsTakeAnyRun: every format takes every run, also one without scenarios, trials or
// figures.
func TestFormatsTakeAnyRun(t *testing.T) {
	for name, run := range map[string]*results.Run{
		"nothing": {},
		"not run": {Scenarios: []results.Scenario{{Name: "a"}, {Name: "b"}}},
		"all invalid": {
			Scenarios: []results.Scenario{
				{
					Name:   "a",
					Trials: []results.Trial{{Verdict: results.Invalid, Invalid: []string{"x"}}},
				},
			},
		},
		"no figures": {
			Scenarios: []results.Scenario{
				{
					Name:   "a",
					Trials: []results.Trial{{Verdict: results.Clean, Sentence: "Nothing."}},
				},
			},
		},
		"strange names": {
			Experiment: "a|b\n<c>",
			Scenarios:  []results.Scenario{{Name: strings.Repeat("長い名前", 20)}},
		},
		"control bytes":  {Experiment: "a\x00\x1b[31mb"},
		"three and more": judged(),
	} {
		for _, format := range Formats() {
			for _, o := range []Options{{}, {Wide: true, Color: true}, {Width: 1}} {
				if len(render(t, format, run, o)) == 0 {
					t.Errorf("%s as %s is empty", name, format)
				}
			}
		}
	}
}

// TestTableIsPrintable: no text of a run can command the terminal.
func TestTableIsPrintable(t *testing.T) {
	bad := "a\x1b]0;x\x07\x00b"
	trial := results.Trial{Number: 1, Verdict: results.Invalid, Invalid: []string{bad}, Kernel: bad}
	run := &results.Run{
		Experiment: bad, Summary: bad, Warnings: []string{bad},
		Environment: results.Environment{AcceleratorNote: bad, Driver: bad},
		Scenarios: []results.Scenario{
			{
				Name: bad, Trials: []results.Trial{trial},
				Thresholds: []results.Outcome{{Expression: bad, Actual: bad}},
			},
		},
	}
	for _, b := range render(t, "table", run, Options{}) {
		if b < ' ' && b != '\n' {
			t.Fatalf("byte %#x", b)
		}
	}
}

// TestFormatsAreStable: the same run gives the same bytes.
func TestFormatsAreStable(t *testing.T) {
	for _, format := range Formats() {
		first := render(t, format, judged(), Options{})
		for range 10 {
			if !bytes.Equal(first, render(t, format, judged(), Options{})) {
				t.Errorf("%s differs", format)
			}
		}
	}
}

func TestJSONIsTheRun(t *testing.T) {
	var got results.Run
	if err := json.Unmarshal(render(t, "json", judged(), Options{}), &got); err != nil {
		t.Fatal(err)
	}
	want := *judged()
	want.Scenarios[3].Trials = []results.Trial{}
	want.Conclusion = new(results.Conclude(&want))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCSVReadBack: a spreadsheet reads the run's figures back unchanged.
func TestCSVReadBack(t *testing.T) {
	run := judged()
	records, err := csv.NewReader(bytes.NewReader(render(t, "csv", run, Options{}))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, name := range records[0] {
		if _, twice := at[name]; twice {
			t.Errorf("two columns are named %s", name)
		}
		at[name] = i
	}
	i := 1
	for _, s := range run.Scenarios {
		for _, trial := range s.Trials {
			record := records[i]
			i++
			for name, want := range map[string]float64{
				"conntrack.drop": float64(trial.Conntrack.Drop), "load.rate_per_s": trial.Load.Rate,
				"load.connect_ms.p99": trial.Load.Connect.P99, "number": float64(trial.Number),
			} {
				if got, err := strconv.ParseFloat(record[at[name]], 64); err != nil || got != want {
					t.Errorf("%s, trial %d: %s is %q, want %v", s.Name, trial.Number, name,
						record[at[name]], want)
				}
			}
			if record[at["scenario"]] != s.Name || record[at["verdict"]] != string(trial.Verdict) {
				t.Errorf("row %d: %v", i, record)
			}
			if record[at["probe.sent"]] != "" {
				t.Errorf("a probe that was not there sent %q", record[at["probe.sent"]])
			}
		}
	}
	if i != len(records) {
		t.Errorf("%d rows, want %d", len(records), i)
	}
}

// TestMarkdownTable: a Markdown table has as many cells in each row as in its header, whatever the
// text.
func TestMarkdownTable(t *testing.T) {
	run := judged()
	run.Scenarios[0].Name = "a|b"
	cells, most := -1, 0
	for line := range strings.Lines(string(render(t, "markdown", run, Options{}))) {
		if !strings.HasPrefix(line, "|") {
			cells = -1
			continue
		}
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if cells < 0 {
			cells = n
		}
		if n != cells {
			t.Errorf("%d cells, want %d: %s", n, cells, line)
		}
		most = max(most, n)
	}
	if most < 18 {
		t.Errorf("no table with all figures: %d cells", most)
	}
}

func TestJUnitCounts(t *testing.T) {
	var doc junitSuites
	if err := xml.Unmarshal(render(t, "junit", judged(), Options{}), &doc); err != nil {
		t.Fatal(err)
	}
	type counts struct{ Tests, Failures, Errors int }
	got := map[string]counts{}
	for _, s := range doc.Suites {
		got[s.Name] = counts{s.Tests, s.Failures, s.Errors}
	}
	want := map[string]counts{
		"baseline":           {4, 2, 1}, // a threshold and the regression; an invalid trial
		"raised-max":         {2, 0, 0},
		"shortened-timeouts": {2, 0, 0},
		"raw-notrack":        {2, 0, 2}, // not run: neither valid nor its threshold
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestJUnitSchema: the document is valid after the schema of Ant's dialect, for a parser that
// follows XSD.
func TestJUnitSchema(t *testing.T) {
	lint := hosttest.Program(t, "xmllint")
	check := func(data []byte) error {
		file := filepath.Join(t.TempDir(), "run.xml")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		xmllint := exec.Command(lint, "--noout", "--nonet", "--schema", "testdata/junit.xsd", file)
		out, err := xmllint.CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	good := render(t, "junit", judged(), Options{})
	if err := check(good); err != nil {
		t.Error(err)
	}
	if err := check(bytes.Replace(good, []byte(` hostname="localhost"`), nil, 1)); err == nil {
		t.Error("the schema lets anything pass")
	}
}
