package orchestrator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/orchestrator/goals"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
)

// sharded are 14 trials of two scenarios.
const sharded = `
experiment: sharded
workload: [{generator: http, requests: 10, concurrency: 2}]
scenarios: {a: {}, b: {}}
trials: 7
thresholds: {all: [load.failed == 0]}
`

// TestDeal deals a plan to shards: every trial to one of them, evenly, in the order of the plan.
func TestDeal(t *testing.T) {
	whole := planned(t, sharded).Order
	for of := 1; of <= len(whole); of++ {
		var all []Slot
		for number := 1; number <= of; number++ {
			plan := planned(t, sharded)
			if err := plan.Deal(number, of); err != nil {
				t.Fatal(err)
			}
			each := map[int]int{}
			for _, slot := range plan.Order {
				each[slot.Scenario]++
			}
			for _, n := range each {
				if n < 7/of || n > (7+of-1)/of {
					t.Errorf("shard %d/%d has %v trials of the scenarios", number, of, each)
				}
			}
			if n := len(plan.Order); n < 14/of || n > (14+of-1)/of || n != len(plan.Shard.Trials) {
				t.Errorf("shard %d/%d has %d trials, %q", number, of, n, plan.Shard.Trials)
			}
			place := func(a, b Slot) int { return slices.Index(whole, a) - slices.Index(whole, b) }
			if !slices.IsSortedFunc(plan.Order, place) {
				t.Errorf("shard %d/%d has another order than the plan: %v", number, of, plan.Order)
			}
			all = append(all, plan.Order...)
		}
		for _, slot := range whole {
			if !slices.Contains(all, slot) {
				t.Errorf("no shard of %d has %+v", of, slot)
			}
		}
		if len(all) != len(whole) {
			t.Errorf("%d shards have %d trials, want %d", of, len(all), len(whole))
		}
	}
	if err := planned(t, sharded).Deal(1, 15); err == nil {
		t.Error("14 trials were dealt to 15 shards")
	}
}

// TestDeal_Repetitions: the shards give unlike numbers to the trials that they repeat, and a shard
// that is resumed knows its own.
func TestDeal_Repetitions(t *testing.T) {
	used := map[int]bool{}
	for number := 1; number <= 3; number++ {
		plan := planned(t, sharded)
		if err := plan.Deal(number, 3); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 4; n++ {
			trial := plan.repetition(n)
			if trial <= 7 || used[trial] || plan.repetitions(trial) != n {
				t.Errorf("repetition %d of shard %d is trial %d, read as %d", n, number, trial,
					plan.repetitions(trial))
			}
			used[trial] = true
		}
		if plan.repetitions(7) != 0 {
			t.Error("trial 7 repeats another one")
		}
	}
}

