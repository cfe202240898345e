package main

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm/libvirt/libvirttest"
)

// TestConnectRefusals uses hosts that cannot serve: each is named with a remedy, quickly, and the
// status blames the host.
func TestConnectRefusals(t *testing.T) {
	path := experiment(t, fmt.Sprintf(small, 100))
	for _, tc := range []struct {
		args   []string
		status int
		said   string
	}{
		{[]string{"--connect", "xen:///system"}, statusUsage, "only libvirt's qemu driver"},
		{[]string{"--connect", "qemu+tcp://127.0.0.1:1/system"}, statusHost, "connection refused"},
		{[]string{"--connect", "qemu:///system?socket=/nowhere"}, statusHost, "no such file"},
		{[]string{"--connect", "qemu+ssh://127.0.0.1:1/system"}, statusHost, "ssh "},
		{[]string{"--network", "br0"}, statusUsage, "--connect"},
		{[]string{"--connect", "qemu:///system", "--driver", "vagrant"}, statusUsage,
			"--driver vagrant"},
		{[]string{"--connect", "qemu:///system", "--parallel", "2", "--network", "br0"},
			statusUsage, "--network"},
	} {
		out := filepath.Join(t.TempDir(), "run")
		o := ctload(t, time.Minute, append([]string{"run", path, "--out", out}, tc.args...)...)
		if o.status != tc.status || !strings.Contains(o.stderr, tc.said) {
			t.Errorf("%v: exit status %d, want %d with %q\n%s",
				tc.args, o.status, tc.status, tc.said, o.stderr)
		}
		if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v: the run folder was made", tc.args)
		}
	}
}

// TestConnectHostIsFull runs on a daemon whose host has no room. ctload finds that before anything
// boots or, for the storage pool, only then: the status blames the host either way, and nothing is
// left.
func TestConnectHostIsFull(t *testing.T) {
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	h := libvirttest.Start(t, "full")
	before := h.Links()
	if err := h.Run("mount", "-o", "remount,size=8m", "/var/lib/libvirt"); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(small, 100)
	for _, tc := range []struct{ text, said string }{
		{strings.Replace(text, "256MiB", "64TiB", 1), "MiB are free"},
		{text, "MiB left"},
	} {
		began, state := time.Now(), t.TempDir()
		o := finish(t, on(t, h, state, "run", experiment(t, tc.text), "--trials", "3",
			"--connect", h.URI(), "--out", filepath.Join(t.TempDir(), "run")), 5*time.Minute)
		t.Logf("%.1f s: %s", time.Since(began).Seconds(), o.stderr)
		if o.status != statusHost || !strings.Contains(o.stderr, tc.said) ||
			strings.Contains(o.stderr, "trial 2 of 3") {
			t.Errorf("exit status %d, want %d with %q, and no second trial:\n%s",
				o.status, statusHost, tc.said, o.stderr)
		}
		if left, _ := filepath.Glob(filepath.Join(state, "ctload", "runs", "*")); len(left) > 0 {
			t.Errorf("journals are left: %v", left)
		}
	}
	clean(t, h, before, 0)
}

// twoClients make a known number of connections each, at a rate, for long enough to act in the
// middle on a busy host too.
const twoClients = `
experiment: two-clients
topology: {kind: server, clients: 2}
dut:
  memory: 256MiB
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
workload:
  - {generator: tcp, name: one, connections: 250, rate: 25/s, ports: 80, from: client}
  - {generator: tcp, name: two, connections: 250, rate: 25/s, ports: 80, from: client2}
  - {probe: tcp, port: 22, rate: 10/s}
recovery: 1s
trials: 2
scenarios:
  baseline: {}
`

// hosts makes two hypervisors, joined by one cable for management and by another one, between
// bridges, for the load.
func hosts(t *testing.T) (a, b *libvirttest.Hypervisor) {
	a, b = libvirttest.Start(t, "a"), libvirttest.Start(t, "b")
	libvirttest.Cable(t, "manage", "",
		libvirttest.End{Hypervisor: a, Address: "10.9.0.1/24"},
		libvirttest.End{Hypervisor: b, Address: "10.9.0.2/24"})
	libvirttest.Cable(t, "load", "brload",
		libvirttest.End{Hypervisor: a}, libvirttest.End{Hypervisor: b})
	return a, b
}

// on returns a command that runs ctload on a hypervisor, with the state folder of the test. Its
// process is ctload's own.
func on(t *testing.T, h *libvirttest.Hypervisor, state string, args ...string) *exec.Cmd {
	t.Helper()
	path := labtest.Ctload(t)
	cmd := h.Command(path, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+state, "XDG_RUNTIME_DIR=")
	return cmd
}

