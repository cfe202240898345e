package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// busyLoops keeps two CPUs busy until the test ends. Where the test is killed, the kernel ends the
// loops after a limit of CPU time.
func busyLoops(t *testing.T, limit time.Duration) {
	t.Helper()
	for range 2 {
		loop := fmt.Sprintf("ulimit -t %.0f; while :; do :; done", limit.Seconds())
		cmd := exec.Command("sh", "-c", loop)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

// TestPacing_BusyHost makes trials of low rates in namespaces, where one late send is a large share
// of all, beside two busy loops: none is INVALID for pacing, and all counts are exact.
func TestPacing_BusyHost(t *testing.T) {
	labtest.Need(t)
	rates, trials, limit := []int{30, 100, 250}, 1, 2*time.Minute
	if hosttest.Long() {
		rates, trials, limit = []int{30, 60, 100, 150, 250}, 20, 30*time.Minute
	}
	text := `
experiment: busy-host
dut:` + tracked + `
workload:
  - {generator: tcp, rate: 30/s, duration: 1500ms, timeout: 30s}
recovery: 1s
scenarios:
`
	for _, rate := range rates {
		text += fmt.Sprintf("  r%[1]d: {workload: {tcp: {rate: %[1]d/s}}}\n", rate)
	}
	busyLoops(t, limit)
	// Beside the other tests, and not only the two loops, a trial may still be late.
	var late string
	labtest.Repeat(t, func() (good bool) {
		late = ""
		o := ctload(t, limit, "run", experiment(t, text), "--driver", "netns",
			"--trials", fmt.Sprint(trials), "--retries", "0", "--format", "json")
		if o.status != statusOK && o.status != statusInvalid {
			t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
		}
		n := 0
		for _, s := range decode(t, o.stdout).Scenarios {
			rate, err := strconv.ParseInt(strings.TrimPrefix(s.Name, "r"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			for _, trial := range s.Trials {
				n++
				if slices.Contains(trial.InvalidCodes, results.CodePacing) {
					late = s.Name + ": " + trial.Sentence
					return false
				}
				if trial.Verdict != results.Clean && !trial.Spoilt() {
					t.Errorf("%s: %s %s", s.Name, trial.Verdict, trial.Sentence)
				}
				want, l := rate*3/2, trial.Load
				if l.Offered != want || l.Done() != want || trial.Conntrack.Peak != want {
					t.Errorf("%s: offered %d, completed %d, peak %d; want %d each", s.Name,
						l.Offered, l.Done(), trial.Conntrack.Peak, want)
				}
			}
		}
		if n != len(rates)*trials {
			t.Errorf("%d trials, want %d", n, len(rates)*trials)
		}
		return true
	})
	if late != "" {
		t.Error(late)
	}
}

// TestPacing_Bursts sends bursts beside two busy loops: each slot waits until the next burst, and
// none adds a burst.
func TestPacing_Bursts(t *testing.T) {
	busyLoops(t, time.Minute)
	address, _ := answering(t, "silent", "--network", "udp")
	o := ctload(t, time.Minute, "generate", "udp", "--burst", "1000:1s", "-n", "3000",
		"--format", "json", address)
	var r generators.Result
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || o.status != statusOK {
		t.Fatalf("exit status %d, %v: %s", o.status, err, o.stderr)
	}
	var due []int64
	for _, second := range r.Series {
		due = append(due, second.Due)
	}
	if r.Offered != 3000 || r.Missed != 0 || !slices.Equal(due, []int64{1000, 1000, 1000}) {
		t.Errorf("offered %d, missed %d, due in each second %d", r.Offered, r.Missed, due)
	}
	if w := r.Widths; w.Bursts != 3 || w.Longest >= time.Second {
		t.Errorf("widths %+v, want those of 3 bursts", w)
	}
}
