package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/measuredtest"
	"github.com/ctload/ctload/results"
)

// measured is a valid trial, and the folder of its run.
type measured struct {
	trial results.Trial
	run   string
}

// measuredTrials runs an experiment and returns the trial of each scenario. It repeats trials that
// the host has spoilt; any other reason to be INVALID is a failure.
func measuredTrials(t *testing.T, file string) map[string]measured {
	t.Helper()
	found := map[string]measured{}
	args := []string{"run", file, "--format", "json"}
	for range measuredtest.Attempts {
		out := filepath.Join(t.TempDir(), "run")
		o := ctload(t, 10*time.Minute, append(slices.Clone(args), "--out", out)...)
		if o.status != statusOK && o.status != statusInvalid {
			t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
		}
		run := decode(t, o.stdout)
		again := measuredtest.SpoiltIn(run)
		for _, s := range run.Scenarios {
			found[s.Name] = measured{s.Trials[0], out}
			if s.Trials[0].Verdict == results.Invalid && !slices.Contains(again, s.Name) {
				t.Fatalf("%s: %s", s.Name, s.Trials[0].Sentence)
			}
		}
		if len(again) == 0 {
			return found
		}
		t.Logf("spoilt by the host: %q", again)
		args = []string{"run", file, "--format", "json", "--scenario", strings.Join(again, ",")}
	}
	t.Fatalf("%d times not measured validly", measuredtest.Attempts)
	return nil
}

// untilMeasured has do make a run, and repeats it while the host has spoilt a trial of it. do
// returns how ctload ended, and the run's document.
func untilMeasured(t *testing.T, do func() (o outcome, document string)) outcome {
	t.Helper()
	for attempt := 1; ; attempt++ {
		o, document := do()
		if o.status != statusInvalid || attempt == measuredtest.Attempts {
			return o
		}
		again := measuredtest.SpoiltIn(decode(t, document))
		if len(again) == 0 {
			return o
		}
		t.Logf("spoilt by the host: %q", again)
	}
}

// measuredRun does the same for ctload run with these arguments, in a folder of its own. Its output
// is the document.
func measuredRun(t *testing.T, limit time.Duration, args ...string) (o outcome, folder string) {
	t.Helper()
	o = untilMeasured(t, func() (outcome, string) {
		folder = filepath.Join(t.TempDir(), "run")
		o := ctload(t, limit, slices.Concat([]string{"run"}, args, []string{"--format", "json", "--out", folder})...)
		return o, o.stdout
	})
	return o, folder
}
