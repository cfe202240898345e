package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm/netns"
)

// hostSettings returns this host's parameters of connection tracking, without its fill.
func hostSettings(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("/proc/sys/net/netfilter/nf_conntrack_*")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		settings[filepath.Base(file)] = strings.TrimSpace(string(text))
	}
	delete(settings, "nf_conntrack_count")
	if len(settings) == 0 {
		t.Fatal("this host has no connection tracking: modprobe nf_conntrack")
	}
	return settings
}

// TestFurtherSources begins connections from more addresses than a client's first, of both
// families: the answers find the way back.
func TestFurtherSources(t *testing.T) {
	labtest.Need(t)
	for _, topology := range []string{"server", "router"} {
		file := experiment(t, "experiment: sources\ntopology: {kind: "+topology+
			", families: [ipv4, ipv6]}\nworkload:\n- {generator: tcp, connections: 80, "+
			"rate: 80/s, sources: 20}\nrecovery: 0s\n")
		o, _ := measuredRun(t, time.Minute, file, "--driver", "netns")
		if o.status != statusOK {
			t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
		}
		if trial := decode(t, o.stdout).Scenarios[0].Trials[0]; trial.Load.Done() != 80 {
			t.Errorf("%s: %d of 80 connections: %s", topology, trial.Load.Done(), trial.Sentence)
		}
	}
}

// TestNamespaces runs the library's experiment for namespaces: both scenarios clean, the DUT's own
// count and counters, the host's kernel and table in the report, nothing else of the host, and the
// host unchanged.
func TestNamespaces(t *testing.T) {
	labtest.Need(t)
	before := hostSettings(t)
	began := time.Now()
	o, _ := measuredRun(t, 5*time.Minute, "tracking-cost", "--driver", "netns")
	t.Logf("%.1f s in all", time.Since(began).Seconds())
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	if diff := cmp.Diff(before, hostSettings(t)); diff != "" {
		t.Errorf("the host was changed:\n%s", diff)
	}
	run := decode(t, o.stdout)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	e := run.Environment
	if e.Driver != netns.Driver || e.Accelerator != "" ||
		e.Kernel != unix.ByteSliceToString(name.Release[:]) {
		t.Errorf("environment %+v", e)
	}
	peaks := map[string]int64{}
	for _, s := range run.Scenarios {
		trial := s.Trials[0]
		peaks[s.Name] = trial.Conntrack.Peak
		t.Logf("%s: %.0f connections/s, %v", s.Name, trial.Load.Rate, trial.Stages)
		c := trial.Conntrack
		if trial.Verdict != results.Clean || trial.Load.Done() != 20_000 ||
			fmt.Sprint(c.Max) != before["nf_conntrack_max"] {
			t.Errorf("%s: %s %s, max %d", s.Name, trial.Verdict, trial.Sentence, c.Max)
		}
		if c.LogMissing == "" || trial.Stack.DropReasonsMissing == "" ||
			trial.Stack.DropReasons != nil {
			t.Errorf("%s: the host's log lines and drop reasons are given as the DUT's: %q, %+v",
				s.Name, c.LogMissing, trial.Stack)
		}
		if s.Configuration.Kernel != "host" {
			t.Errorf("%s: the report says that its kernel was %s", s.Name, s.Configuration.Kernel)
		}
	}
	if want := (map[string]int64{"baseline": 20_000, "raw-notrack": 0}); !maps.Equal(peaks, want) {
		t.Errorf("peaks %v, want %v", peaks, want)
	}
}

// modules asks for a module that this kernel lacks.
const modules = `
experiment: modules
workload: [{generator: tcp, connections: 1, concurrency: 1}]
scenarios:
  none: {}
  loads: {modules: {load: [nf_no_such]}}
`

// TestNamespacesRefuse asks namespaces for what they cannot give.
func TestNamespacesRefuse(t *testing.T) {
	for _, tc := range []struct {
		name         string
		args         []string
		says, beside []string
	}{
		{"table and hash", []string{"table-full"},
			[]string{"raised-max", "nf_conntrack_max", "nf_conntrack_buckets", "--driver libvirt",
				"--allow-host-changes"}, []string{"shortened-timeouts", "raw-notrack"}},
		{"kernel", []string{"tracking-cost", "--kernel", "debian/trixie"},
			[]string{"debian/trixie", "--driver libvirt"}, nil},
		{"two kernels", []string{"tracking-cost", "--kernel", "host,debian/bookworm,debian/trixie"},
			[]string{"debian/trixie"}, []string{"kernel host"}},
		{"modules", []string{experiment(t, modules)},
			[]string{"scenario loads", "module nf_no_such loaded", "--driver libvirt",
				"--allow-host-changes"}, []string{"scenario none"}},
		{"changes elsewhere", []string{"table-full", "--driver", "libvirt", "--allow-host-changes"},
			[]string{"--driver netns"}, nil},
		{"nearest word", []string{"table-full", "--driver", "netsn"}, []string{`"netns"`}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"run"}, tc.args...)
			if !strings.Contains(strings.Join(args, " "), "--driver") {
				args = append(args, "--driver", "netns")
			}
			o := ctload(t, time.Minute, args...)
			if o.status != statusUsage {
				t.Errorf("exit status %d, want %d", o.status, statusUsage)
			}
			for _, word := range tc.says {
				if !strings.Contains(o.stderr, word) {
					t.Errorf("it does not say %q:\n%s", word, o.stderr)
				}
			}
			for _, word := range tc.beside {
				if strings.Contains(o.stderr, word) {
					t.Errorf("it names %q, which is nothing to refuse:\n%s", word, o.stderr)
				}
			}
		})
	}
}