// clean fails when a hypervisor has a machine, a link or a file that it did not have before.
func clean(t *testing.T, h *libvirttest.Hypervisor, before map[string]bool, machines int) {
	t.Helper()
	if !hosttest.Poll(time.Minute, func() bool { return h.Machines() == machines }) {
		t.Errorf("%d machines are left, want %d", h.Machines(), machines)
	}
	var left []string
	if !hosttest.Poll(time.Minute, func() bool {
		left = slices.DeleteFunc(slices.Collect(maps.Keys(h.Links())),
			func(link string) bool { return before[link] })
		return len(left) == 0
	}) {
		t.Errorf("links are left: %v", left)
	}
	if left := h.Images(); len(left) > 0 {
		t.Errorf("images are left: %v", left)
	}
}

// TestTwoHypervisors spreads two clients over two hypervisors with the DUT on the first, and kills
// the daemon of the second in the middle of the second trial: the run keeps earlier measurements,
// repeats the trial on the first alone and leaves nothing there, and gc cleans the other one when
// it is back.
func TestTwoHypervisors(t *testing.T) {
	needsTime(t)
	if !libvirttest.Root(t) {
		return
	}
	a, b := hosts(t)
	linksA, linksB := a.Links(), b.Links()
	state, folder := t.TempDir(), filepath.Join(t.TempDir(), "run")
	cmd := on(t, a, state, "run", experiment(t, twoClients), "--out", folder, "--format", "json",
		"--connect", "qemu+tcp://10.9.0.1/system", "--connect", "qemu+tcp://10.9.0.2/system",
		"--network", "brload")
	var stdout, stderr hosttest.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan outcome, 1)
	go func() { ended <- wait(t, cmd, 15*time.Minute, &stdout, &stderr) }()

	stderr.WaitFor(t, "trial 1 of 2", 5*time.Minute)
	waitForLoad := func(after string) {
		t.Helper()
		if !hosttest.Poll(5*time.Minute, func() bool {
			_, rest, ok := strings.Cut(stderr.String(), after)
			return ok && strings.Contains(rest, "s  load")
		}) {
			t.Fatalf("no load after %q:\n%s", after, stderr.String())
		}
	}
	waitForLoad("trial 1 of 2")
	if onA, onB := a.Machines(), b.Machines(); onA != 2 || onB != 1 {
		t.Errorf("%d machines on the first, want dut and client2; %d on the second, want client",
			onA, onB)
	}
	waitForLoad("trial 2 of 2")
	b.KillDaemon()
	killed := time.Now()
	o := <-ended
	t.Logf("ended %v after the kill\n%s", time.Since(killed), o.stderr)
	run := decode(t, o.stdout)
	// This test is about hosts: what a busy one does to a trial's validity changes no count.
	if o.status != statusOK && o.status != statusInvalid {
		t.Errorf("exit status %d", o.status)
	}
	if !strings.Contains(o.stderr, "10.9.0.2") ||
		!strings.Contains(o.stderr, "baseline-2 is done again") {
		t.Error("it does not say what was done again, and why")
	}
	if len(run.Warnings) != 1 || !strings.Contains(run.Warnings[0], "10.9.0.2") {
		t.Errorf("the run's warnings: %q", run.Warnings)
	}
	if len(run.Scenarios[0].Trials) != 2 {
		t.Fatalf("%d trials", len(run.Scenarios[0].Trials))
	}
	for _, trial := range run.Scenarios[0].Trials {
		// Twice what one client offers, every connection with an entry of its own, and nothing lost
		// in the sums.
		if trial.Verdict != results.Clean && !trial.Spoilt() || trial.Load.Offered != 500 ||
			trial.Load.Done() != 500 {
			t.Errorf("trial %d: %s, %d of %d completed %v %v", trial.Number, trial.Verdict,
				trial.Load.Done(), trial.Load.Offered, trial.Load.Causes, trial.Invalid)
		}
		// An emulated node on a busy host runs late.
		most := map[string]float64{"kvm": 100, "tcg": 10_000}[run.Environment.Accelerator]
		if skew := trial.Clock.StartSkewMillis; skew <= 0 || skew > most {
			t.Errorf("trial %d: the two loads began %.1f ms apart", trial.Number, skew)
		}
		if peak := trial.Conntrack.Peak; peak < 500 {
			t.Errorf("trial %d: %d entries of 500 connections", trial.Number, peak)
		}
	}
	clean(t, a, linksA, 0)
	if left := files(t, filepath.Join(state, "ctload")); len(left) < 3 {
		t.Errorf("the journal has gone, with what is on the dead host: %v", left)
	}

	// While the host is away, gc says so, and keeps its records.
	o = finish(t, on(t, a, state, "gc"), 3*time.Minute)
	if o.status != statusHost || !strings.Contains(o.stdout+o.stderr, "10.9.0.2") {
		t.Errorf("gc without the daemon: exit status %d\n%s%s", o.status, o.stdout, o.stderr)
	}
	b.StartDaemon()
	o = finish(t, on(t, a, state, "gc"), 3*time.Minute)
	t.Logf("gc:\n%s%s", o.stdout, o.stderr)
	if o.status != statusOK {
		t.Errorf("gc: exit status %d", o.status)
	}
	clean(t, b, linksB, 0)
}

