package main

import (
	"maps"
	"path/filepath"
	"slices"
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

// judgeMeasured runs an experiment and judges the trial of each scenario. A scenario with errors is
// measured and judged once more.
func judgeMeasured(t *testing.T, file string,
	judge func(t testing.TB, scenario string, m measured)) {
	t.Helper()
	trials := measuredTrials(t, file)
	for _, name := range slices.Sorted(maps.Keys(trials)) {
		m := trials[name]
		labtest.Twice(t, func(try testing.TB) {
			if m.run == "" {
				m = measuredTrials(t, file, "--scenario", name)[name]
			}
			judge(try, name, m)
			m = measured{}
		})
	}
}

// measuredTrials runs an experiment and returns the trial of each scenario, which must be valid.
func measuredTrials(t *testing.T, file string, flags ...string) map[string]measured {
	t.Helper()
	o, out := measuredRun(t, 30*time.Minute, append(flags, file)...)
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	found := map[string]measured{}
	for _, s := range decode(t, o.stdout).Scenarios {
		found[s.Name] = measured{s.Trials[0], out}
	}
	return found
}

// measuredRun performs ctload run with these arguments, in a folder of its own, and with more
// attempts than usual at trials that the host spoils. Its output is the document.
func measuredRun(t *testing.T, limit time.Duration, args ...string) (o outcome, folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "run")
	o = ctload(t, limit, slices.Concat([]string{"run"}, args,
		[]string{"--format", "json", "--out", folder, labtest.Retries})...)
	return o, folder
}
