package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// TestReaders_OfPart gives every command that reads runs a killed one, and empty documents: none of
// them takes a part for the whole.
func TestReaders_OfPart(t *testing.T) {
	whole := "testdata/runs/before"
	text, err := os.ReadFile(filepath.Join(whole, "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ text, says string }{
		"killed": {strings.Replace(string(text), `"experiment"`,
			`"planned": 6, "unfinished": true, "experiment"`, 1), "2 of 6 trials"},
		"interrupted": {strings.Replace(string(text), `"experiment"`,
			`"interrupted": true, "experiment"`, 1), "unfinished"},
		"empty": {"{}", "empty"},
		"null":  {"null", "empty"},
	} {
		part := filepath.Join(t.TempDir(), "part")
		err := os.Mkdir(part, 0o700)
		if err == nil {
			err = os.WriteFile(filepath.Join(part, "run.json"), []byte(tc.text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		commands := [][]string{
			{"report", part}, {"report", part, "--threshold", "load.failed == 0"},
			{"report", part, "--format", "junit"}, {"report", part, "--format", "json"},
			{"report", part, "--format", "html", "-o", filepath.Join(t.TempDir(), "page.html")},
		}
		if name == "killed" || name == "interrupted" { // else the runs are unlike
			commands = append(commands, []string{"report", part, "--baseline", whole},
				[]string{"report", whole, "--baseline", part}, []string{"compare", whole, part},
				[]string{"compare", part, whole}, []string{"compare", whole, part, "--across-labs"},
				[]string{"compare", whole, part, "--format", "json"})
		}
		for _, args := range commands {
			t.Run(name+" "+strings.Join(args[:min(len(args), 4)], " "), func(t *testing.T) {
				var stdout, stderr strings.Builder
				status := run(t.Context(), args, &stdout, &stderr)
				if status != statusInvalid || !strings.Contains(stderr.String(), tc.says) {
					t.Errorf("exit status %d, want %d and %q\n%s%s", status, statusInvalid, tc.says,
						stdout.String(), stderr.String())
				}
				if args[len(args)-1] == "junit" && !strings.Contains(stdout.String(), "<error ") {
					t.Errorf("JUnit is green:\n%s", stdout.String())
				}
			})
		}
	}
}

// sixTrials is an experiment whose trials take about a second each, in namespaces.
const sixTrials = `
experiment: six
trials: 3
recovery: 0s
workload: [{generator: tcp, rate: 100/s, duration: 1s}]
thresholds: {all: [load.failed == 0]}
scenarios: {a: {}, b: {summary: another}}
`

// TestResume kills a run between its trials. Its readers call it a part, and --resume makes the
// rest: what was measured before stays as it is.
func TestResume(t *testing.T) {
	needsLab(t)
	dir := filepath.Join(t.TempDir(), "run")
	cmd := command(t, "run", experiment(t, sixTrials), "--driver", "netns", "--out", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	load := func() *results.Run {
		f, err := results.Open(dir)
		if err != nil {
			return &results.Run{}
		}
		defer f.Close()
		run, err := f.Load()
		if err != nil {
			t.Fatal(err)
		}
		return run
	}
	trials := func(run *results.Run) (list []results.Trial) {
		for _, s := range run.Scenarios {
			list = append(list, s.Trials...)
		}
		return list
	}
	if !hosttest.Poll(time.Minute, func() bool { return len(trials(load())) >= 2 }) {
		t.Fatal("two trials were not made")
	}
	if o := ctload(t, time.Minute, "run", "--resume", dir); o.status != statusHost ||
		!strings.Contains(o.stderr, "another ctload") {
		t.Errorf("a run under way was resumed: exit status %d\n%s", o.status, o.stderr)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	before := load()
	part := trials(before)
	if !before.Unfinished || before.Planned != 6 || len(part) >= 6 {
		t.Fatalf("unfinished %v, %d of %d trials", before.Unfinished, len(part), before.Planned)
	}
	o := ctload(t, time.Minute, "report", dir, "--threshold", "load.failed == 0")
	if says := fmt.Sprintf("%d of 6 trials", len(part)); o.status != statusInvalid ||
		!strings.Contains(o.stderr, says) || !strings.Contains(o.stdout, says) {
		t.Errorf("exit status %d, want %d and %q\n%s\n%s", o.status, statusInvalid, says, o.stdout,
			o.stderr)
	}
	o = ctload(t, time.Minute, "run", "--resume", dir, "--trials", "9")
	if o.status != statusUsage {
		t.Errorf("--trials with --resume: exit status %d\n%s", o.status, o.stderr)
	}
	// The sandbox that was killed holds its lock for a moment.
	if !hosttest.Poll(time.Minute, func() bool {
		o = ctload(t, 2*time.Minute, "run", "--resume", dir)
		return o.status != statusHost
	}) || o.status != statusOK && o.status != statusInvalid {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	after := load()
	all := trials(after)
	counted := slices.DeleteFunc(slices.Clone(all), func(t results.Trial) bool {
		return t.RepeatedAs > 0 // the host spoilt it, and it was measured again
	})
	if len(counted) != 6 || after.Part("") != nil || after.Seconds <= before.Seconds ||
		!after.Started.Equal(before.Started) || len(after.Scenarios[0].Thresholds) != 1 {
		t.Errorf("%d trials, %v, %.1f s after %.1f s, thresholds %v", len(counted), after.Part(""),
			after.Seconds, before.Seconds, after.Scenarios[0].Thresholds)
	}
	for _, was := range part {
		kept := false
		for _, is := range all {
			kept = kept || is.Folder == was.Folder && is.Started.Equal(was.Started)
		}
		if !kept {
			t.Errorf("%s was measured again", was.Folder)
		}
	}
	if o := ctload(t, time.Minute, "run", "--resume", dir); o.status == statusOK ||
		!strings.Contains(o.stderr, "nothing to resume") {
		t.Errorf("a finished run: exit status %d\n%s", o.status, o.stderr)
	}
}
