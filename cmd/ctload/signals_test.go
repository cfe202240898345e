package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// TestSignals_WithoutContext interrupts commands that read standard input or a pipe forever: the
// first signal ends them.
func TestSignals_WithoutContext(t *testing.T) {
	t.Parallel()
	// A test under nohup(1) would hand its ignored SIGHUP down to the commands.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for _, args := range [][]string{
		{"run", "-"}, {"scenarios", "validate", "-"}, {"plan", "-"}, {"vm", "up", "-"},
	} {
		for _, sent := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
			cmd := command(t, args...)
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// The command reads it once it is under way.
			for written := 0; written < 1<<20; {
				n, err := stdin.Write(bytes.Repeat([]byte("#\n"), 1<<9))
				if written += n; err != nil || written >= 128<<10 {
					break
				}
			}
			if err := cmd.Process.Signal(sent); err != nil {
				t.Fatal(err)
			}
			_ = finishStarted(t, cmd, 2*time.Minute)
			status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if !ok || !status.Signaled() || status.Signal() != sent {
				t.Errorf("ctload %q after %v: %v", args, sent, cmd.ProcessState)
			}
			_ = stdin.Close()
		}
	}
}

// finishStarted waits for a started command.
func finishStarted(t *testing.T, cmd *exec.Cmd, limit time.Duration) outcome {
	t.Helper()
	return wait(t, cmd, limit, new(strings.Builder), new(strings.Builder))
}

// TestRun_UnderNohup sends SIGHUP to a run whose caller ignores it, and closes its terminal's end
// of the output: the run goes on to its end.
func TestRun_UnderNohup(t *testing.T) {
	needsLab(t)
	out := filepath.Join(t.TempDir(), "run")
	cmd := exec.Command("sh", "-c", `trap "" HUP; exec "$0" "$@" 2>&1`, labtest.Ctload(t), "run",
		experiment(t, sixTrials), "--driver", "netns", "--trials", "1", "--out", out)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() && !strings.Contains(lines.Text(), "baseline") {
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	// As `ctload run 2>&1 | head` does.
	if err := output.Close(); err != nil {
		t.Fatal(err)
	}
	if !hosttest.Poll(time.Minute, func() bool {
		_, err := os.Stat(filepath.Join(out, "trials", "b-1", "kernel.log"))
		_, other := os.Stat(filepath.Join(out, "trials", "a-1", "kernel.log"))
		return err == nil && other == nil
	}) {
		t.Error("the run has ended before its time")
	}
	_ = finishStarted(t, cmd, time.Minute)
	f, err := results.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if run, err := f.Load(); err != nil || run.Part("") != nil {
		t.Errorf("%v, %v", err, run.Part(""))
	}
}
