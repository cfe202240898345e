package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

var update = flag.Bool("update", false, "rewrite what tests compare with")

// TestScripts runs the command lines in testdata/script over the runs in testdata/runs: "before"
// and, with a table that is too small, "after". Both were measured (small-web.yaml beside them), in
// emulated guests, with one trial of each scenario; the command "thrice RUN FOLDER" writes a run
// with three.
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
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(path)+string(os.PathListSeparator)+env.Getenv("PATH"))
			return os.Symlink(runs, filepath.Join(env.WorkDir, "runs"))
		},
	})
}

// thrice writes a run that has each trial of another run three times.
func thrice(folder, into string) error {
	kept, err := results.Open(folder)
	if err != nil {
		return err
	}
	run, err := kept.Load()
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
