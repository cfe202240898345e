package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// tableFullOnBusyHost is the shipped experiment for a host that runs other guests too, where a
// guest answers ten times as late: fewer requests wait at once, and each may take longer.
const tableFullOnBusyHost = `
experiment: busy-host
extends: table-full
workload:
  http: {requests: 4600, concurrency: 300, timeout: 30s}
`

// TestTableFull checks the main task: what the shipped experiment must show on any host. The
// figures come from the guest's kernel.
func TestTableFull(t *testing.T) {
	needsLab(t)
	o, out := measuredRun(t, 10*time.Minute, experiment(t, tableFullOnBusyHost))
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stderr, o.stdout)
	}
	run := decode(t, o.stdout)
	trials := map[string]results.Trial{}
	for _, s := range run.Scenarios {
		if len(s.Trials) != 1 {
			t.Fatalf("%s has %d trials, want 1", s.Name, len(s.Trials))
		}
		trials[s.Name] = s.Trials[0]
		t.Logf("%s: %s", s.Name, s.Trials[0].Sentence)
	}

	baseline := trials["baseline"]
	if c := baseline.Conntrack; c.Max != 4096 || c.Peak < c.Max || c.Drop == 0 {
		t.Errorf("baseline: peak %d of max %d, drop %d; want the default table of 512 MiB (4096) "+
			"full and dropping", c.Peak, c.Max, c.Drop)
	}
	if baseline.Load.Failed == 0 || baseline.Verdict != results.TableFull {
		t.Errorf("baseline: failed %d, verdict %s; want failures and table-full",
			baseline.Load.Failed, baseline.Verdict)
	}
	for _, name := range []string{"raised-max", "raw-notrack"} {
		if r := trials[name]; r.Load.Done() != 4600 || r.Conntrack.Drop != 0 {
			t.Errorf("%s: completed %d, drop %d; want all 4600 and 0",
				name, r.Load.Done(), r.Conntrack.Drop)
		}
	}
	if peak := trials["raised-max"].Conntrack.Peak; peak <= 4600 {
		t.Errorf("raised-max: peak %d, want over 4600", peak)
	}
	if peak := trials["raw-notrack"].Conntrack.Peak; peak > 10 {
		t.Errorf("raw-notrack: peak %d, want at most 10", peak)
	}
	if s := trials["shortened-timeouts"]; s.Verdict == results.Invalid || s.Load.Offered != 4600 {
		t.Errorf("shortened-timeouts: verdict %s, offered %d; want a valid trial of 4600",
			s.Verdict, s.Load.Offered)
	}
	for name, trial := range trials {
		if trial.Load.Offered != trial.Load.Done()+trial.Load.Failed {
			t.Errorf("%s: offered %d is not completed %d + failed %d",
				name, trial.Load.Offered, trial.Load.Done(), trial.Load.Failed)
		}
		for _, file := range []string{results.FileSamples, results.FileKernelLog,
			results.FileConsole, results.FileReadback} {
			if _, err := os.Stat(filepath.Join(out, trial.Folder, file)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	again := ctload(t, time.Minute, "report", out, "--format", "json")
	if again.stdout != o.stdout {
		t.Error("ctload report prints another document than ctload run did")
	}
}

// TestInterruptKeepsWhatWasMeasured presses ctrl-C in the middle of a load.
func TestInterruptKeepsWhatWasMeasured(t *testing.T) {
	needsLab(t)
	out := filepath.Join(t.TempDir(), "run")
	cmd := command(t, "run", experiment(t, fmt.Sprintf(small, 100_000)), "--format", "json",
		"--out", out)
	var stdout, stderr hosttest.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// underWay matches a line about a load that has made progress.
	underWay := regexp.MustCompile(` s  [1-9].* failed .* table [1-9]`)
	if !hosttest.Poll(5*time.Minute, func() bool { return underWay.MatchString(stderr.String()) }) {
		t.Fatalf("no load under way:\n%s", stderr.String())
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	o := wait(t, cmd, 2*time.Minute, &stdout, &stderr)
	if o.status != statusInterrupted {
		t.Fatalf("exit status %d, want %d\n%s", o.status, statusInterrupted, o.stderr)
	}
	run := decode(t, o.stdout)
	trial := run.Scenarios[0].Trials[0]
	if !run.Interrupted || trial.Verdict != results.Invalid {
		t.Errorf("interrupted %v, verdict %s; want an interrupted run with an invalid trial",
			run.Interrupted, trial.Verdict)
	}
	if trial.Load.Done() == 0 || trial.Conntrack.Peak == 0 {
		t.Errorf("completed %d, peak %d: what was measured is lost",
			trial.Load.Done(), trial.Conntrack.Peak)
	}
}

// TestGuestWithoutMemory gives the guest too little memory to unpack its initramfs: its kernel
// panics, or finds nothing left to run and hangs until the time limit. ctload shows the end of its
// console either way.
func TestGuestWithoutMemory(t *testing.T) {
	needsLab(t)
	text := strings.Replace(fmt.Sprintf(small, 100), "256MiB", "106MiB", 1)
	o := ctload(t, 5*time.Minute, "run", experiment(t, text), "--accelerator", "tcg")
	if o.status != statusInvalid && o.status != statusHost {
		t.Errorf("exit status %d, want %d or %d", o.status, statusInvalid, statusHost)
	}
	if all := o.stdout + o.stderr; !strings.Contains(all, "its console ends with:\n  | [ ") {
		t.Errorf("the end of the console is not shown:\n%s", all)
	}
}

// TestDaemonThatDies kills the libvirt daemon in the middle of a load: the run keeps the current
// trial, and ends.
func TestDaemonThatDies(t *testing.T) {
	needsLab(t)
	out := filepath.Join(t.TempDir(), "run")
	mark := "CTLOAD_TEST=" + out
	cmd := command(t, "run", experiment(t, fmt.Sprintf(small, 1500)), "--trials", "3", "--out", out)
	cmd.Env = append(os.Environ(), mark)
	var stdout, stderr hosttest.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stderr.WaitFor(t, "  load", 5*time.Minute)
	killed := false
	for _, p := range marked(t, mark) {
		if strings.Contains(p.command, "libvirtd") || strings.Contains(p.command, "virtqemud") {
			killed = syscall.Kill(p.pid, syscall.SIGKILL) == nil
		}
	}
	if !killed {
		t.Fatal("there was no daemon to kill")
	}
	o := wait(t, cmd, 2*time.Minute, &stdout, &stderr)
	if o.status != statusHost || !strings.Contains(o.stderr, "libvirt daemon") {
		t.Errorf("exit status %d, want %d and a word about the libvirt daemon:\n%s",
			o.status, statusHost, o.stderr)
	}
	noneLeft(t, mark)
}
