package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

var update = flag.Bool("update", false, "rewrite what tests compare with")

// TestScripts runs the command lines in testdata/script over the runs in testdata/runs: "before"
// and, with a table that is too small, "after". Both were measured (small-web.yaml beside them), in
// emulated guests, with one trial of each scenario; the command "thrice RUN FOLDER" writes a run
// with three, and "tenfold FOLDER" ten runs, a day apart each: five of before, then five of after.
func TestScripts(t *testing.T) {
	path := labtest.Ctload(t)
	runs, err := filepath.Abs("testdata/runs")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"thrice": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(thrice(ts.MkAbs(args[0]), ts.MkAbs(args[1])))
			},
			"tenfold": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(tenfold(ts.MkAbs("runs"), ts.MkAbs(args[0])))
			},
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(path)+string(os.PathListSeparator)+env.Getenv("PATH"))
			return os.Symlink(runs, filepath.Join(env.WorkDir, "runs"))
		},
	})
}

// readRun reads a run.
func readRun(folder string) (*results.Run, error) {
	f, err := results.Open(folder)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Load()
}

// tenfold writes ten runs that differ in their days: five as before, then five as after, with the
// release in a tag.
func tenfold(runs, into string) error {
	for day := range 10 {
		name, release := "before", "1"
		if day >= 5 {
			name, release = "after", "2"
		}
		run, err := readRun(filepath.Join(runs, name))
		if err != nil {
			return err
		}
		run.Started = time.Date(2026, 11, 1+day, 3, 0, 0, 0, time.UTC)
		run.Tags = map[string]string{"release": release}
		run.Scenarios[0].Trials[0].Conntrack.Peak += int64(day % 3)
		written, err := results.Create(filepath.Join(into, fmt.Sprintf("night-%02d", day+1)))
		if err == nil {
			err = errors.Join(written.Save(run), written.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// thrice writes a run that has each trial of another run three times.
func thrice(folder, into string) error {
	run, err := readRun(folder)
	if err != nil {
		return err
	}
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		for number := 2; number <= 3; number++ {
			again := s.Trials[0]
			again.Number = number
			s.Trials = append(s.Trials, again)
		}
	}
	written, err := results.Create(into)
	if err != nil {
		return err
	}
	return written.Save(run)
}