// TestSearch_Shards deals the scenarios of a search, each to one shard.
func TestSearch_Shards(t *testing.T) {
	const text = `
experiment: limits
workload: [{generator: tcp, rate: 100/s, duration: 10s}]
dut: {rules: "*filter\n-A INPUT -m conntrack --ctstate INVALID -j DROP\nCOMMIT"}
scenarios: {a: {}, b: {}, c: {}}
`
	goal, err := goals.Parse(goals.Highest, "rate")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for number := 1; number <= 2; number++ {
		plan := planned(t, text)
		found, err := plan.CheckSearch(Search{Goal: goal, Number: number, Of: 2, MaxTrials: 7})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range found.Scenarios {
			names = append(names, s.Name)
		}
		if !slices.Equal(names, plan.Shard.Trials) || !slices.IsSorted(names) ||
			!slices.Equal(found.Planned, []string{"a", "b", "c"}) {
			t.Errorf("shard %v has %q of %q", plan.Shard, names, found.Planned)
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	if !slices.Equal(all, []string{"a", "b", "c"}) {
		t.Errorf("the shards have %q", all)
	}
	_, err = planned(t, text).CheckSearch(Search{Goal: goal, Number: 1, Of: 4, MaxTrials: 7})
	if err == nil {
		t.Error("three scenarios were dealt to four shards")
	}
}

// shardFolder writes a shard with its trials as if they had been measured.
func shardFolder(
	t *testing.T, number, of int, change func(plan *Plan, run *results.Run),
) *results.Folder {
	t.Helper()
	plan := planned(t, sharded)
	if err := plan.Deal(number, of); err != nil {
		t.Fatal(err)
	}
	f, err := results.Create(filepath.Join(t.TempDir(), fmt.Sprintf("shard-%d", number)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	run := plan.Expected()
	run.Planned, run.Started, run.Seconds = 14, time.Unix(int64(1000*number), 0), 10
	run.Environment.HostCPU = "a CPU"
	for i, slot := range plan.Order {
		folder, err := f.CreateTrial(plan.Scenarios[slot.Scenario].Name, slot.Number)
		if err != nil {
			t.Fatal(err)
		}
		trial := results.Trial{
			Number: slot.Number, Folder: folder.Name(), Kernel: "6.1", Verdict: results.Clean,
			Started: time.Unix(int64(1000*number+i), 0), Load: &results.Load{},
		}
		if err := folder.SaveText(results.FileKernelLog, "log of "+folder.Name()); err != nil {
			t.Fatal(err)
		}
		s := &run.Scenarios[slot.Scenario]
		s.Trials = append(s.Trials, trial)
	}
	if change != nil {
		change(plan, run)
	}
	text, err := plan.Experiment.MarshalYAML()
	if err := errors.Join(err, f.SaveExperiment(text), f.Save(run)); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestMerge joins shards that are given in any order, with the files of their trials.
func TestMerge(t *testing.T) {
	var shards []*results.Folder
	for _, number := range []int{3, 1, 2} {
		shards = append(shards, shardFolder(t, number, 3, nil))
	}
	merged, err := Merge(shards)
	if err != nil {
		t.Fatal(err)
	}
	run := merged.Run
	if err := run.Part(""); err != nil || run.Planned != 14 || run.Seconds != 30 ||
		!run.Started.Equal(time.Unix(1000, 0)) || merged.Missing != nil || merged.Notes != nil {
		t.Errorf("merged: %v, %+v", err, run)
	}
	for _, s := range run.Scenarios {
		for i, trial := range s.Trials {
			if trial.Number != i+1 {
				t.Errorf("trial %d is at place %d", trial.Number, i)
			}
		}
		if len(s.Trials) != 7 || len(s.Thresholds) != 1 || !s.Thresholds[0].Passed {
			t.Errorf("%s: %d trials, thresholds %+v", s.Name, len(s.Trials), s.Thresholds)
		}
	}
	out, err := results.Create(filepath.Join(t.TempDir(), "out"))
	if err == nil {
		err = merged.Write(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for _, trial := range run.Trials() {
		text, err := os.ReadFile(filepath.Join(out.Path(), trial.Folder, results.FileKernelLog))
		if err != nil || string(text) != "log of "+trial.Folder {
			t.Errorf("%s: %q, %v", trial.Folder, text, err)
		}
	}
	// A merged run, or a part of it, may be merged again: equal trials count once.
	again, err := Merge(append(shards, out))
	if err != nil || !reflect.DeepEqual(again.Run.Scenarios, run.Scenarios) {
		t.Errorf("merged again: %v", err)
	}
}

// TestMerge_Missing names the trials that no shard has, and judges the rest as a part.
func TestMerge_Missing(t *testing.T) {
	cut := shardFolder(t, 1, 3, func(_ *Plan, run *results.Run) {
		run.Unfinished = true
		last := run.Trials()[0]
		last.Invalidate(results.Reason{Code: results.CodeInterrupted, Text: "interrupted"})
	})
	merged, err := Merge([]*results.Folder{cut, shardFolder(t, 3, 3, nil)})
	if err != nil {
		t.Fatal(err)
	}
	plan := planned(t, sharded)
	if err := plan.Deal(2, 3); err != nil {
		t.Fatal(err)
	}
	said := strings.Join(merged.Missing, "\n")
	for _, name := range plan.Shard.Trials {
		if !strings.Contains(said, name) {
			t.Errorf("%s is not named in %q", name, said)
		}
	}
	if len(merged.Missing) != 2 || !strings.HasPrefix(said, "shard 1/3: a-") ||
		!strings.Contains(said, "\nshard 2/3: ") || merged.Run.Part("") == nil {
		t.Errorf("missing: %q, %v", said, merged.Run.Part(""))
	}
}

// TestMerge_Refusals: unlike shards, and doubles, are refused with their names.
func TestMerge_Refusals(t *testing.T) {
	trials := func(run *results.Run, change func(*results.Trial)) {
		for _, trial := range run.Trials() {
			change(trial)
		}
	}
	for _, tc := range []struct {
		name   string
		number int
		change func(plan *Plan, run *results.Run)
		says   []string
	}{
		{"CPU", 2, func(_ *Plan, run *results.Run) { run.Environment.HostCPU = "another CPU" },
			[]string{"host CPU: a CPU in ", "another CPU in "}},
		{"accelerator", 2, func(_ *Plan, run *results.Run) { run.Environment.Accelerator = "tcg" },
			[]string{"accelerator: none in ", "tcg in "}},
		{"kernel", 2, func(_ *Plan, run *results.Run) {
			trials(run, func(trial *results.Trial) { trial.Kernel = "6.12" })
		}, []string{"kernel of a: 6.1 in ", "6.12 in ", "kernel of b: "}},
		{"seed", 2, func(_ *Plan, run *results.Run) { run.Seed = 9 },
			[]string{"seed: 7 in ", "9 in "}},
		{"shards", 2, func(_ *Plan, run *results.Run) { run.Shard.Of = 4 },
			[]string{"number of shards: 3 in ", "4 in "}},
		{"deal", 2, func(_ *Plan, run *results.Run) { run.Shard.Trials = run.Shard.Trials[1:] },
			[]string{"are not those of shard 2/3"}},
		{"experiment", 2, func(plan *Plan, _ *results.Run) { plan.Experiment.Summary = "another" },
			[]string{"the experiment of ", `another`}},
		{"the same shard", 1, nil, []string{"shard 1/3 is in "}},
		{"the same trial", 2, func(plan *Plan, run *results.Run) {
			first := planned(t, sharded)
			if err := first.Deal(1, 3); err != nil {
				t.Fatal(err)
			}
			double := first.Order[0]
			s := &run.Scenarios[double.Scenario]
			s.Trials[0].Number = double.Number
		}, []string{"trial ", "of "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first, second := shardFolder(t, 1, 3, nil), shardFolder(t, tc.number, 3, tc.change)
			_, err := Merge([]*results.Folder{first, second})
			_, unlike := errors.AsType[*compare.UnlikeError](err)
			_, double := errors.AsType[*doubleError](err)
			if !unlike && !double || double != strings.HasPrefix(tc.name, "the same") {
				t.Fatalf("%T: %v", err, err)
			}
			for _, words := range append(tc.says, second.Path()) {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("%q is not in %q", words, err)
				}
			}
		})
	}
	// What compare allows is noted.
	merged, err := Merge([]*results.Folder{shardFolder(t, 1, 3, nil), shardFolder(t, 2, 3,
		func(_ *Plan, run *results.Run) {
			run.Ctload = "v2"
			trials(run, func(trial *results.Trial) { trial.Meaning = &results.CounterMeaning{} })
		}),
		shardFolder(t, 3, 3, func(_ *Plan, run *results.Run) {
			trials(run, func(trial *results.Trial) {
				trial.Meaning = &results.CounterMeaning{ClashInDrop: true}
			})
		})})
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(merged.Notes, "\n"); !strings.Contains(text, "ctload differs") ||
		!strings.Contains(text, "count other things") {
		t.Errorf("notes: %q", text)
	}
}
