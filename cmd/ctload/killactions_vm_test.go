package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm/libvirt/libvirttest"
	"github.com/ctload/ctload/vm/netns"
)

// underActions is a load in whose middle actions hold: those of the language that last, as a list.
const underActions = `
experiment: under-actions
topology: {kind: server, clients: 3}
dut:
  memory: 256MiB
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
workload:
  - {generator: udp, rate: 20/s, duration: 600s, silent: true}
  - {probe: tcp, port: 22, rate: 5/s}
recovery: 1s
scenarios:
  one: %s
actions:
%s`

// Actions for any DUT, for one with a kernel of its own, and on links and nodes. Actions that
// starve the DUT's agent come after those of the agent, and the ones that stop the DUT come last: a
// slow DUT has done the rest then.
const (
	anyKernel = `
  - {action: sysctl, name: timeout, sysctl: {net.netfilter.nf_conntrack_udp_timeout: 77}, at: 1s}
  - {action: rules-load, rules: "*raw\n-A PREROUTING -p udp --dport 9 -j NOTRACK\nCOMMIT\n", at: 1s}
  - {action: server-stall, ports: 22, at: 1s}
`
	ownKernel = `
  - {action: sysctl, name: max, sysctl: {net.netfilter.nf_conntrack_max: 4321}, at: 1s}
  - {action: buckets, buckets: 8192, at: 1s}
  - {action: clock-jump, by: 1h, at: 1s}
  - {action: memory-pressure, leave: 64MiB, at: 15s}
  - {action: cpu-throttle, share: 30%, at: 25s}
`
	ownCard = `
  - {action: network, delay: 10ms, loss: 1%, at: 1s}
  - {action: pause, name: dut-stands-still, at: 40s, for: 150s}
`
	linksAndNodes = `
  - {action: link-down, link: client2, at: 2s}
  - {action: partition, node: client, at: 2s}
  - {action: pause, node: client3, at: 2s, for: 150s}
`
)

// actionsLimit limits the time that the actions take: a box boots for minutes on a busy host.
const actionsLimit = 10 * time.Minute

// waitForActions waits until every action of a run holds. It fails the test when the run ends
// before, or when an action cannot be performed.
func waitForActions(t *testing.T, out string, actions int, ended <-chan struct{},
	said *hosttest.Buffer) {
	t.Helper()
	events := func(event string) (names []string) {
		file, err := os.Open(filepath.Join(out, "trials", "one-1", results.FileActions))
		if err != nil {
			return nil
		}
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			var e results.ActionEvent
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.Event == event {
				names = append(names, strings.Join(append([]string{e.Name}, e.Remarks...), ": "))
			}
		}
		return names
	}
	over := func() bool {
		select {
		case <-ended:
			return true
		default:
			return len(events("failed")) > 0
		}
	}
	hosttest.Poll(actionsLimit, func() bool { return over() || len(events("made")) >= actions })
	if over() || len(events("made")) < actions {
		t.Fatalf("of %d actions were made %v, failed %v:\n%s",
			actions, events("made"), events("failed"), said.String())
	}
}

// killDuringActions starts a command, waits until its actions hold, calls look, and kills the
// command with SIGKILL.
func killDuringActions(t *testing.T, cmd *exec.Cmd, out string, actions int, look func()) {
	t.Helper()
	var said hosttest.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	waitForActions(t, out, actions, ended, &said)
	look()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
}

// leavesNothing runs the experiment and kills it in the middle of its actions: no process of it is
// left in any namespace (with the last one its namespaces end, and what holds in them: queueing
// disciplines, rules, links, machines that stand still), no link here, no file.
func leavesNothing(t *testing.T, path string, actions int, more ...string) {
	t.Helper()
	temporary := t.TempDir()
	linksBefore, shmBefore := links(t), files(t, "/dev/shm")
	mark, out := "CTLOAD_TEST="+temporary, filepath.Join(t.TempDir(), "run")
	cmd := command(t, append([]string{"run", path, "--out", out}, more...)...)
	cmd.Env = append(os.Environ(), mark, "TMPDIR="+temporary,
		"XDG_STATE_HOME="+filepath.Join(temporary, "state"))
	killDuringActions(t, cmd, out, actions, func() {
		if len(marked(t, mark)) < 3 {
			t.Errorf("of its processes only %v are seen", marked(t, mark))
		}
	})
	noneLeft(t, mark)
	for name := range links(t) {
		if !linksBefore[name] {
			t.Errorf("link %s is left", name)
		}
	}
	for name := range files(t, "/dev/shm") {
		if !shmBefore[name] {
			t.Errorf("file %s is left", name)
		}
	}
	for name := range files(t, temporary) {
		if name != temporary && !strings.HasPrefix(name, filepath.Join(temporary, "state")) {
			t.Errorf("temporary file %s is left", name)
		}
	}
}

