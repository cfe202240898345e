package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/results"
)

// measured is a valid trial, and the folder of its run.
type measured struct {
	trial results.Trial
	run   string
}

// busyHost begins the reasons why a trial is INVALID that are the host's doing: an emulated guest and its
// generator want a CPU each, and on a host with other work do not always get one.
var busyHost = []string{"the generator was the limit: pacing: ", "the agent stalled: ", "the DUT's times are uncertain "}

// measuredTrials runs an experiment and returns the trial of each scenario. Those that the host has spoilt are
// made again, as users would, three times at most; any other reason to be INVALID is a failure.
func measuredTrials(t *testing.T, file string) map[string]measured {
	t.Helper()
	found := map[string]measured{}
	args := []string{"run", file, "--format", "json"}
	for range 3 {
		out := filepath.Join(t.TempDir(), "run")
		o := ctload(t, 10*time.Minute, append(slices.Clone(args), "--out", out)...)
		if o.status != statusOK && o.status != statusInvalid {
			t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
		}
		var again []string
		for _, s := range decode(t, o.stdout).Scenarios {
			found[s.Name] = measured{s.Trials[0], out}
			for _, reason := range s.Trials[0].Invalid {
				if !slices.ContainsFunc(busyHost, func(prefix string) bool { return strings.HasPrefix(reason, prefix) }) {
					t.Fatalf("%s: %s", s.Name, reason)
				}
			}
			if s.Trials[0].Verdict == results.Invalid {
				again = append(again, s.Name)
			}
		}
		if len(again) == 0 {
			return found
		}
		t.Logf("spoilt by the host: %q", again)
		args = []string{"run", file, "--format", "json", "--scenario", strings.Join(again, ",")}
	}
	t.Fatal("three times not measured validly")
	return nil
}