// TestShortFrames joins two hypervisors by a network that loses full frames; ctload reports that
// before it could look like a table that drops.
func TestShortFrames(t *testing.T) {
	needsTime(t)
	if !libvirttest.Root(t) {
		return
	}
	a, b := hosts(t)
	for _, h := range []*libvirttest.Hypervisor{a, b} {
		if err := h.Run("ip", "link", "set", "load", "mtu", "1400"); err != nil {
			t.Fatal(err)
		}
	}
	o := finish(t, on(t, a, t.TempDir(), "run", experiment(t, fmt.Sprintf(small, 100)),
		"--out", filepath.Join(t.TempDir(), "run"),
		"--connect", "qemu+tcp://10.9.0.1/system", "--connect", "qemu+tcp://10.9.0.2/system",
		"--network", "brload"), 10*time.Minute)
	if o.status != statusHost || !strings.Contains(o.stderr, "1500 bytes") ||
		!strings.Contains(o.stderr, "client on 10.9.0.2 does not reach the DUT") {
		t.Errorf("exit status %d, want %d\n%s", o.status, statusHost, o.stderr)
	}
}

// TestParallelTrials runs the trials of an experiment on two hypervisors concurrently, each in a
// lab of its own.
func TestParallelTrials(t *testing.T) {
	needsTime(t)
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	a, b := hosts(t)
	linksA, linksB := a.Links(), b.Links()
	state := t.TempDir()
	cmd := on(t, a, state, "run", experiment(t, fmt.Sprintf(small, 300)), "--trials", "2",
		"--out", filepath.Join(t.TempDir(), "run"), "--format", "json",
		"--connect", "qemu+tcp://10.9.0.1/system", "--connect", "qemu+tcp://10.9.0.2/system",
		"--parallel", "2", labtest.Retries)
	var stdout, stderr hosttest.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := make(chan bool, 1)
	go func() {
		seen <- hosttest.Poll(5*time.Minute,
			func() bool { return a.Machines() > 0 && b.Machines() > 0 })
	}()
	o := wait(t, cmd, 20*time.Minute, &stdout, &stderr)
	together := <-seen
	if o.status != statusOK || !together {
		t.Fatalf("exit status %d, or they did not run at once\n%s", o.status, o.stderr)
	}
	for _, said := range []string{"trial 1 of 2 begins", "trial 2 of 2 begins"} {
		if !strings.Contains(o.stderr, said) {
			t.Errorf("it does not say %q:\n%s", said, o.stderr)
		}
	}
	for i, trial := range decode(t, o.stdout).Scenarios[0].Trials {
		if trial.Number != i+1 || trial.Verdict != results.Clean || trial.Load.Done() != 300 {
			t.Errorf("trial %d: %s, %d completed %v",
				trial.Number, trial.Verdict, trial.Load.Done(), trial.Invalid)
		}
	}
	clean(t, a, linksA, 0)
	clean(t, b, linksB, 0)
}

// sharedKills returns how often TestKillOnSharedDaemon kills.
func sharedKills() int {
	if hosttest.Long() {
		return 20
	}
	return 5
}

