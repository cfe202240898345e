package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
)

// TestPaths_OfTheUser keeps everything that a user may name in /dev/shm, and names it by relative
// paths and through a link: the sandbox sees the same files, and what it writes stays there.
func TestPaths_OfTheUser(t *testing.T) {
	needsLab(t)
	dir, err := os.MkdirTemp("/dev/shm", "ctload-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("x.yaml", piped)
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	ctload := func(args ...string) outcome {
		t.Helper()
		cmd := exec.Command(labtest.Ctload(t), args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(dir, "state"))
		o := finish(t, cmd, time.Minute)
		if o.status != statusOK && o.status != statusInvalid {
			t.Fatalf("ctload %q: exit status %d\n%s", args, o.status, o.stderr)
		}
		return o
	}
	first := filepath.Join(dir, "first")
	ctload("run", filepath.Join(dir, "x.yaml"), "--driver", "netns", "--out", first,
		"--report", "junit="+filepath.Join(dir, "report.xml"))
	ctload("run", "x.yaml", "--driver", "netns", "--out", "link/second", "--report",
		"html=link/page.html", "--baseline", "first", "--threshold", "load.failed == 0")
	ctload("run", "x.yaml", "--driver", "netns", "--scenario", "baseline")
	for _, name := range []string{"first/run.json", "real/second/run.json", "report.xml",
		"real/page.html", "first/experiment.yaml", "first/trials/baseline-1/samples.jsonl"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s is not there: %v", name, err)
		}
	}
	if list, _ := filepath.Glob(filepath.Join(dir, "runs", "piped-*", "run.json")); len(list) != 1 {
		t.Errorf("the run under a name of ctload's own: %v", list)
	}
}

// TestRun_EditedMeanwhile changes the experiment's file after the start: the run is that of the
// text that was checked.
func TestRun_EditedMeanwhile(t *testing.T) {
	needsLab(t)
	file := experiment(t, piped)
	out := filepath.Join(t.TempDir(), "run")
	cmd := command(t, "run", file, "--driver", "netns", "--out", out, "--format", "json")
	var stdout strings.Builder
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stderr.Read(make([]byte, 1)); err != nil { // it has been checked
		t.Fatal(err)
	}
	other := strings.Replace(piped, "experiment: piped", "experiment: another", 1)
	if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	var rest strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := stderr.Read(buffer)
		rest.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	if o := wait(t, cmd, time.Minute, &stdout, &rest); o.status != statusOK &&
		o.status != statusInvalid {
		t.Fatalf("exit status %d\n%s", o.status, o.stderr)
	}
	if run := decode(t, stdout.String()); run.Experiment != "piped" {
		t.Errorf("the run is of %s", run.Experiment)
	}
}
