package compare

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/results"
)

// listed returns runs of one experiment, a day after the other; in each, so many requests failed.
func listed(failed ...int64) (list []results.Listed) {
	for i, n := range failed {
		t := results.Trial{
			Number: 1, Verdict: results.Clean,
			Load: &results.Load{Generator: "http", Attempts: results.Attempts{
				Unit: "requests", Offered: 1000, Completed: new(1000 - n), Failed: n,
			}},
		}
		if n > 50 {
			t.Verdict = results.TableFull
		}
		run := &results.Run{
			Experiment: "web", Started: time.Date(2026, 11, 1+i, 0, 0, 0, 0, time.UTC),
			Environment: results.Environment{Driver: "libvirt", Accelerator: "kvm", Kernel: "6.1"},
			Scenarios:   []results.Scenario{{Name: "baseline", Trials: []results.Trial{t}}},
		}
		if n > 50 {
			run.Environment.Kernel = "6.12"
		}
		list = append(list, results.Listed{Path: fmt.Sprintf("runs/web-%d", i+1), Run: run})
	}
	return list
}

func TestFollow(t *testing.T) {
	list := listed(1, 0, 2, 1, 3, 0, 90, 95, 91, 93, 97, 94)
	other := listed(500)[0]
	other.Path, other.Run.Environment.Driver = "runs/elsewhere", "netns"
	searched, part := listed(500)[0], listed(500)[0]
	searched.Search, part.Run.Unfinished = true, true
	h, err := Follow("web", append([]results.Listed{other, searched, part}, list...))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Runs) != 12 || h.Runs[6].Name != "web-7" {
		t.Errorf("runs: %+v", h.Runs)
	}
	notes := strings.Join(h.Notes, "\n")
	for _, want := range []string{
		"elsewhere is left out, unlike the newest run: driver: netns in elsewhere, libvirt in",
		"1 unfinished or empty runs",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is missing in %s", want, notes)
		}
	}
	found := map[string]Shift{}
	for _, trend := range h.Scenarios[0].Trends {
		for _, shift := range trend.Changes {
			found[trend.Metric.Name] = shift
		}
	}
	failed, completed := found["load.failed"], found["load.completed"]
	if len(found) != 2 || failed.Run != 6 || failed.Before != 1 || failed.After != 93.5 ||
		failed.Direction != 1 || completed.Direction != 1 {
		t.Errorf("%+v", found)
	}
	beside := strings.Join(failed.Beside, "\n")
	if !strings.Contains(beside, "kernel differs: 6.1 in web-6, 6.12 in web-7") {
		t.Errorf("beside the change: %q", beside)
	}
	if _, err := Follow("web", []results.Listed{part, searched}); err == nil {
		t.Error("a history without a finished run")
	}
}

// TestFollow_EmulatedTimes: times of emulated guests are no figures of a history, counts are.
func TestFollow_EmulatedTimes(t *testing.T) {
	list := listed(1, 2, 3)
	for _, l := range list {
		l.Run.Environment.Accelerator = "tcg"
		l.Run.Scenarios[0].Trials[0].Load.Rate = 5
	}
	h, err := Follow("web", list)
	if err != nil {
		t.Fatal(err)
	}
	for _, trend := range h.Scenarios[0].Trends {
		if trend.Metric.Timing {
			t.Errorf("%s is in the history", trend.Metric.Name)
		}
	}
	if notes := strings.Join(h.Notes, "\n"); !strings.Contains(notes, "that takes 8") {
		t.Errorf("notes: %s", notes)
	}
}
