package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm/libvirt/libvirttest"
	"github.com/ctload/ctload/vm/netns"
)

// acrossLabs is the shipped table-full with the size of its table spelled out, which the labs would
// choose by their own memory, a smaller one, and with more time for requests, since other guests
// run beside it.
const acrossLabs = `
experiment: across-labs
extends: table-full
workload:
  http: {requests: 1300, timeout: 15s}
scenarios:
  baseline: {sysctl: {net.netfilter.nf_conntrack_max: 1024}, buckets: 1024}
recovery: 1s
`

// TestAcrossLabs runs one experiment file in every lab: in machines of this host, in namespaces, on
// a distribution from a box that is built here, and on an existing libvirt daemon. The verdicts are
// the same, and one table shows them beside each other.
func TestAcrossLabs(t *testing.T) {
	labtest.Need(t)
	if !libvirttest.Root(t) {
		return
	}
	file, folder := experiment(t, acrossLabs), t.TempDir()
	var mu sync.Mutex
	folders := map[string]string{} // of the measured runs, by lab
	check := func(t *testing.T, lab, names string, limit time.Duration,
		command func(args ...string) *exec.Cmd, args ...string) {
		t.Helper()
		out := filepath.Join(folder, lab)
		mu.Lock()
		folders[lab] = out
		mu.Unlock()
		line := append([]string{
			"run", file, "--scenario", names, "--out", out, "--format", "json",
			labtest.Retries,
		}, args...)
		o := finish(t, command(line...), limit)
		if o.status != statusOK {
			t.Errorf("%s: exit status %d\n%s\n%s", lab, o.status, o.stdout, o.stderr)
			return
		}
		run := decode(t, o.stdout)
		boxed := run.Environment.Box != "" && run.Environment.BoxVersion != ""
		if boxed != (lab == "vagrant") {
			t.Errorf("%s: its environment is %+v", lab, run.Environment)
		}
		for _, s := range run.Scenarios {
			want, trial := results.Clean, s.Trials[0]
			if s.Name == "baseline" {
				want = results.TableFull
			}
			t.Logf("%s: %s: %s", lab, s.Name, trial.Sentence)
			c := trial.Conntrack
			full := want == results.TableFull
			// A request that was refused may complete after a retry.
			if trial.Verdict != want || full != (c.Drop > 0) || !full && trial.Load.Failed > 0 ||
				full && c.Max != 1024 {
				t.Errorf("%s: %s: %s, want %s; max %d, drop %d, %d failed",
					lab, s.Name, trial.Verdict, want, c.Max, c.Drop, trial.Load.Failed)
			}
			// Also on the box: the agent's own connection is in a namespace of its own.
			if want == results.Clean && c.Peak > 10 {
				t.Errorf("%s: %d entries in a table that tracks nothing", lab, c.Peak)
			}
		}
	}

	const both = "baseline,raw-notrack"
	here := func(args ...string) *exec.Cmd { return command(t, args...) }
	// Alone, since it shrinks this host's table meanwhile.
	before := hostSettings(t)
	if err := errors.Join(netns.Changeable(), hostTracksLittle()); err != nil {
		t.Logf("without namespaces: %v", err)
	} else {
		release := hosttest.ChangesSettings(t)
		check(t, "netns", both, 5*time.Minute, here, "--driver", "netns", "--allow-host-changes")
		if diff := cmp.Diff(before, hostSettings(t)); diff != "" {
			t.Errorf("the host was changed:\n%s", diff)
		}
		release()
	}
	t.Parallel() // from here on
	t.Run("labs", func(t *testing.T) {
		t.Run("machines", func(t *testing.T) {
			t.Parallel()
			check(t, "machines", "baseline", 10*time.Minute, here)
		})
		t.Run("daemon", func(t *testing.T) {
			needsTime(t)
			t.Parallel()
			onDaemon(t, func(h *libvirttest.Hypervisor, state string) {
				there := func(args ...string) *exec.Cmd { return on(t, h, state, args...) }
				check(t, "daemon", both, 10*time.Minute, there, "--connect", h.URI())
			})
		})
		t.Run("vagrant", func(t *testing.T) {
			t.Parallel()
			endsClean(t, func(environment []string) {
				boxed := func(args ...string) *exec.Cmd {
					cmd := command(t, args...)
					cmd.Env = environment
					return cmd
				}
				// A box boots for a minute.
				check(t, "vagrant", "baseline", 20*time.Minute, boxed, "--driver", "vagrant",
					"--box", "build")
			})
		})
	})

	var runs []string
	for _, lab := range []string{"netns", "machines", "daemon", "vagrant"} {
		if out := folders[lab]; out != "" {
			runs = append(runs, out)
		}
	}
	o := ctload(t, time.Minute, append([]string{"compare"}, runs...)...)
	if o.status != statusUsage || !strings.Contains(o.stderr, "--across-labs") {
		t.Errorf("compared unasked: exit status %d\n%s", o.status, o.stderr)
	}
	o = ctload(t, time.Minute, append([]string{"compare", "--across-labs"}, runs...)...)
	t.Logf("compared:\n%s", o.stdout)
	if o.status != statusOK || !strings.Contains(o.stdout, "across labs") {
		t.Errorf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
}

// hostTracksLittle returns an error when a table that is smaller for some seconds would harm this
// host's own connections.
func hostTracksLittle() error {
	const most = 300
	count, err := tuning.Kernel{}.ReadCount()
	if err == nil && count > most {
		err = fmt.Errorf("this host tracks %d connections", count)
	}
	return err
}

// onDaemon makes a daemon for others, calls do with it, and checks that nothing is left there and
// in the state folder.
func onDaemon(t *testing.T, do func(h *libvirttest.Hypervisor, state string)) {
	t.Helper()
	h, state := libvirttest.Start(t, "daemon"), t.TempDir()
	before := h.Links()
	do(h, state)
	clean(t, h, before, 0)
	if left, _ := filepath.Glob(filepath.Join(state, "ctload", "runs", "*")); len(left) > 0 {
		t.Errorf("journals are left: %v", left)
	}
}

// endsClean has do run ctload in an environment with a mark and a folder for temporary files, and
// afterwards searches for processes with the mark and files in the folder.
func endsClean(t *testing.T, do func(environment []string)) {
	t.Helper()
	temporary := t.TempDir()
	mark := fmt.Sprintf("CTLOAD_TEST=%s.", temporary)
	do(append(os.Environ(), mark, "TMPDIR="+temporary))
	noneLeft(t, mark)
	for name := range files(t, temporary) {
		if name != temporary {
			t.Errorf("file %s is left", name)
		}
	}
}
