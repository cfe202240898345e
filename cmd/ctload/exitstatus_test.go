package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// Experiments whose text alone shows that they cannot run.
const (
	unknownKernel = "experiment: x\ndut: {kernel: debian/bookwurm}\n" +
		"workload: [{generator: tcp, connections: 5, concurrency: 5}]\n"
	fewTuples = "experiment: x\nworkload: [{generator: syn, flows: 5000, rate: 100/s, " +
		"source-ports: 1024-1033, sources: 2}]\n"
	tooWide = "experiment: x\nworkload: [{generator: tcp, connections: 5M, concurrency: 2M, " +
		"sources: 100}]\n"
	widerThanIs = "experiment: x\nworkload: [{generator: tcp, connections: 500, " +
		"concurrency: 500, source-ports: 1024-1123}]\n"
)

// TestExitStatus_Experiment gives each command that reads an experiment one that cannot run.
func TestExitStatus_Experiment(t *testing.T) {
	for _, tc := range []struct{ name, text, says string }{
		{"unknown kernel", unknownKernel,
			`no kernel "debian/bookwurm"; did you mean "debian/bookworm"?`},
		{"more flows than tuples", fewTuples, "5000 wanted, 20 tuples"},
		{"more at once than descriptors", tooWide, "fs.nr_open"},
		{"more at once than tuples", widerThanIs,
			"500 at once are more than the tuples: 100 tuples"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := experiment(t, tc.text)
			for _, args := range [][]string{
				{"run", file}, {"run", file, "--dry-run"}, {"scenarios", "validate", file},
				{"plan", file}, {"vm", "up", file},
			} {
				said := refuses(t, args...)
				if !strings.Contains(said, tc.says) || !strings.Contains(said, "experiment.yaml:") {
					t.Errorf("ctload %q does not say %q at its place: %s", args, tc.says, said)
				}
			}
		})
	}
}

// TestExitStatus_Evaluation gives a run thresholds that compile and cannot be evaluated.
func TestExitStatus_Evaluation(t *testing.T) {
	said := refuses(t, "report", "testdata/runs/before",
		"--threshold", "load.offered % load.failed == 0")
	for _, words := range []string{"tracked, trial 1: ", "integer divide by zero"} {
		if !strings.Contains(said, words) {
			t.Errorf("%q is not in: %s", words, said)
		}
	}
	err := host(&results.EvaluationError{Trial: 1})
	if status := exitStatus(t.Context(), err); status != statusUsage {
		t.Errorf("after a run: exit status %d", status)
	}
}

// TestExitStatus_CommandLine gives a run, and a dry run, command lines that alone show a fault.
func TestExitStatus_CommandLine(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{
		"full/run.json": "{}", "file": "x",
		"noimage.yaml": strings.Replace(unknownKernel, "debian/bookwurm", "./no-such-image", 1),
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct{ args, says string }{
		{"table-full --out full", "full is not empty"},
		{"table-full --out file", "file: not a directory"},
		{"table-full --out file/below", "not a directory"},
		{"table-full --baseline none", "neither the folder of a run"},
		{"table-full --baseline full", "full"},
		{"table-full --max-regression 10%", "needs --baseline"},
		{"table-full --report junit=none/report.xml", "none: no such file"},
		{"table-full --report junit=full", "full is a folder"},
		{"table-full --report junit=file/report.xml", "file is not a folder"},
		{"table-full --scenario raw-notrak", `did you mean "raw-notrack"`},
		{"table-full --kernel debian/bookwurm", `did you mean "debian/bookworm"`},
		{"table-full --kernel ./no-such-image", "no-such-image"},
		{"noimage.yaml", "noimage.yaml:2:6"},
		{"table-full --driver vagrant --box none.box", "there is no file none.box"},
		{"table-full --box none.box", "--driver vagrant"},
		{"table-full --connect qemu://system", "its path is /system"},
		{"table-full --driver netns --connect qemu:///system", "leave one of them out"},
		{"table-full --driver netns", "--driver netns cannot run this"},
		{"table-full --parallel 2", "--connect"},
		{"none.yaml", "none.yaml: no such file"},
		{"none", "no shipped experiment"},
	} {
		for _, line := range []string{"run " + tc.args, "run " + tc.args + " --dry-run"} {
			args := strings.Fields(line)
			if said := refuses(t, args...); !strings.Contains(said, tc.says) {
				t.Errorf("ctload %q does not say %q: %s", args, tc.says, said)
			}
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 3 {
		t.Errorf("something was made: %v, %v", list, err)
	}
}

// piped is an experiment that takes about a second, in namespaces.
const piped = "experiment: piped\nrecovery: 1s\n" +
	"workload: [{generator: tcp, connections: 50, concurrency: 5}]\n"

// TestRunFromPipe runs an experiment that can be read only once, outside of the sandbox in which it
// runs.
func TestRunFromPipe(t *testing.T) {
	needsLab(t)
	path := labtest.Ctload(t)
	for name, script := range map[string]string{
		"standard input": `exec "$0" run - "$@"`,
		"/dev/stdin":     `exec "$0" run /dev/stdin "$@"`,
		"substitution":   `exec "$0" run <(cat) "$@"`,
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("bash", "-c", script, path, "--driver", "netns", "--format", "json",
				"--out", "run")
			cmd.Dir, cmd.Stdin = t.TempDir(), strings.NewReader(piped)
			o := finish(t, cmd, time.Minute)
			if o.status != statusOK && o.status != statusInvalid {
				t.Fatalf("exit status %d: %s", o.status, o.stderr)
			}
			run := decode(t, o.stdout)
			if run.Experiment != "piped" || len(run.Scenarios) != 1 ||
				run.Scenarios[0].Trials[0].Load.Offered != 50 {
				t.Errorf("the run is of something else: %s", o.stdout)
			}
			kept, err := os.ReadFile(filepath.Join(cmd.Dir, "run", "experiment.yaml"))
			if err != nil || !bytes.Contains(kept, []byte("experiment: piped")) {
				t.Errorf("the run folder keeps %s (%v)", kept, err)
			}
		})
	}
}

// TestColumns sets the width of the output into a pipe.
func TestColumns(t *testing.T) {
	for _, args := range [][]string{
		{"report", "testdata/runs/after"},
		{"compare", "testdata/runs/before", "testdata/runs/after"}, {"plan", "table-full"},
		{"plan", "--rate", "2000", "--residence", "120s"}, {"run", "table-full", "--dry-run"},
	} {
		width := func(environment string, more ...string) int {
			t.Setenv("COLUMNS", environment)
			var stdout, stderr bytes.Buffer
			status := run(t.Context(), append(slices.Clone(args), more...), &stdout, &stderr)
			if status != statusOK {
				t.Fatalf("ctload %q: exit status %d: %s", args, status, stderr.String())
			}
			widest := 0
			for line := range strings.Lines(stdout.String()) {
				widest = max(widest, len([]rune(strings.TrimRight(line, "\n"))))
			}
			return widest
		}
		narrow, wide := width(""), width("200")
		if narrow >= wide || wide > 200 {
			t.Errorf("ctload %q: %d columns, and %d of 200", args, narrow, wide)
		}
		if asked := width("80", "--columns", "200"); asked != wide {
			t.Errorf("ctload %q: %d columns with --columns 200, %d with COLUMNS=200",
				args, asked, wide)
		}
		if ignored := width("x"); ignored != narrow {
			t.Errorf("ctload %q: %d columns with COLUMNS=x, %d without", args, ignored, narrow)
		}
	}
}