// numberOf returns how many actions a text has.
func numberOf(actions string) int { return strings.Count(actions, "action: ") }

// TestKillDuringActions kills ctload in the middle of every kind of action that lasts, all at once.
func TestKillDuringActions(t *testing.T) {
	needsTime(t)
	actions := anyKernel + linksAndNodes + ownKernel + ownCard
	leavesNothing(t, experiment(t, fmt.Sprintf(underActions, "{}", actions)), numberOf(actions))
}

// TestKillDuringActionsInNamespaces does the same where the DUT shares this host's kernel, and with
// the host itself changed.
func TestKillDuringActionsInNamespaces(t *testing.T) {
	labtest.Need(t)
	before := hostSettings(t)
	actions := anyKernel + linksAndNodes
	t.Run("netns", func(t *testing.T) {
		leavesNothing(t, experiment(t, fmt.Sprintf(underActions, "{}", actions)), numberOf(actions),
			"--driver", "netns")
	})
	t.Run("netns, the host changed", func(t *testing.T) {
		if err := netns.Changeable(); err != nil {
			t.Logf("this test is run by somebody who may not change the host: %v", err)
			return
		}
		state, out := t.TempDir(), filepath.Join(t.TempDir(), "run")
		path := experiment(t, fmt.Sprintf(underActions,
			"{sysctl: {net.netfilter.nf_conntrack_max: 300032}}", actions))
		with := func(args ...string) *exec.Cmd {
			cmd := command(t, args...)
			cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+state)
			return cmd
		}
		t.Cleanup(func() { _ = with("gc").Run() }) // whatever fails below
		killDuringActions(t, with("run", path, "--driver", "netns", "--allow-host-changes",
			"--out", out), out, numberOf(actions), func() {
			if now := hostSettings(t)["nf_conntrack_max"]; now != "300032" {
				t.Errorf("nf_conntrack_max is %s", now)
			}
		})
		removed := hosttest.Poll(time.Minute, func() bool {
			return strings.Contains(finish(t, with("gc"), time.Minute).stdout, "removed ")
		})
		if !removed {
			t.Error("gc put nothing back")
		}
	})
	if diff := cmp.Diff(before, hostSettings(t)); diff != "" {
		t.Errorf("the host is changed:\n%s", diff)
	}
}

// TestKillDuringActionsOnBox does the same to a machine of a box.
func TestKillDuringActionsOnBox(t *testing.T) {
	needsTime(t)
	actions := anyKernel + linksAndNodes + ownKernel
	text := strings.Replace(fmt.Sprintf(underActions, "{}", actions), "256MiB", "512MiB", 1)
	leavesNothing(t, experiment(t, text), numberOf(actions), "--driver", "vagrant",
		"--box", "build")
}

// TestKillDuringActionsOnSharedDaemon does the same on a daemon that others use as well: machines
// stand still, one is unplugged, one is cut off; after gc none of them exists.
func TestKillDuringActionsOnSharedDaemon(t *testing.T) {
	needsTime(t)
	if !libvirttest.Root(t) {
		return
	}
	t.Parallel() // it has a network and processes of its own
	h := libvirttest.Start(t, "acting")
	theirs(t, h)
	before, machines, stood := h.Links(), h.Machines(), standing(t, h)
	state, out := t.TempDir(), filepath.Join(t.TempDir(), "run")
	actions := anyKernel + linksAndNodes + ownKernel + ownCard
	path := experiment(t, fmt.Sprintf(underActions, "{}", actions))
	killDuringActions(t, on(t, h, state, "run", path, "--connect", h.URI(), "--out", out), out,
		numberOf(actions), func() {
			if now := standing(t, h); now != stood+2 {
				t.Errorf("%d machines stand still, want the DUT and client3 beside %d of others",
					now, stood)
			}
		})
	if o := finish(t, on(t, h, state, "gc"), 2*time.Minute); o.status != statusOK {
		t.Errorf("gc: exit status %d\n%s%s", o.status, o.stdout, o.stderr)
	}
	clean(t, h, before, machines)
	if now := standing(t, h); now != stood {
		t.Errorf("%d machines stand still, before %d", now, stood)
	}
	if left := files(t, filepath.Join(state, "ctload", "runs")); len(left) != 1 {
		t.Errorf("journals are left: %v", left)
	}
}

// standing returns how many machines of a hypervisor are paused.
func standing(t *testing.T, h *libvirttest.Hypervisor) int {
	t.Helper()
	uri, err := url.Parse(h.URI())
	if err != nil {
		t.Fatal(err)
	}
	virt, err := golibvirt.ConnectToURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = virt.Disconnect() }()
	paused, _, err := virt.ConnectListAllDomains(1, golibvirt.ConnectListDomainsPaused)
	if err != nil {
		t.Fatal(err)
	}
	return len(paused)
}
