package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// TestZero holds loads of both address families and an action to one axis: crafted packets leave
// from second 0 on, a first burst loses nothing to unknown neighbours, and a later entry begins in
// its second.
func TestZero(t *testing.T) {
	labtest.Need(t)
	const text = `
experiment: zero
topology: {kind: server, families: [ipv4, ipv6]}
dut:
  rules: &rules |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
  rules6: *rules
workload:
  - {generator: icmp, flows: 300, rate: 100/s}
  - {generator: udp, flows: 800, burst: {size: 800, every: 1s}, silent: true}
  - {generator: syn, flows: 100, rate: 100/s, start: 1s}
actions: [{action: flush, at: 1500ms}]
recovery: 500ms
`
	o, folder := measuredRun(t, time.Minute, experiment(t, text), "--driver", "netns")
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	trial := decode(t, o.stdout).Scenarios[0].Trials[0]
	exact(t, "zero", trial.Transit)
	if skew := trial.Clock.StartSkewMillis; skew > 50 {
		t.Errorf("a load began %.1f ms beside its instant", skew)
	}
	if at := *trial.Actions[0].Begun; math.Abs(at-1.5) > 0.05 {
		t.Errorf("the flush was made at %.3f s, want 1.5", at)
	}
	var made struct{ Entries map[string]generators.Result }
	data, err := os.ReadFile(filepath.Join(folder, trial.Folder, results.FileHistograms))
	if err == nil {
		err = json.Unmarshal(data, &made)
	}
	if err != nil {
		t.Fatal(err)
	}
	due, missed := make([]int64, 3), int64(0)
	for name, e := range made.Entries {
		start := int(math.Round(trial.Entries[name].Start))
		for i, second := range e.Series {
			due[start+i] += second.Due
		}
		missed += e.Missed
	}
	if want := []int64{900, 200, 100}; !slices.Equal(due, want) || missed > 0 {
		t.Errorf("due in each second %d, missed %d; want %d", due, missed, want)
	}
	// All of the first second are in the table, besides those of the DUT's own.
	if peak := trial.Conntrack.Peak; peak < 900 {
		t.Errorf("peak %d, want at least the 900 of second 0", peak)
	}
}