// changing asks for a larger table and hash than most hosts have, so that the host's other
// connections keep their room.
const changing = `
experiment: changing
dut:
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    COMMIT
workload:
  - {generator: tcp, connections: 500, concurrency: 10}
scenarios:
  own: {}
  larger:
    sysctl: {net.netfilter.nf_conntrack_max: 300032}
    buckets: 300032
recovery: %s
`

// TestModulesOfTheHost asks for a module that no kernel has where host changes are allowed: the
// kernel, or modprobe, says why it is not available, before anything starts.
func TestModulesOfTheHost(t *testing.T) {
	needsLab(t)
	o := ctload(t, 2*time.Minute, "run", experiment(t, modules), "--driver", "netns",
		"--allow-host-changes")
	said := []string{"scenario loads", "nf_no_such", "--driver libvirt"}
	if netns.Changeable() != nil {
		said = []string{"sudo"}
	}
	for _, word := range said {
		if o.status != statusHost || !strings.Contains(o.stderr, word) {
			t.Errorf("exit status %d, want %d with %q:\n%s", o.status, statusHost, word, o.stderr)
		}
	}
}

// TestHostChanges lets scenarios change this host: they get their settings, and the host is as
// before, also after SIGKILL and gc. A user without the privilege gets a message that says so.
func TestHostChanges(t *testing.T) {
	labtest.Need(t)
	hosttest.ChangesSettings(t)
	before := hostSettings(t)
	environment := append(os.Environ(), "XDG_STATE_HOME="+t.TempDir())
	with := func(args ...string) *exec.Cmd {
		cmd := command(t, args...)
		cmd.Env = environment
		return cmd
	}
	run := []string{
		"run", "--driver", "netns", "--allow-host-changes", "--format", "json", labtest.Retries,
	}
	o := finish(t, with(append(run, experiment(t, fmt.Sprintf(changing, "100ms")))...),
		10*time.Minute)
	if netns.Changeable() != nil {
		if o.status != statusHost || !strings.Contains(o.stderr, "sudo") {
			t.Errorf("exit status %d, want %d, and how:\n%s", o.status, statusHost, o.stderr)
		}
		t.Log("this test is run by somebody who may not change the host")
		return
	}
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	for _, s := range decode(t, o.stdout).Scenarios {
		c := s.Trials[0].Conntrack
		want := fmt.Sprint(c.Max) == before["nf_conntrack_max"] &&
			fmt.Sprint(c.Buckets) == before["nf_conntrack_buckets"]
		if s.Name == "larger" {
			want = c.Max == 300032 && c.Buckets == 300032
		}
		if !want {
			t.Errorf("%s: max %d, %d buckets", s.Name, c.Max, c.Buckets)
		}
	}
	same := func(when string) {
		t.Helper()
		if diff := cmp.Diff(before, hostSettings(t)); diff != "" {
			t.Errorf("the host is changed %s:\n%s", when, diff)
		}
	}
	same("after the run")

	killed := with(append(run, experiment(t, fmt.Sprintf(changing, "5m")),
		"--scenario", "larger")...)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = killed.Process.Kill() })
	changed := hosttest.Poll(2*time.Minute, func() bool {
		now := hostSettings(t)
		return now["nf_conntrack_max"] == "300032" && now["nf_conntrack_buckets"] == "300032"
	})
	if !changed {
		t.Error("the host was never changed")
	}
	o = finish(t, with("gc"), time.Minute)
	if o.status != statusOK || !strings.Contains(o.stdout, "alive") {
		t.Errorf("gc beside a run: exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	beside := finish(t, with("run", "tracking-cost", "--driver", "netns"), time.Minute)
	if beside.status != statusHost || !strings.Contains(beside.stderr, "another run") {
		t.Errorf("a run on a host that another one changes: exit status %d\n%s",
			beside.status, beside.stderr)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	// Its sandbox ends a moment later.
	dead := hosttest.Poll(time.Minute, func() bool {
		return !strings.Contains(finish(t, with("gc", "--dry-run"), time.Minute).stdout, "alive")
	})
	if !dead {
		t.Error("the killed run is still taken for alive")
	}
	t.Cleanup(func() { _ = with("gc").Run() }) // whatever fails below
	o = finish(t, with("run", "tracking-cost", "--driver", "netns"), time.Minute)
	if o.status != statusHost || !strings.Contains(o.stderr, "ctload gc") {
		t.Errorf("a run on a host that was left changed: exit status %d\n%s", o.status, o.stderr)
	}
	o = finish(t, with("gc", "--dry-run"), time.Minute)
	if o.status != statusOK || strings.Count(o.stdout, "there ") != 2 {
		t.Errorf("gc --dry-run: exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	o = finish(t, with("gc"), time.Minute)
	if o.status != statusOK || strings.Count(o.stdout, "removed ") != 2 {
		t.Errorf("gc: exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	same("after SIGKILL and gc")
	if o := finish(t, with("gc"), time.Minute); !strings.Contains(o.stdout, "no killed run") {
		t.Errorf("gc once more:\n%s", o.stdout)
	}
}
