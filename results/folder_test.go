package results

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFolderRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "runs", "one")
	f, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SaveExperiment([]byte("experiment: x\n")); err != nil {
		t.Fatal(err)
	}
	tf, err := f.CreateTrial("raw-notrack", 2)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := tf.Samples()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range series() {
		if err := lines.Append(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := lines.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tf.SaveText(FileKernelLog, "<4>table full\n"),
		tf.SaveJSON(FileReadback, map[string]int{"max": 4096})); err != nil {
		t.Fatal(err)
	}
	run := &Run{Schema: SchemaVersion, ID: "r", Experiment: "x", Scenarios: []Scenario{{
		Name: "raw-notrack",
		Trials: []Trial{
			{Number: 2, Folder: tf.Name(), Verdict: TableFull,
				Conntrack: Conntrack{SecondsToFull: s(1.5)}},
		},
	}}}
	for range 2 { // the second replaces the first
		if err := f.Save(run); err != nil {
			t.Fatal(err)
		}
	}

	for _, path := range []string{dir, filepath.Join(dir, fileRun)} {
		opened, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := opened.Load()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(run, got); diff != "" {
			t.Error(diff)
		}
		of, err := opened.Trial(&got.Scenarios[0].Trials[0])
		if err != nil {
			t.Fatal(err)
		}
		samples, err := readLines[Sample](of, FileSamples)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(series(), samples); diff != "" {
			t.Error(diff)
		}
		if probes, err := readLines[ProbeSample](of, fileProbe); err != nil || probes != nil {
			t.Errorf("probes: %v, %v", probes, err)
		}
	}
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{fileExperiment, fileRun, "trials"}, names); diff != "" {
		t.Errorf("left in the folder: %s", diff)
	}
}

func TestFolderErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a folder in use: %v", err)
	}
	if _, err := Open(dir); !errors.Is(err, errNoRun) {
		t.Errorf("a folder without a run: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "nowhere")); !errors.Is(err, errNoRun) {
		t.Errorf("no folder: %v", err)
	}
	f, err := Attach(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "..", "a/b", "-x", "a b"} {
		if _, err := f.CreateTrial(name, 1); err == nil {
			t.Errorf("scenario %q named a folder", name)
		}
	}
	if _, err := f.Trial(&Trial{Folder: "../elsewhere"}); err == nil {
		t.Error("a trial outside the run was opened")
	}
}

// TestLinesDiskFull: a full disk gives an error that says so; /dev/full is always full.
func TestLinesDiskFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	lines := &Lines[Sample]{file: full}
	err = lines.Append(Sample{})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("got %v", err)
	}
	if err := lines.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadLines(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []ProbeSample
		err        string
	}{
		{"empty", "", nil, ""},
		{"whole", "{\"t\":1}\n{\"t\":2}\n", []ProbeSample{{Seconds: 1}, {Seconds: 2}}, ""},
		{"no last newline", "{\"t\":1}\n{\"t\":2}", []ProbeSample{{Seconds: 1}, {Seconds: 2}}, ""},
		{"torn", "{\"t\":1}\n{\"t\":2,\"o", []ProbeSample{{Seconds: 1}}, ""},
		{"torn in the middle", "{\"t\":1}\n{\"t\":2,\"o\n{\"t\":3}\n", nil, "line 2"},
		{"broken last line", "{\"t\":1}\n{\"t\":2,\"o\n", nil, "line 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseLines[ProbeSample]([]byte(test.text))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	for _, test := range []struct{ name, text, err string }{
		{"this schema", `{"schema":1,"experiment":"x"}`, ""},
		{"before the first release", `{"experiment":"x"}`, ""},
		{"a field of a newer build", `{"schema":1,"experiment":"x","moon":"full"}`, ""},
		{"a newer schema", `{"schema":99}`, "schema 99"},
		{"no JSON", "{\n  \"schema\": 1,\n  oops\n}", "line 3, column 3"},
		{"another type", "{\n\"schema\": 1,\n\"experiment\": 5}", "line 3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			run, err := decode([]byte(test.text))
			switch {
			case test.err == "" && err != nil:
				t.Fatal(err)
			case test.err == "" && (run.Experiment != "x" || run.Schema != SchemaVersion):
				t.Errorf("%+v", run)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("got %v, want %s", err, test.err)
			}
		})
	}
}

// TestDecode_NoVerdict takes a trial without a verdict, or with a word that is none, as INVALID.
func TestDecode_NoVerdict(t *testing.T) {
	run, err := decode([]byte(`{"scenarios": [{"trials": [{}, {"verdict": "fine"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, trial := range run.Scenarios[0].Trials {
		if trial.Verdict != Invalid || !strings.Contains(trial.WhyInvalid(), "is no verdict") {
			t.Errorf("%+v", trial)
		}
	}
	if run.Scenarios[0].Valid() > 0 {
		t.Error("a trial without a verdict is valid")
	}
}

func TestReplaceLines(t *testing.T) {
	folder, err := Create(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	trial, err := folder.CreateTrial("a", 1)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := trial.Samples()
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []error{
		lines.Append(Sample{Seconds: 1}), lines.Append(Sample{Seconds: 2}),
		lines.Replace([]Sample{{Seconds: 1.5}}), lines.Append(Sample{Seconds: 3}), lines.Close(),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	got, err := readLines[Sample](trial, FileSamples)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Sample{{Seconds: 1.5}, {Seconds: 3}}, got); diff != "" {
		t.Error(diff)
	}
}
