package search

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestFound_Join joins shards in the order of the whole search, and refuses those of another one.
func TestFound_Join(t *testing.T) {
	all := []string{"a", "b", "c"}
	shard := func(hour int, names ...string) Found {
		f := Found{Goal: "highest rate", Confidence: .95, Planned: all,
			Started: time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC)}
		for _, name := range names {
			f.Scenarios = append(f.Scenarios, Scenario{Name: name, Trials: hour})
			f.Notes = append(f.Notes, "of "+name)
		}
		return f
	}
	first, second := shard(5, "b"), shard(4, "a", "c")
	joined, unlike := first.Join([]Found{second})
	want := shard(4, "a", "b", "c")
	want.Scenarios[1].Trials = 5
	want.Notes = []string{"of b", "of a", "of c"}
	if diff := cmp.Diff(want, joined); diff != "" || unlike != "" {
		t.Errorf("%s (-want +got):\n%s", unlike, diff)
	}
	for name, change := range map[string]func(*Found){
		"looked for": func(f *Found) { f.Goal = "smallest max" },
		"--keep":     func(f *Found) { f.Keep = []string{"probe.lost == 0"} },
		"--at-least": func(f *Found) { f.AtLeast = 7 },
		"--over":     func(f *Found) { f.Planned = []string{"a", "b"} },
	} {
		other := shard(4, "a", "c")
		change(&other)
		if _, unlike := first.Join([]Found{other}); !strings.Contains(unlike, name) {
			t.Errorf("%q, want %q in it", unlike, name)
		}
	}
}
