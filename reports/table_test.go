package reports

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mattn/go-runewidth"

	"github.com/ctload/ctload/results"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file of testdata, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

func render(t testing.TB, format string, run *results.Run, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Render(&b, format, run, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// repeated returns the fixture with three trials for each scenario, the second of baseline invalid,
// and cut short before the last scenario began.
func repeated() *results.Run {
	run := fixture()
	run.Interrupted = true
	run.Warnings = []string{"the host was busy: load 3.1 on 2 CPUs"}
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		first := s.Trials[0]
		for n := 2; n <= 3; n++ {
			t, l := first, *first.Load
			t.Number, t.Load = n, &l
			t.Load.Rate *= 1 + 0.02*float64(n)
			t.Seconds *= 1 - 0.02*float64(n)
			s.Trials = append(s.Trials, t)
		}
	}
	bad := &run.Scenarios[0].Trials[1]
	bad.Invalid = []string{
		"the generator ran out of source ports",
		"nf_conntrack_max read back 8192 after the load, 4096 was asked for",
	}
	results.Judge(bad)
	run.Scenarios[3].Trials = nil
	return run
}

func TestTableGolden(t *testing.T) {
	for _, test := range []struct {
		name string
		run  *results.Run
		o    Options
	}{
		{"table-80", fixture(), Options{}},
		{"table-120", fixture(), Options{Width: 120}},
		{"table-wide", fixture(), Options{Wide: true}},
		{"table-color", fixture(), Options{Width: 100, Color: true}},
		{"table-trials", repeated(), Options{Width: 100}},
		{"table-empty", &results.Run{Experiment: "table-full", Interrupted: true}, Options{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			golden(t, test.name+".txt", render(t, "table", test.run, test.o))
		})
	}
}

// TestTableFits: the table fits the given width, at every width at which its first columns fit.
func TestTableFits(t *testing.T) {
	for _, run := range []*results.Run{fixture(), repeated()} {
		var commands string // which stay whole
		for _, s := range results.Conclude(run).Steps {
			commands += s.Text + "\n"
		}
		for width := 60; width <= 240; width++ {
			text := render(t, "table", run, Options{Width: width})
			for line := range strings.Lines(string(text)) {
				if strings.Contains(commands, line) {
					continue
				}
				if n := runewidth.StringWidth(strings.TrimRight(line, "\n")); n > width {
					t.Fatalf("at %d columns a line has %d: %q", width, n, line)
				}
			}
		}
	}
}

// TestImportanceNamesAllColumns: each column has its place in the order in which columns are
// dropped, and none twice.
func TestImportanceNamesAllColumns(t *testing.T) {
	names := map[string]bool{}
	for _, c := range columns {
		names[c.name] = true
	}
	for _, name := range importance {
		if !names[name] {
			t.Errorf("%q is no column, or named twice", name)
		}
		delete(names, name)
	}
	for name := range names {
		t.Errorf("column %q has no place", name)
	}
}

func TestUnknownFormat(t *testing.T) {
	err := Render(&bytes.Buffer{}, "jsn", fixture(), Options{})
	if err == nil || !strings.Contains(err.Error(), `did you mean "json"?`) {
		t.Errorf("got %v", err)
	}
}

func TestUnseenDropsAreSaid(t *testing.T) {
	run := fixture()
	for i := range run.Scenarios[:2] {
		for j := range run.Scenarios[i].Trials {
			run.Scenarios[i].Trials[j].Stack = &results.Stack{
				DropReasonsMissing: "this kernel gives no reasons",
			}
		}
	}
	want := "baseline, raised-max: drops could not be counted by the kernel's reason: this " +
		"kernel gives no reasons"
	if notes := footnotes(run, rows(run)); !slices.Contains(notes, want) {
		t.Errorf("%q is not in %q", want, notes)
	}
}
