package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
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
	var spoilt []string
	labtest.Repeat(t, func() bool {
		out := filepath.Join(t.TempDir(), "run")
		o := ctload(t, 10*time.Minute, append(slices.Clone(args), "--out", out)...)
		if o.status != statusOK && o.status != statusInvalid {
			t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
		}
		run := decode(t, o.stdout)
		spoilt = labtest.SpoiltIn(run)
		for _, s := range run.Scenarios {
			found[s.Name] = measured{s.Trials[0], out}
			if s.Trials[0].Verdict == results.Invalid && !slices.Contains(spoilt, s.Name) {
				t.Fatalf("%s: %s", s.Name, s.Trials[0].Sentence)
			}
		}
		args = []string{"run", file, "--format", "json", "--scenario", strings.Join(spoilt, ",")}
		return len(spoilt) == 0
	})
	if len(spoilt) > 0 {
		t.Fatalf("never measured validly: %q", spoilt)
	}
	return found
}

// untilMeasured has do make a run, and repeats it while the host has spoilt a trial of it. do
// returns how ctload ended, and the run's document.
func untilMeasured(t *testing.T, do func() (o outcome, document string)) (o outcome) {
	t.Helper()
	labtest.Repeat(t, func() bool {
		var document string
		o, document = do()
		return o.status != statusInvalid || len(labtest.SpoiltIn(decode(t, document))) == 0
	})
	return o
}

// measuredRun does the same for ctload run with these arguments, in a folder of its own. Its output
// is the document.
func measuredRun(t *testing.T, limit time.Duration, args ...string) (o outcome, folder string) {
	t.Helper()
	o = untilMeasured(t, func() (outcome, string) {
		folder = filepath.Join(t.TempDir(), "run")
		o := ctload(t, limit, slices.Concat([]string{"run"}, args,
			[]string{"--format", "json", "--out", folder})...)
		return o, o.stdout
	})
	return o, folder
}
