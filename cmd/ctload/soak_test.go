package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// soakRounds says how often TestSoak disturbs a command; make soak sets it.
const soakRounds = "CTLOAD_KILLS"

// disturbed is a command that TestSoak disturbs at a random moment.
type disturbed struct {
	name    string
	args    []string
	seconds float64 // its usual length
	run     bool    // it makes a run, and no lab that stays up
}

// disturbance is an action of TestSoak against a command.
type disturbance struct {
	name string
	do   func(t *testing.T, mark string, caller *os.Process, draw *rand.Rand) // nil: a full disk
}

// send sends a signal to the caller.
func send(signal syscall.Signal) func(*testing.T, string, *os.Process, *rand.Rand) {
	return func(_ *testing.T, _ string, caller *os.Process, _ *rand.Rand) {
		_ = caller.Signal(signal)
	}
}

// sendAny sends a signal to one of the command's processes whose command line holds a word.
func sendAny(
	signal syscall.Signal, word string,
) func(*testing.T, string, *os.Process, *rand.Rand) {
	return func(t *testing.T, mark string, _ *os.Process, draw *rand.Rand) {
		list := slices.DeleteFunc(marked(t, mark), func(p process) bool {
			return !strings.Contains(p.command, word)
		})
		if len(list) > 0 {
			_ = syscall.Kill(list[draw.IntN(len(list))].pid, signal)
		}
	}
}

// cutNetwork takes every link down in the network namespaces of the command's agents.
func cutNetwork(t *testing.T, mark string, _ *os.Process, _ *rand.Rand) {
	for _, p := range marked(t, mark) {
		if strings.Contains(p.command, "ctload-agent") {
			_ = exec.Command("nsenter", "-t", strconv.Itoa(p.pid), "-n", "sh", "-c",
				"for l in $(ls /proc/sys/net/ipv4/conf); do ip link set $l down; done").Run()
		}
	}
}

// TestSoak disturbs commands at random moments, in all sandboxed labs. Nothing may be left, no
// figure that was saved may be lost, and no reader may take a part of a run for the whole.
func TestSoak(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv(soakRounds))
	if err != nil {
		t.Skip("it takes an hour: make soak")
	}
	labtest.Need(t)
	machine := experiment(t, strings.Replace(fmt.Sprintf(small, 2000), "tracked: {}",
		"tracked: {}\n  other: {summary: again}", 1))
	plain := experiment(t, sixTrials)
	commands := []disturbed{
		{"run", []string{"run", machine}, 14, true},
		{"run in namespaces", []string{"run", plain, "--driver", "netns"}, 8, true},
		{"vm up", []string{"vm", "up", machine}, 8, false},
		{"vm up in namespaces", []string{"vm", "up", plain, "--driver", "netns"}, 2, false},
	}
	disturbances := []disturbance{
		{"SIGKILL", send(syscall.SIGKILL)}, {"SIGTERM", send(syscall.SIGTERM)},
		{"SIGINT", send(syscall.SIGINT)}, {"SIGHUP", send(syscall.SIGHUP)},
		{"SIGQUIT", send(syscall.SIGQUIT)},
		{"any killed", sendAny(syscall.SIGKILL, "")},
		{"supervisor killed", sendAny(syscall.SIGKILL, "ctload-supervisor")},
		{"daemon killed", sendAny(syscall.SIGKILL, "libvirtd")},
		{"machine killed", sendAny(syscall.SIGKILL, "qemu-system")},
		{"machine stopped", sendAny(syscall.SIGSTOP, "qemu-system")},
		{"agent stopped", sendAny(syscall.SIGSTOP, "ctload-agent")},
		{"network gone", cutNetwork},
		{"disk full", nil},
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range rounds {
		draw := rand.New(rand.NewPCG(seed, uint64(round)))
		c := commands[draw.IntN(len(commands))]
		d := disturbances[draw.IntN(len(disturbances))]
		if d.do == nil && (!c.run || os.Getuid() != 0) {
			d = disturbances[0]
		}
		moment := time.Duration(draw.Float64() * c.seconds * float64(time.Second))
		t.Run(fmt.Sprintf("%d %s, %s after %v", round, c.name, d.name,
			moment.Round(time.Millisecond)), func(t *testing.T) {
			t.Parallel()
			c.disturb(t, d, moment, draw)
		})
	}
}

