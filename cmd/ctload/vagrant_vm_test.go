package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm/libvirt/libvirttest"
)

// needsTime does as needsLab for a test of minutes: make test-long runs it.
func needsTime(t *testing.T) {
	t.Helper()
	hosttest.NeedTime(t)
	needsLab(t)
}

// builtBox returns the file of the box that --box build makes.
func builtBox(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "ctload", "boxes", "built.box")
	if out, err := exec.Command("../../vm/vagrant/box", path).CombinedOutput(); err != nil {
		t.Fatalf("build a box: %v\n%s", err, out)
	}
	return path
}

// modulesOfHost changes modules of the kernel that it runs on: it loads one with its dependencies,
// and removes one.
const modulesOfHost = `
experiment: modules
workload: [{generator: tcp, connections: 20, concurrency: 2}]
scenarios:
  loads: {modules: {load: [nf_nat_ftp]}}
  removes: {modules: {remove: [nf_conntrack_tftp]}}
  both: {modules: {load: [nf_nat_ftp], remove: [nf_conntrack_tftp]}}
recovery: RECOVERY
`

// TestVMOnBox makes a lab on a distribution and inspects it. Its kernel has loadable modules, so
// that namespaces there, for which it is the host, may load and remove them: afterwards, and after
// SIGKILL and gc, they are as before.
func TestVMOnBox(t *testing.T) {
	needsTime(t)
	lookingAround{
		text: strings.Replace(strings.Replace(small, "%d", "1", 1), "256MiB", "640MiB", 1),
		args: []string{"--driver", "vagrant", "--box", builtBox(t)},
		look: func(shell func(argv ...string) outcome) { changeModules(t, shell) },
	}.test(t)
}

func changeModules(t *testing.T, shell func(argv ...string) outcome) {
	t.Helper()
	sh := func(script string) string {
		t.Helper()
		o := shell("sh", "-c", "cd /root; "+script)
		if o.status != 0 {
			t.Errorf("%s: exit status %d\n%s\n%s", script, o.status, o.stdout, o.stderr)
		}
		return o.stdout
	}
	// Without nf_conntrack_netlink, which the kernel loads when a program walks the table.
	const state = `cut -d' ' -f1 /proc/modules | grep -E '^nf_(nat|conntrack_t?ftp)' | sort; ` +
		`cat /sys/module/nf_conntrack_tftp/parameters/ports`
	const run = `HOME=/root ctload run %.yaml --driver netns --allow-host-changes --format json `
	sh("cp /proc/$PPID/exe /usr/local/bin/ctload; modprobe nf_conntrack_tftp ports=69,7069")
	for name, recovery := range map[string]string{"short": "100ms", "long": "60s"} {
		sh("cat >" + name + ".yaml <<'END'" +
			strings.Replace(modulesOfHost, "RECOVERY", recovery, 1) + "END\n")
	}
	before := sh(state)
	if !strings.Contains(before, "69,7069") ||
		strings.Contains(before, "ftp\n") && !strings.Contains(before, "tftp\n") {
		t.Fatalf("before: %s", before)
	}
	o := shell("sh", "-c", "cd /root; "+strings.Replace(run, "%", "short", 1)+labtest.Retries)
	if o.status != statusOK {
		t.Errorf("exit status %d\n%s", o.status, o.stderr)
	}
	doc := decode(t, o.stdout)
	wanted := []struct{ loads, removes bool }{{true, false}, {false, true}, {true, true}}
	for i, want := range wanted {
		s := doc.Scenarios[i]
		trial := s.Trials[0]
		if trial.Verdict == results.Invalid ||
			slices.Contains(trial.Modules, "nf_nat_ftp") != want.loads ||
			slices.Contains(trial.Modules, "nf_conntrack_tftp") == want.removes {
			t.Errorf("%s: %s %v, with the modules %v",
				s.Name, trial.Verdict, trial.Invalid, trial.Modules)
		}
	}
	if after := sh(state); after != before {
		t.Errorf("afterwards:\n%s\nbefore:\n%s", after, before)
	}
	during := sh(strings.Replace(run, "%", "long", 1) + `--scenario both >/dev/null 2>&1 & run=$!
for i in $(seq 300); do grep -q '^nf_nat_ftp ' /proc/modules && break; sleep 0.2; done
kill -9 $run
for i in $(seq 50); do ctload gc --dry-run | grep -q alive || break; sleep 0.2; done
` + strings.Replace(state, "; cat", "; true || cat", 1))
	if !strings.Contains(during, "nf_nat_ftp") || strings.Contains(during, "nf_conntrack_tftp") {
		t.Errorf("what the kill left:\n%s", during)
	}
	if said := sh("HOME=/root ctload gc"); strings.Count(said, "removed  host-module") < 3 {
		t.Errorf("gc:\n%s", said)
	}
	if after := sh(state); after != before {
		t.Errorf("after SIGKILL and gc:\n%s\nbefore:\n%s", after, before)
	}
}

