package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/results"
)

// payloads are texts that a stranger may put into every text of a run or an experiment.
var payloads = map[string]string{
	"terminal":    "\x1b]0;own\a\x1b[2J\u009b31m",
	"direction":   "\u202egnp\u2066\u200b\u2028",
	"markup":      "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
	"spreadsheet": "=cmd|' /C calc'!A0",
	"markdown":    "x](javascript:alert(1)) ![a](http://evil/) `a` | b\n\n# h <b>",
}

// kept are fields whose words the model fixes.
var kept = []string{"folder", "verdict", "also", "started", "unit", "ended", "workload", "actions"}

// poison puts a payload before every text of a JSON document.
func poison(value any, key, payload string) any {
	switch v := value.(type) {
	case map[string]any:
		for k, of := range v {
			v[k] = poison(of, k, payload)
		}
	case []any:
		for i, of := range v {
			v[i] = poison(of, key, payload)
		}
	case string:
		if !slices.Contains(kept, key) {
			return payload + v
		}
	}
	return value
}

// obeyed reports whether a terminal would do more with a character than to show it.
func obeyed(r rune) bool {
	return r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// TestOutput_OfHostileRun prints a run whose every text is hostile, in every format.
func TestOutput_OfHostileRun(t *testing.T) {
	source, err := os.ReadFile("testdata/runs/after/run.json")
	if err != nil {
		t.Fatal(err)
	}
	for kind, payload := range payloads {
		var document any
		if err := json.Unmarshal(source, &document); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(poison(document, "", payload))
		dir := t.TempDir()
		err = firstError(err, os.WriteFile(filepath.Join(dir, "run.json"), text, 0o600),
			os.WriteFile(filepath.Join(dir, "experiment.yaml"), []byte("# "+payload+"\n"), 0o600))
		if err != nil {
			t.Fatal(err)
		}
		commands := [][]string{{"compare", dir, dir}, {"compare", dir, dir, "--format", "markdown"},
			{"compare", dir, dir, "--format", "json"}, {"report", dir, "--baseline", dir, "--wide"},
			{"report", dir, "--threshold", "load.failed == 12345"},
			{"report", dir, "--threshold", payload + " == 1"}}
		for _, format := range []string{"table", "markdown", "csv", "junit", "html", "json"} {
			commands = append(commands, []string{"report", dir, "--format", format})
		}
		for _, args := range commands {
			format := args[len(args)-1]
			t.Run(kind+" "+args[0]+" "+strings.ReplaceAll(format, "/", "."), func(t *testing.T) {
				var stdout, stderr strings.Builder
				run(t.Context(), args, &stdout, &stderr)
				out := stdout.String()
				if strings.ContainsFunc(out, obeyed) {
					t.Errorf("stdout obeys: %.300q", out)
				}
				if strings.ContainsFunc(stderr.String(), obeyed) {
					t.Errorf("stderr obeys: %.300q", stderr.String())
				}
				if format != "json" && format != "csv" && args[0] == "report" &&
					slices.Contains(args, "--format") && format != "table" &&
					strings.Contains(out, "<script>alert") {
					t.Error("markup is obeyed")
				}
				if format == "csv" {
					for _, record := range records(t, out) {
						if i := slices.IndexFunc(record, func(cell string) bool {
							return strings.HasPrefix(cell, "=")
						}); i >= 0 {
							t.Errorf("a cell is a formula: %q", record[i])
						}
					}
				}
				if format == "json" && args[0] == "report" {
					sameTexts(t, text, out)
				}
			})
		}
	}
}

// firstError returns the first error.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func records(t *testing.T, text string) [][]string {
	t.Helper()
	list, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// sameTexts requires JSON to keep every text as it was.
func sameTexts(t *testing.T, want []byte, got string) {
	t.Helper()
	var before, after results.Run
	if json.Unmarshal(want, &before) != nil || json.Unmarshal([]byte(got), &after) != nil {
		t.Fatalf("no run: %.200s", got)
	}
	for i, s := range before.Scenarios {
		if is := after.Scenarios[i]; is.Name != s.Name || is.Summary != s.Summary ||
			is.Configuration.Rules != s.Configuration.Rules ||
			after.Experiment != before.Experiment {
			t.Errorf("JSON holds %q for %q", is.Name, s.Name)
		}
	}
}

// TestOutput_OfHostileExperiment gives every command that reads an experiment hostile ones, valid
// and not.
func TestOutput_OfHostileExperiment(t *testing.T) {
	for kind, payload := range payloads {
		quoted, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		for validity, text := range map[string]string{
			"valid": "experiment: a\nsummary: " + string(quoted) + "\n" +
				"workload: [{generator: http, requests: 5, concurrency: 1}]\n",
			"invalid": "experiment: a\n" + string(quoted) + ": 5\nworkload: " +
				string(quoted) + "\n",
			"raw": "experiment: a\nsummary: " + payload + "\nworkload: 5\n",
		} {
			t.Run(kind+" "+validity, func(t *testing.T) {
				file := experiment(t, text)
				for _, args := range [][]string{
					{"scenarios", "validate", file}, {"run", file, "--dry-run"}, {"plan", file},
				} {
					var stdout, stderr strings.Builder
					run(t.Context(), args, &stdout, &stderr)
					said := stdout.String() + stderr.String()
					if strings.ContainsFunc(said, obeyed) {
						t.Errorf("ctload %q obeys: %.300q", args, said)
					}
				}
			})
		}
	}
}

// TestOutput_OfEmptyTrials prints runs whose trials lack what every trial has, in every format.
func TestOutput_OfEmptyTrials(t *testing.T) {
	dir := t.TempDir()
	const text = `{"experiment": "x", "scenarios": [{"name": "a", "trials": [{}]}, ` +
		`{"name": "b", "trials": [{"verdict": "fine"}, {"verdict": "clean"}]}, {}]}`
	if err := os.WriteFile(filepath.Join(dir, "run.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"table", "markdown", "csv", "junit", "html", "json"} {
		var stdout, stderr strings.Builder
		status := run(t.Context(), []string{"report", dir, "--format", format}, &stdout, &stderr)
		if stdout.Len() == 0 && status == statusOK {
			t.Errorf("%s: status %d without output\n%s", format, status, stderr.String())
		}
	}
}

// TestReaders_WithoutEnd gives every command that reads a text what has no end, or no beginning, or
// is none: each ends soon, with the path in its message.
func TestReaders_WithoutEnd(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	err := firstError(unix.Mkfifo(in("pipe"), 0o600), os.Mkdir(in("folder"), 0o700),
		os.WriteFile(in("sparse"), nil, 0o600), os.Truncate(in("sparse"), 2<<30),
		os.WriteFile(in("zeros"), make([]byte, 100), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := filepath.Abs("testdata/runs/after")
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{
		{"explain"}, {"capture", "--show", "--from"}, {"import"}, {"scenarios", "from-capture"},
		{"scenarios", "validate"}, {"plan"}, {"run", "--dry-run"}, {"report"},
		{"report", whole, "--alerts"}, {"run", "table-full", "--dry-run", "--rules"},
		{"merge"}, {"compare", whole}, {"report", whole, "--baseline"},
	} {
		for _, path := range []string{"/dev/zero", "/proc/self/mem", in("pipe"), in("folder"),
			in("sparse"), in("zeros")} {
			args := append(slices.Clone(words), path)
			o := ctload(t, 20*time.Second, args...)
			if o.status != statusUsage && o.status != statusHost {
				t.Errorf("ctload %q: exit status %d\n%s%s", args, o.status, o.stdout, o.stderr)
			}
			if !strings.Contains(o.stderr, filepath.Base(path)) {
				t.Errorf("ctload %q does not name the path: %s", args, o.stderr)
			}
		}
	}
	// An output that was saved empty, as that of dmesg without its rights, keeps no others out.
	err = firstError(os.WriteFile(in("empty"), nil, 0o600),
		os.WriteFile(in("count"), []byte("net.netfilter.nf_conntrack_count = 5\n"), 0o600))
	if o := ctload(t, 20*time.Second, "explain", in("empty"), in("count")); err != nil ||
		o.status != statusOK {
		t.Errorf("%v: exit status %d\n%s", err, o.status, o.stderr)
	}
	// What comes through a pipe has no size.
	for _, words := range [][]string{{"explain", "-"}, {"plan", "-"}, {"run", "-", "--dry-run"}} {
		for _, text := range []string{"\x00", "x"} {
			cmd := command(t, words...)
			cmd.Stdin = endless(text)
			if o := finish(t, cmd, 20*time.Second); o.status != statusUsage {
				t.Errorf("ctload %q with %q without end: exit status %d\n%s", words, text, o.status,
					o.stderr)
			}
		}
	}
}

// endless repeats a text.
type endless string

func (e endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}
