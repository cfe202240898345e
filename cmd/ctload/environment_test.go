package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
)

// TestOutput_Full prints to a device that is full: no command says that all is well.
func TestOutput_Full(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{
		{"version"}, {"--version"}, {"--help"}, {"scenarios", "list"},
		{"scenarios", "show", "pause"},
		{"report", "testdata/runs/before"}, {"report", "testdata/runs/before", "--format", "json"},
		{"report", "--schema"}, {"compare", "testdata/runs/before", "testdata/runs/before"},
		{"gc", "--dry-run"}, {"plan", "--rate", "10", "--residence", "time_wait"},
	} {
		var stderr strings.Builder
		status := run(t.Context(), args, full, &stderr)
		if status != statusHost || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("ctload %q: exit status %d, want %d\n%s", args, status, statusHost,
				stderr.String())
		}
	}
}

// TestEnvironment_Empty starts ctload as some services do, without HOME and PATH.
func TestEnvironment_Empty(t *testing.T) {
	needsLab(t)
	for name, environment := range map[string][]string{
		"nothing": {"CTLOAD_TEST=1"}, "empty": {"HOME=", "PATH="},
	} {
		cmd := exec.Command(labtest.Ctload(t), "doctor")
		cmd.Env, cmd.Dir = environment, t.TempDir()
		if o := finish(t, cmd, time.Minute); o.status != statusOK ||
			strings.Contains(o.stdout, "missing") {
			t.Errorf("%s: exit status %d\n%s\n%s", name, o.status, o.stdout, o.stderr)
		}
	}
}

// TestColor_OfDumbTerminal runs in a terminal (a pseudo terminal of script(1)) that knows no
// control sequences.
func TestColor_OfDumbTerminal(t *testing.T) {
	hosttest.Need(t, "script")
	path := labtest.Ctload(t)
	for term, want := range map[string]bool{"xterm": true, "dumb": false} {
		cmd := exec.Command("script", "-qec", path+" report testdata/runs/after", "/dev/null")
		cmd.Env = append(os.Environ(), "TERM="+term, "NO_COLOR=")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if coloured := strings.Contains(string(out), "\x1b["); coloured != want {
			t.Errorf("TERM=%s: coloured %v", term, coloured)
		}
	}
}
