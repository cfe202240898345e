package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// action is the part of action.yml that the tests perform in GitHub's place.
type action struct {
	Inputs map[string]struct {
		Default  string
		Required bool
	}
	Outputs map[string]struct{ Value string }
	Runs    struct {
		Steps []actionStep
	}
}

type actionStep struct {
	ID, Run string
	Env     map[string]string
}

// job is a job of a workflow, with the output of its steps in the files that GitHub gives them.
type job struct {
	workspace, programs string
	output              map[string]string // of the last step
	summary, path       string
}

func newJob(t *testing.T) *job {
	t.Helper()
	return &job{workspace: t.TempDir(), programs: t.TempDir()}
}

// step performs the step of action.yml with this id, as GitHub does for a use of the action with
// inputs.
func (j *job) step(t *testing.T, id string, inputs map[string]string) outcome {
	t.Helper()
	root, err := filepath.Abs(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	var a action
	if err := yaml.Unmarshal([]byte(readFile(t, "action.yml")), &a); err != nil {
		t.Fatal(err)
	}
	for name, input := range a.Inputs {
		if _, given := inputs[name]; !given && input.Required {
			t.Fatalf("input %s is required", name)
		}
	}
	for name := range inputs {
		if _, known := a.Inputs[name]; !known {
			t.Fatalf("the action has no input %s", name)
		}
	}
	index := slices.IndexFunc(a.Runs.Steps, func(s actionStep) bool { return s.ID == id })
	if index < 0 {
		t.Fatalf("the action has no step %s", id)
	}
	step := a.Runs.Steps[index]

	files := t.TempDir()
	file := func(name string) string { return filepath.Join(files, name) }
	cmd := exec.Command(hosttest.Program(t, "bash"), "--noprofile", "--norc", "-eo", "pipefail",
		"-c", step.Run)
	cmd.Dir = j.workspace
	cmd.Env = append(os.Environ(), "PATH="+j.programs+":"+os.Getenv("PATH"),
		"GITHUB_ACTION_PATH="+root, "RUNNER_TEMP="+files,
		"GITHUB_OUTPUT="+file("output"), "GITHUB_STEP_SUMMARY="+file("summary"),
		"GITHUB_PATH="+file("path"))
	for name, value := range step.Env {
		value = inputExpression.ReplaceAllStringFunc(value, func(expression string) string {
			input := inputExpression.FindStringSubmatch(expression)[1]
			declared, known := a.Inputs[input]
			if !known {
				t.Fatalf("%s: the action has no input %s", expression, input)
			}
			if given, ok := inputs[input]; ok {
				return given
			}
			return declared.Default
		})
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	o := finish(t, cmd, 5*time.Minute)

	read := func(name string) string {
		text, err := os.ReadFile(file(name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
	j.summary, j.path, j.output = read("summary"), read("path"), map[string]string{}
	for line := range strings.Lines(read("output")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if want := "${{ steps." + id + ".outputs." + name + " }}"; a.Outputs[name].Value != want {
			t.Errorf("output %s of the step is %q in the action, want %q",
				name, a.Outputs[name].Value, want)
		}
		j.output[name] = value
	}
	return o
}

var inputExpression = regexp.MustCompile(`\$\{\{ *inputs\.([a-z-]+) *\}\}`)

// write writes a file in the workspace.
func (j *job) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(j.workspace, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// read returns the text of a file in the workspace.
func (j *job) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(j.workspace, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// program puts a shell script on the PATH of the job's steps.
func (j *job) program(t *testing.T, name, script string) {
	t.Helper()
	err := os.WriteFile(filepath.Join(j.programs, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
}

// measuringJob returns a job in which ctload is installed, with the experiments web.yaml and
// limited.yaml. The second one is INVALID wherever it runs, since its generator has fewer ports
// than connections.
func measuringJob(t *testing.T) *job {
	t.Helper()
	path := labtest.Ctload(t)
	j := newJob(t)
	if err := os.Symlink(path, filepath.Join(j.programs, "ctload")); err != nil {
		t.Fatal(err)
	}
	j.write(t, "web.yaml", `
experiment: web
workload: [{generator: http, requests: 100, concurrency: 10}]
scenarios: {tracked: {}}
recovery: 200ms
`)
	j.write(t, "limited.yaml", `
experiment: limited
workload:
  - {generator: hold, connections: 20, rate: 100/s, duration: 1s, source-ports: 20000-20009,
     timeout: 1s}
scenarios: {tracked: {}}
recovery: 200ms
`)
	return j
}

// TestAction_Run performs the action's main step on runs in namespaces: the inputs arrive, the step
// writes the outputs, the summary and the reports, compares the next run with the first, and ends
// with ctload's status.
func TestAction_Run(t *testing.T) {
	needsLab(t)
	j := measuringJob(t)
	o := j.step(t, "run", map[string]string{
		"experiment": "web.yaml", "name": "base", "driver": "netns", "trials": "2",
		"thresholds": "load.failed == 0\n\n  tracked=conntrack.drop == 0\n",
		"reports":    "csv=base.csv",
	})
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	want := map[string]string{
		"status": "0", "run": "runs/base", "page": "runs/base.html", "summary": "runs/base.md",
	}
	if diff := cmp.Diff(want, j.output); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if j.summary != j.read(t, "runs/base.md") || !strings.Contains(j.summary, "| tracked |") {
		t.Errorf("the summary is\n%s", j.summary)
	}
	for name, holds := range map[string]string{
		"runs/base.html": "<html", "runs/base.xml": `tests="3" failures="0" errors="0"`,
		"base.csv": "tracked,2,",
	} {
		if text := j.read(t, name); !strings.Contains(text, holds) {
			t.Errorf("%s does not contain %q:\n%s", name, holds, text)
		}
	}

	o = j.step(t, "run", map[string]string{
		"experiment": "web.yaml", "name": "now", "driver": "netns", "baseline": "runs/base",
		"max-regression": "25%",
		"thresholds":     "load.completed == 99",
	})
	run := decode(t, j.read(t, "runs/now/run.json"))
	if o.status != statusFailed || j.output["status"] != "1" || j.output["run"] != "runs/now" {
		t.Errorf("exit status %d, outputs %v\n%s\n%s", o.status, j.output, o.stdout, o.stderr)
	}
	if run.Baseline != "runs/base" || run.MaxRegression != 0.25 ||
		!strings.Contains(j.summary, "load.completed == 99") {
		t.Errorf("baseline %q, %v allowed, summary\n%s", run.Baseline, run.MaxRegression, j.summary)
	}
}

// TestAction_Shards performs the step for each part of a run, as the jobs of a matrix do, and
// merges what they keep.
func TestAction_Shards(t *testing.T) {
	needsLab(t)
	j := measuringJob(t)
	for _, name := range []string{"1", "2"} {
		o := j.step(t, "run", map[string]string{
			"experiment": "web.yaml", "name": "shard-" + name, "driver": "netns", "trials": "2",
			"shard": name + "/2",
		})
		if o.status != statusOK || j.output["run"] != "runs/shard-"+name {
			t.Fatalf("exit status %d, outputs %v\n%s\n%s", o.status, j.output, o.stdout, o.stderr)
		}
	}
	folder := func(name string) string { return filepath.Join(j.workspace, name) }
	o := ctload(t, time.Minute, "merge", folder("runs/shard-1"), folder("runs/shard-2"), "--out",
		folder("whole"))
	if run := decode(t, j.read(t, "whole/run.json")); o.status != statusOK || trialsOf(run) != 2 {
		t.Errorf("exit status %d, %d trials\n%s\n%s", o.status, trialsOf(run), o.stdout, o.stderr)
	}
}

// TestAction_Invalid performs the step on a run that is INVALID whatever the host does: the step
// keeps it, and fails.
func TestAction_Invalid(t *testing.T) {
	needsLab(t)
	j := measuringJob(t)
	o := j.step(t, "run", map[string]string{"experiment": "limited.yaml", "driver": "netns"})
	if o.status != statusInvalid || j.output["status"] != "4" || j.output["run"] != "runs/ctload" {
		t.Fatalf("exit status %d, outputs %v\n%s\n%s", o.status, j.output, o.stdout, o.stderr)
	}
	trials := decode(t, j.read(t, "runs/ctload/run.json")).Scenarios[0].Trials
	if len(trials) != 1 || trials[0].Verdict != results.Invalid {
		t.Errorf("%d trials, want an INVALID one", len(trials))
	}
}

// TestAction_Refused performs the step with inputs that ctload refuses, and with the name of an
// earlier run: it measures nothing, and no output names a run.
func TestAction_Refused(t *testing.T) {
	j := measuringJob(t)
	o := j.step(t, "run", map[string]string{"experiment": "wbe.yaml"})
	diff := cmp.Diff(map[string]string{"status": "2"}, j.output)
	if o.status != statusUsage || diff != "" || j.summary != "" {
		t.Errorf("exit status %d, outputs (-want +got):\n%s\n%s", o.status, diff, o.stderr)
	}
	if err := os.MkdirAll(filepath.Join(j.workspace, "runs/ctload"), 0o700); err != nil {
		t.Fatal(err)
	}
	j.write(t, "runs/ctload/run.json", "{}")
	o = j.step(t, "run", map[string]string{"experiment": "web.yaml", "driver": "netns"})
	if o.status != statusUsage || j.output["run"] != "" ||
		!strings.Contains(o.stdout, "runs/ctload exists already") {
		t.Errorf("exit status %d, outputs %v\n%s\n%s", o.status, j.output, o.stdout, o.stderr)
	}
}

// TestAction_Setup performs the step that prepares a runner, as a user with sudo, with programs
// that only record their arguments: it changes nothing of this host.
func TestAction_Setup(t *testing.T) {
	for _, tc := range []struct {
		name, version string
		want          []string // the calls that install, in this order
		path          string   // what the step adds to the PATH
	}{
		{"from the sources", "", []string{"make -C ROOT deps build"}, "ROOT/bin\n"},
		{"a release", "v1.2.3", []string{
			"curl .* https://github.com/.*/releases/download/v1.2.3/ctload_1.2.3_[a-z0-9]+.deb",
			"sudo apt-get update .*", "sudo apt-get install .*/ctload_1.2.3_[a-z0-9]+.deb",
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := newJob(t)
			calls := filepath.Join(j.workspace, "calls")
			for _, name := range []string{"sudo", "make", "curl"} {
				j.program(t, name, `echo "`+name+` $*" >> '`+calls+`'`)
			}
			j.program(t, "id", "echo 1001")
			j.program(t, "dpkg", "echo amd64")
			o := j.step(t, "setup", map[string]string{"experiment": "web.yaml",
				"version": tc.version})
			if o.status != 0 {
				t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
			}
			root, err := filepath.Abs(moduleRoot)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(strings.ReplaceAll(j.read(t, "calls"), root, "ROOT")) {
				// The commands that open KVM and user namespaces depend on the host of the test.
				line = strings.TrimSpace(line)
				if !regexp.MustCompile(`^sudo (tee|udevadm|sysctl) `).MatchString(line) {
					got = append(got, line)
				}
			}
			if len(got) != len(tc.want) {
				t.Fatalf("calls %q, want %q", got, tc.want)
			}
			for i, want := range tc.want {
				if !regexp.MustCompile("^" + want + "$").MatchString(got[i]) {
					t.Errorf("call %d is %q, want %q", i, got[i], want)
				}
			}
			if path := strings.ReplaceAll(j.path, root, "ROOT"); path != tc.path {
				t.Errorf("added to the PATH: %q, want %q", path, tc.path)
			}
		})
	}
}
