package results

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPart tells a whole run from a part of one and from nothing.
func TestPart(t *testing.T) {
	of := func(trials ...Trial) []Scenario { return []Scenario{{Name: "a", Trials: trials}} }
	cut := Trial{InvalidCodes: []Code{CodeInterrupted}}
	for _, tc := range []struct {
		name string
		run  Run
		says string // empty: the run is whole
	}{
		{"whole", Run{Planned: 2, Scenarios: of(Trial{}, Trial{})}, ""},
		{"of an older ctload", Run{Scenarios: of(Trial{})}, ""},
		{"killed", Run{Planned: 6, Unfinished: true, Scenarios: of(Trial{}, Trial{})},
			"2 of 6 trials"},
		{"killed at once", Run{Planned: 6, Unfinished: true}, "0 of 6 trials"},
		{"killed before its end was judged",
			Run{Planned: 1, Unfinished: true, Scenarios: of(Trial{})}, "1 of 1 trials"},
		{"interrupted in a trial",
			Run{Planned: 2, Unfinished: true, Interrupted: true, Scenarios: of(Trial{}, cut)},
			"1 of 2 trials"},
		{"interrupted, of an older ctload", Run{Interrupted: true, Scenarios: of(Trial{})},
			"it has 1 trials"},
		{"empty", Run{}, "is empty"},
		{"empty scenarios", Run{Scenarios: of()}, "is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.run.Part("")
			part, is := errors.AsType[*PartError](err)
			if is != (tc.says != "") || is && !strings.Contains(part.Error(), tc.says) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
			if list := Unmeasured(&tc.run); is != (len(list) > 0) {
				t.Errorf("unmeasured: %q", list)
			}
		})
	}
}

// TestResume goes on with an unfinished run: whole trials stay, and everything else goes.
func TestResume(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	f, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	run := &Run{Schema: SchemaVersion, Planned: 4, Unfinished: true,
		Scenarios: []Scenario{{Name: "a"}, {Name: "b"}}}
	for number := range 2 {
		for i := range run.Scenarios {
			s := &run.Scenarios[i]
			folder, err := f.CreateTrial(s.Name, number+1)
			if err != nil {
				t.Fatal(err)
			}
			trial := Trial{Number: number + 1, Folder: folder.Name()}
			switch trial.Folder {
			case "trials/a-2": // the kill came before its end
			case "trials/b-2":
				trial.Invalidate(Reason{CodeInterrupted, "interrupted"})
				fallthrough
			default:
				s.Trials = append(s.Trials, trial)
			}
		}
	}
	if err := f.Save(run); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Resume(dir); !errors.Is(err, errBusy) {
		t.Errorf("a run under way was resumed: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f, run, err = Resume(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := len(run.Scenarios[0].Trials), len(run.Scenarios[1].Trials); a != 1 || b != 1 {
		t.Errorf("%d and %d trials are kept", a, b)
	}
	kept, err := f.Load()
	if err != nil || len(kept.Scenarios[1].Trials) != 1 || kept.Part("") == nil {
		t.Errorf("run.json holds %+v, %v", kept, err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := f.CreateTrial(name, 2); err != nil {
			t.Errorf("the trial cannot be made again: %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "trials", name+"-1")); err != nil {
			t.Error(err)
		}
	}
	run.Unfinished = false
	if err := errors.Join(f.Save(run), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Resume(dir); err == nil || !strings.Contains(err.Error(), "finished") {
		t.Errorf("a finished run was resumed: %v", err)
	}
}