// TestRouterOnBox has a box forward packets in a run by an ordinary user.
func TestRouterOnBox(t *testing.T) {
	needsTime(t)
	if !libvirttest.Root(t) {
		return
	}
	const routed = `
experiment: routed
topology: router
dut:
  memory: 512MiB
  rules: |
    *filter
    -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
workload:
  - {generator: http, requests: 200, concurrency: 10}
scenarios:
  tracked: {}
recovery: 1s
trials: 2
`
	o := asNobody(t, routed, func(home string) []string {
		box := filepath.Join(home, "my.box")
		copyFile(t, builtBox(t), box, 0o644)
		return []string{"--driver", "vagrant", "--box", box, labtest.Retries}
	})
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	run := decode(t, o.stdout)
	if e := run.Environment; e.Driver != "vagrant" || e.Box != "my.box" || e.BoxVersion == "" {
		t.Errorf("environment %+v", e)
	}
	for _, trial := range run.Scenarios[0].Trials {
		if trial.Verdict != results.Clean || trial.Load.Done() != 200 ||
			trial.Conntrack.Peak < 200 {
			t.Errorf("trial %d: %s, %d of 200 completed, %d entries",
				trial.Number, trial.Verdict, trial.Load.Done(), trial.Conntrack.Peak)
		}
	}
}

// TestPlayground starts both machines of the Vagrantfile with Vagrant alone, on a daemon in system
// mode, and lets one connect to the other.
func TestPlayground(t *testing.T) {
	needsTime(t)
	if !libvirttest.Root(t) {
		return
	}
	h := libvirttest.Start(t, "playground")
	if err := h.Run("mount", "-o", "remount,size=4g", "/var/lib/libvirt"); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	copyFile(t, "../../Vagrantfile", filepath.Join(folder, "Vagrantfile"), 0o644)
	vagrant := func(limit time.Duration, args ...string) outcome {
		t.Helper()
		cmd := h.Enter(t.Context(), "env", append([]string{
			"HOME=" + folder, "VAGRANT_HOME=" + folder + "/home", "VAGRANT_CWD=" + folder,
			"VAGRANT_CHECKPOINT_DISABLE=1",
			// An existing /dev/kvm may not work.
			"CTLOAD_BOX=" + builtBox(t), "CTLOAD_VIRT=qemu", "vagrant",
		}, args...)...)
		began := time.Now()
		o := finish(t, cmd, limit)
		t.Logf("vagrant %v: %.0f s", args, time.Since(began).Seconds())
		if o.status != 0 {
			t.Errorf("vagrant %v: exit status %d\n%s\n%s", args, o.status, o.stdout, o.stderr)
		}
		return o
	}
	vagrant(10*time.Minute, "up", "--no-tty", "--provider", "libvirt")
	if n := h.Machines(); n != 2 {
		t.Errorf("%d machines are up", n)
	}
	said := vagrant(time.Minute, "ssh", "load",
		"-c", "bash -c 'exec 3<>/dev/tcp/10.77.0.11/22 && head -c 7 <&3'").stdout
	if said != "SSH-2.0" {
		t.Errorf("the dut says %q to load", said)
	}
	said = vagrant(time.Minute, "ssh", "dut",
		"-c", "sudo modprobe nf_conntrack && sudo conntrack -C").stdout
	if strings.TrimSpace(said) == "" {
		t.Error("the dut does not tell its count")
	}
	vagrant(2*time.Minute, "destroy", "--force")
	if n := h.Machines(); n != 0 {
		t.Errorf("%d machines are left", n)
	}
}
