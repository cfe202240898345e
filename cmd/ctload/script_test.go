package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ctload/ctload/internal/labtest"
)

var update = flag.Bool("update", false, "rewrite the outputs in testdata/script")

// TestScripts runs the command lines in testdata/script over the runs in testdata/runs: "before"
// and, with a table that is too small, "after". Both were measured (small-web.yaml beside them), in
// emulated guests.
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
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(path)+string(os.PathListSeparator)+env.Getenv("PATH"))
			return os.Symlink(runs, filepath.Join(env.WorkDir, "runs"))
		},
	})
}