// TestKillOnSharedDaemon kills ctload with SIGKILL at random moments while it uses a daemon that
// others use as well: gc then removes everything of ctload, and nothing else.
func TestKillOnSharedDaemon(t *testing.T) {
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	h := libvirttest.Start(t, "shared")
	theirs(t, h)
	before, machines := h.Links(), h.Machines()
	state, path := t.TempDir(), experiment(t, fmt.Sprintf(small, 100_000))
	made := 0
	for round := range sharedKills() {
		cmd := on(t, h, state, "run", path, "--connect", h.URI(),
			"--out", filepath.Join(t.TempDir(), "run"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		moment := time.Duration(rand.Int64N(int64(8 * time.Second)))
		<-time.After(moment)
		if made == 0 && round == sharedKills()-1 { // a busy host has made nothing so soon
			hosttest.Poll(2*time.Minute, func() bool { return len(h.Images()) > 0 })
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		made += len(h.Images())
		t.Logf("round %d: killed after %v; left: %d machines, images %v",
			round, moment, h.Machines()-machines, h.Images())
		if round%2 == 1 { // gc also removes the leftovers of several runs at once
			continue
		}
		if o := finish(t, on(t, h, state, "gc"), 3*time.Minute); o.status != statusOK {
			t.Errorf("gc: exit status %d\n%s%s", o.status, o.stdout, o.stderr)
		}
	}
	o := finish(t, on(t, h, state, "gc"), 3*time.Minute)
	if o.status != statusOK {
		t.Errorf("gc: exit status %d\n%s%s", o.status, o.stdout, o.stderr)
	}
	if made == 0 {
		t.Error("no kill met anything that was made")
	}
	clean(t, h, before, machines)
	for link := range before {
		if !h.Links()[link] {
			t.Errorf("their link %s is gone", link)
		}
	}
	if left := files(t, filepath.Join(state, "ctload", "runs")); len(left) != 1 {
		t.Errorf("journals are left: %v", left)
	}
}

// TestActionsOnDaemon runs a shipped experiment whose DUT loses its power on an existing daemon:
// its thresholds hold the claims of its documentation.
func TestActionsOnDaemon(t *testing.T) {
	needsTime(t)
	if !libvirttest.Root(t) {
		return
	}
	onDaemon(t, func(h *libvirttest.Hypervisor, state string) {
		o := finish(t, on(t, h, state, "run", "power-cut", "--connect", h.URI(), "--format", "json",
			"--out", filepath.Join(t.TempDir(), "run")), 10*time.Minute)
		if o.status != statusOK {
			t.Fatalf("exit status %d\n%s", o.status, o.stderr)
		}
		for _, s := range decode(t, o.stdout).Scenarios {
			t.Logf("%s: %s", s.Name, s.Trials[0].Sentence)
		}
	})
}

// TestInterruptOnSharedDaemon presses ctrl-C at random moments, also in the middle of a call to the
// daemon: the run removes all that it made, without gc.
func TestInterruptOnSharedDaemon(t *testing.T) {
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	h := libvirttest.Start(t, "interrupted")
	before := h.Links()
	state, path := t.TempDir(), experiment(t, fmt.Sprintf(small, 100_000))
	for round := range 4 {
		out := filepath.Join(t.TempDir(), "run")
		cmd := on(t, h, state, "run", path, "--connect", h.URI(), "--accelerator", "tcg",
			"--out", out)
		var stdout, stderr hosttest.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// From the first call on, right before which the folder is made, until both machines have
		// been started.
		if !hosttest.Poll(time.Minute, func() bool { _, err := os.Stat(out); return err == nil }) {
			t.Error("it makes no run folder")
		}
		moment := time.Duration(rand.Int64N(int64(3 * time.Second)))
		<-time.After(moment)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		o := wait(t, cmd, 3*time.Minute, &stdout, &stderr)
		t.Logf("round %d: interrupted after %v, ended %.1f s later with exit status %d",
			round, moment, time.Since(began).Seconds(), o.status)
		if o.status != statusInterrupted {
			t.Errorf("exit status %d, want %d\n%s", o.status, statusInterrupted, o.stderr)
		}
		clean(t, h, before, 0)
		if left, _ := filepath.Glob(filepath.Join(state, "ctload", "runs", "*")); len(left) > 0 {
			t.Errorf("journals are left: %v\n%s", left, o.stderr)
		}
	}
}

// theirs makes a network and a machine of another user, whose names look like ctload's.
func theirs(t *testing.T, h *libvirttest.Hypervisor) {
	t.Helper()
	uri, err := url.Parse(h.URI())
	if err != nil {
		t.Fatal(err)
	}
	virt, err := golibvirt.ConnectToURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	_, err = virt.NetworkCreateXML(
		`<network><name>ctload-theirs-client</name><bridge name="theirs0"/></network>`)
	_, domainErr := virt.DomainCreateXML(`<domain type="qemu"><name>ctload-theirs-dut-1</name>
		<memory unit="MiB">16</memory>
		<os><type arch="x86_64" machine="pc">hvm</type></os></domain>`, golibvirt.DomainStartPaused)
	if err := errors.Join(err, domainErr, virt.Disconnect()); err != nil {
		t.Fatal(err)
	}
}
