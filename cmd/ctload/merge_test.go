package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// shardedTrials is an experiment whose trials take about half a second each, in namespaces. Its
// load leaves an entry for each of 20 connections.
const shardedTrials = `
experiment: sharded
trials: %d
recovery: 0s
dut:
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    COMMIT
workload: [{generator: tcp, connections: 20, rate: 200/s}]
thresholds: {all: [load.failed == 0, conntrack.peak >= 20]}
scenarios: {a: {}, b: {summary: another}}
`

func load(t *testing.T, dir string) *results.Run {
	t.Helper()
	f, err := results.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// TestMerge runs an experiment whole and in five shards, one of which is killed and run again: the
// merged run is the whole one, but for times and order.
func TestMerge(t *testing.T) {
	labtest.Need(t)
	trials := 5
	if hosttest.Long() {
		trials = 20
	}
	file := experiment(t, fmt.Sprintf(shardedTrials, trials))
	all := t.TempDir()
	at := func(name string) string { return filepath.Join(all, name) }
	shard := func(n int, out string) []string {
		return []string{"run", file, "--driver", "netns", "--shard", fmt.Sprintf("%d/5", n),
			"--out", at(out)}
	}
	measure := func(args ...string) outcome {
		o := ctload(t, 3*time.Minute, args...)
		if o.status != statusOK {
			t.Fatalf("ctload %q: exit status %d\n%s\n%s", args, o.status, o.stdout, o.stderr)
		}
		return o
	}
	killed := command(t, shard(2, "killed")...)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	if !hosttest.Poll(time.Minute, func() bool {
		_, err := os.Stat(filepath.Join(at("killed"), "trials"))
		return err == nil
	}) {
		t.Fatal("the shard did not begin")
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	var dirs []string
	for n := 1; n <= 5; n++ {
		dir := fmt.Sprintf("shard-%d", n)
		measure(shard(n, dir)...)
		dirs = append(dirs, at(dir))
	}
	one := load(t, dirs[0])
	if s := one.Shard; s == nil || s.Number != 1 || s.Of != 5 || len(s.Trials) != 2*trials/5 ||
		one.Planned != 2*trials {
		t.Errorf("shard 1 is %+v of %d trials", one.Shard, one.Planned)
	}

	// No reader takes a shard for the whole.
	says := fmt.Sprintf("%d of %d trials, shard 1/5", 2*trials/5, 2*trials)
	for _, args := range [][]string{
		{"report", dirs[0]}, {"report", dirs[0], "--threshold", "load.failed == 0"},
		{"report", dirs[0], "--format", "junit"}, {"compare", dirs[0], dirs[1]},
		{"report", dirs[1], "--baseline", dirs[0]},
	} {
		if o := ctload(t, time.Minute, args...); o.status != statusInvalid ||
			!strings.Contains(o.stderr, says) {
			t.Errorf("%q: exit status %d, want %d and %q\n%s", args, o.status, statusInvalid, says,
				o.stderr)
		}
	}
	o := ctload(t, time.Minute, "run", "--resume", dirs[0])
	if !strings.Contains(o.stderr, "nothing to resume") {
		t.Errorf("a finished shard is resumed: %s", o.stderr)
	}

	// Without one of them, the merge names what is missing; the same shard twice is refused.
	merge := func(out string, parts ...string) outcome {
		return ctload(t, time.Minute, append([]string{"merge", "--out", at(out)}, parts...)...)
	}
	o = merge("without", append([]string{dirs[0]}, dirs[2:]...)...)
	missing := "missing: shard 2/5: " + strings.Join(load(t, dirs[1]).Shard.Trials, ", ")
	if o.status != statusInvalid || !strings.Contains(o.stderr, missing) {
		t.Errorf("exit status %d, want %d and %q\n%s", o.status, statusInvalid, missing, o.stderr)
	}
	if o = merge("twice", append(dirs, dirs[1])...); o.status != statusUsage ||
		!strings.Contains(o.stderr, "shard 2/5 is in") {
		t.Errorf("a shard twice: exit status %d\n%s", o.status, o.stderr)
	}
	if _, err := os.Stat(at("twice")); err == nil {
		t.Error("the refused merge has left a folder")
	}

	if o = merge("merged", dirs...); o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	merged := load(t, at("merged"))
	for _, dir := range dirs {
		for _, trial := range load(t, dir).Trials() {
			sameFiles(t, filepath.Join(dir, trial.Folder), at("merged/"+trial.Folder))
		}
	}
	measure("run", file, "--driver", "netns", "--seed", fmt.Sprint(merged.Seed), "--out",
		at("whole"))
	whole := load(t, at("whole"))
	if diff := gocmp.Diff(timeless(whole), timeless(merged)); diff != "" {
		t.Errorf("the merged run (-whole +merged):\n%s", diff)
	}
	before, err := os.ReadFile(at("whole/experiment.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(at("merged/experiment.yaml")); !bytes.Equal(before, after) {
		t.Errorf("the experiment differs: %v\n%s", err, after)
	}
	if o := ctload(t, time.Minute, "report", at("merged")); o.status != statusOK {
		t.Errorf("report: exit status %d\n%s", o.status, o.stderr)
	}
	if o := ctload(t, time.Minute, "compare", at("whole"), at("merged")); o.status != statusOK {
		t.Errorf("compare: exit status %d\n%s", o.status, o.stderr)
	}
}

// timeless returns what a run is without its times: what was planned, judged and counted. A trial
// that repeats another one has the number of that.
func timeless(run *results.Run) any {
	of := *run
	of.ID, of.Started, of.Seconds = "", time.Time{}, 0
	of.Environment.HostLoad = nil
	of.Scenarios = nil
	for _, s := range run.Scenarios {
		origin := func(number int) int {
			for _, t := range s.Trials {
				if t.RepeatedAs == number {
					return t.Number
				}
			}
			return number
		}
		trials := []results.Trial{}
		for _, t := range s.Trials {
			if t.RepeatedAs > 0 {
				continue
			}
			number := t.Number
			for before := origin(number); before != number; before = origin(number) {
				number = before
			}
			trials = append(trials, results.Trial{
				Number: number, Kernel: t.Kernel, Verdict: t.Verdict, Sentence: t.Sentence,
				Conntrack: results.Conntrack{
					Counters: t.Conntrack.Counters, Max: t.Conntrack.Max,
					Buckets: t.Conntrack.Buckets, Tracked: t.Conntrack.Tracked,
				},
				Load: &results.Load{Attempts: results.Attempts{
					Offered: t.Load.Offered, Completed: t.Load.Completed, Failed: t.Load.Failed,
				}},
				Modules: t.Modules, MemoryBytes: t.MemoryBytes, Timeouts: t.Timeouts,
			})
		}
		// A repeated trial comes after the others.
		slices.SortFunc(trials, func(a, b results.Trial) int {
			return cmp.Compare(a.Number, b.Number)
		})
		s.Trials = trials
		for i := range s.Thresholds {
			s.Thresholds[i].Actual = ""
		}
		of.Scenarios = append(of.Scenarios, s)
	}
	return of
}

// sameFiles checks that two folders have the same files.
func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	for _, from := range []string{a, b} {
		list, err := os.ReadDir(from)
		if err != nil {
			t.Error(err)
		}
		for _, entry := range list {
			x, err := os.ReadFile(filepath.Join(a, entry.Name()))
			y, err2 := os.ReadFile(filepath.Join(b, entry.Name()))
			if err := cmp.Or(err, err2); err != nil || !bytes.Equal(x, y) {
				t.Errorf("%s differs in %s and %s: %v", entry.Name(), a, b, err)
			}
		}
	}
}