// disturb runs the command, disturbs it, and looks for what is left of it.
func (c disturbed) disturb(
	t *testing.T, d disturbance, moment time.Duration, draw *rand.Rand,
) {
	home, err := os.MkdirTemp("/tmp", "ctload-soak-") // a short path, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	state, runtime := filepath.Join(home, "state"), filepath.Join(home, "rt")
	temporary, out := filepath.Join(home, "tmp"), filepath.Join(home, "out", "run")
	for _, dir := range []string{state, runtime, temporary, filepath.Dir(out)} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mark := "CTLOAD_TEST=" + home
	args := slices.Clone(c.args)
	if c.run {
		args = append(args, "--out", out)
	}
	cmd := command(t, args...)
	if d.do == nil { // on a disk that is nearly full, and fills up
		cmd = exec.Command("unshare", append([]string{"--mount", "sh", "-c",
			`mount -t tmpfs -o size=128k tmpfs "$1" && shift && exec "$@"`, "sh",
			filepath.Dir(out), cmd.Path}, args...)...)
	}
	cmd.Env = append(os.Environ(), mark, "XDG_STATE_HOME="+state, "XDG_RUNTIME_DIR="+runtime,
		"TMPDIR="+temporary)
	var stdout, stderr hosttest.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.NewTimer(moment)
	<-timer.C
	before := trialsIn(t, out)
	if d.do != nil {
		d.do(t, mark, cmd.Process, draw)
	}
	if !c.run { // it would stay up
		hard := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Signal(os.Interrupt) })
		defer hard.Stop()
	}
	o := wait(t, cmd, 3*time.Minute, &stdout, &stderr)
	if strings.Contains(o.stderr, "goroutine ") && d.name != "SIGQUIT" && d.name != "any killed" {
		t.Errorf("it crashed:\n%s", o.stderr)
	}
	noneLeft(t, mark)
	for _, dir := range []string{temporary, filepath.Join(state, "ctload", "runs")} {
		if list, _ := os.ReadDir(dir); len(list) > 0 {
			t.Errorf("left in %s: %v", dir, list)
		}
	}
	if !c.run || d.do == nil {
		return // the disk has gone with its mount namespace
	}
	after := trialsIn(t, out)
	for folder, was := range before {
		if is, ok := after[folder]; !ok || !is.Started.Equal(was.Started) {
			t.Errorf("the figures of %s are lost", folder)
		}
	}
	whole := o.status == statusOK || o.status == statusFailed || o.status == statusInvalid
	if _, err := os.Stat(filepath.Join(out, "run.json")); err != nil {
		if whole {
			t.Errorf("exit status %d without a run", o.status)
		}
		return
	}
	read := ctload(t, time.Minute, "report", out, "--threshold", "load.offered >= 0")
	if !whole && read.status != statusInvalid {
		t.Errorf("exit status %d, and a reader takes the run for a whole one: %d\n%s", o.status,
			read.status, read.stdout)
	}
}

// trialsIn returns the trials that a run folder holds, by their folders; nil without a run.
func trialsIn(t *testing.T, dir string) map[string]results.Trial {
	t.Helper()
	folder, err := results.Open(dir)
	if err != nil {
		return nil
	}
	defer folder.Close()
	run, err := folder.Load()
	if err != nil {
		t.Errorf("run.json: %v", err)
		return nil
	}
	trials := map[string]results.Trial{}
	for _, s := range run.Scenarios {
		for _, trial := range s.Trials {
			trials[trial.Folder] = trial
		}
	}
	return trials
}
