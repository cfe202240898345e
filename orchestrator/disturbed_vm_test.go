package orchestrator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/sandbox"
)

// steady is an experiment whose load lasts long enough to act in its middle.
const steady = `
experiment: disturbed
dut:
  memory: 256MiB
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
workload:
  - {generator: udp, rate: 50/s, duration: %v, silent: true}
recovery: {at-least: 1s, at-most: 1s}
trials: %d
scenarios:
  one: {}
`

// underWay reports whether a load of [steady] has begun.
func underWay(s results.Sample) bool { return s.Count > 20 }

// invalidFor requires the first trial to be INVALID for a reason with the given words.
func invalidFor(t *testing.T, run *results.Run, words ...string) results.Trial {
	t.Helper()
	trial := run.Scenarios[0].Trials[0]
	if trial.Verdict != results.Invalid {
		t.Errorf("verdict %s, want INVALID: %s", trial.Verdict, trial.Sentence)
	}
	for _, word := range words {
		if !strings.Contains(strings.Join(trial.Invalid, "\n"), word) {
			t.Errorf("the reasons do not say %q:\n%s", word, strings.Join(trial.Invalid, "\n"))
		}
	}
	return trial
}

// TestSettingChangedBehindOurBack changes a timeout in mid-trial.
func TestSettingChangedBehindOurBack(t *testing.T) {
	inLab(t, func(t *testing.T) {
		run := play{
			text: fmt.Sprintf(steady, 8*time.Second, 1),
			when: underWay,
			act: func(ctx context.Context, dut, _ vm.Node) error {
				return dut.Agent().Configure(ctx, tuning.Settings{
					Sysctl: []tuning.Sysctl{{Key: "net.netfilter.nf_conntrack_udp_timeout",
						Value: "77"}},
				})
			},
		}.run(t)
		invalidFor(t, run, "net.netfilter.nf_conntrack_udp_timeout changed from 30 to 77")
	})
}

// TestGuestOops crashes the guest's kernel in mid-trial: the cause is on the console, the load ends
// soon, and the next trial is a valid one.
func TestGuestOops(t *testing.T) {
	inLab(t, func(t *testing.T) {
		var crashed time.Time
		run := play{
			text: fmt.Sprintf(steady, 2*time.Minute, 1) +
				"  after: {workload: [{generator: udp, rate: 50/s, duration: 2s, silent: true}]}\n",
			order: []Slot{{Scenario: 0, Number: 1}, {Scenario: 1, Number: 1}},
			when:  underWay,
			tools: []string{"tee"},
			act: func(ctx context.Context, dut, _ vm.Node) error {
				crashed = time.Now()
				_, err := dut.Agent().Exec(ctx, "c", "tee", "/proc/sysrq-trigger")
				if err == nil {
					return errors.New("the guest lives on")
				}
				return nil
			},
		}.until(t,
			func(run *results.Run) bool { return !run.Scenarios[1].Trials[0].Spoilt() })
		trial := invalidFor(t, run, "sysrq")
		loading := func(s results.Stage) bool { return s.Name == stageLoad }
		var took time.Duration
		for _, stage := range trial.Stages[slices.IndexFunc(trial.Stages, loading):] {
			took += time.Duration(stage.Seconds * float64(time.Second))
		}
		if lasted := trial.Started.Add(took).Sub(crashed); lasted > time.Minute {
			t.Errorf("the trial went on for %v after its DUT had died", lasted)
		}
		if next := run.Scenarios[1].Trials[0]; next.Verdict != results.Clean {
			t.Errorf("the next trial: %s: %s", next.Verdict, next.Sentence)
		}
	})
}

// TestGeneratorTracksItself gives the client a rule by state, so that its own kernel tracks the
// load too.
func TestGeneratorTracksItself(t *testing.T) {
	inLab(t, func(t *testing.T) {
		run := play{
			text: fmt.Sprintf(steady, 3*time.Second, 1),
			joined: func(ctx context.Context, client vm.Node) error {
				rules := "table ip own {\n chain out {\n type filter hook output priority 0\n" +
					" ct state established accept\n }\n}\n"
				out, err := client.Agent().Exec(ctx, rules, "/usr/sbin/nft", "-f", "-")
				if err == nil && out.Exit != 0 {
					err = errors.New(out.Stderr)
				}
				return err
			},
		}.run(t)
		invalidFor(t, run, "the generator's own connection-tracking table grew", "entries")
	})
}

// TestGuestStopped stops the machine for a second and a half. Its clock runs on, so that samples
// are missing: the host has spoilt the trial, and the next one measures the same again.
func TestGuestStopped(t *testing.T) {
	inLab(t, func(t *testing.T) {
		run := play{
			text: fmt.Sprintf(steady, 6*time.Second, 1), retries: 1,
			when: underWay,
			act: func(ctx context.Context, _, _ vm.Node) error {
				machine, err := findProcess("qemu-system")
				if err != nil {
					return err
				}
				if err := machine.Signal(syscall.SIGSTOP); err != nil {
					return err
				}
				err = wait(ctx, 1500*time.Millisecond)
				return errors.Join(err, machine.Signal(syscall.SIGCONT))
			},
		}.run(t)
		spoilt := invalidFor(t, run, "the DUT stood still: ")
		if trials := run.Scenarios[0].Trials; len(trials) != 2 || spoilt.RepeatedAs != 2 ||
			trials[1].Number != 2 || trials[1].Conntrack.LongestGap > 1 && !trials[1].Spoilt() {
			t.Errorf("trial 1 was repeated as %d; all trials: %+v", spoilt.RepeatedAs, trials)
		}
	})
}

// TestGuestPaused has libvirt pause the machine for three seconds, as a migration or a snapshot
// does. The guest's own clock stands still, so that no sample seems to be missing: the comparison
// of the clocks shows the pause.
func TestGuestPaused(t *testing.T) {
	hosttest.NeedTime(t)
	inLab(t, func(t *testing.T) {
		run := play{
			text: fmt.Sprintf(steady, 10*time.Second, 1),
			when: underWay,
			act: func(ctx context.Context, _, _ vm.Node) error {
				sockets, err := filepath.Glob(filepath.Join(sandbox.RuntimeDir, "libvirt", "run",
					"libvirt", "*-sock"))
				sockets = slices.DeleteFunc(sockets,
					func(s string) bool { return strings.Contains(s, "admin") })
				if err != nil || len(sockets) != 1 {
					return errors.Join(err, fmt.Errorf("libvirt has %d sockets: %q", len(sockets),
						sockets))
				}
				virt, err := golibvirt.ConnectToURI(&url.URL{Scheme: "qemu", Path: "/session",
					RawQuery: "socket=" + sockets[0]})
				if err != nil {
					return err
				}
				domains, _, err := virt.ConnectListAllDomains(1, golibvirt.ConnectListDomainsActive)
				if err != nil {
					return err
				}
				return errors.Join(virt.DomainSuspend(domains[0]), wait(ctx, 3*time.Second),
					virt.DomainResume(domains[0]), virt.Disconnect())
			},
		}.run(t)
		trial := invalidFor(t, run, "its clock ran unevenly")
		if trial.Clock == nil || trial.Clock.ErrorMillis < 300 {
			t.Errorf("clock %+v, want an error of the order of seconds", trial.Clock)
		}
	})
}

// findProcess returns the one process of the sandbox whose command line begins with a program of
// that name.
func findProcess(name string) (*os.Process, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if program, _, _ := bytes.Cut(line, []byte{0}); err != nil ||
			!strings.Contains(filepath.Base(string(program)), name) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		return os.FindProcess(pid)
	}
	return nil, fmt.Errorf("no process of %s", name)
}

// TestDatagramsThatRace has two CPUs of the DUT send datagrams of one socket at once, through DNAT.
func TestDatagramsThatRace(t *testing.T) {
	hosttest.NeedTime(t)
	inLab(t, func(t *testing.T) {
		run := play{
			text: `
experiment: race
dut:
  vcpus: 2
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
    *nat
    -A OUTPUT -p udp -d 10.77.0.250 --dport 53 -j DNAT --to-destination 10.77.0.2:5353
    COMMIT
workload:
  - {generator: udp, rate: 50/s, duration: 10s, silent: true}
recovery: {at-least: 5s}
scenarios:
  one: {sysctl: {net.netfilter.nf_conntrack_max: 65536}, buckets: 65536}
`,
			when: underWay,
			act: func(ctx context.Context, dut, _ vm.Node) error {
				// The host may lack the time for both CPUs at once. The first race that shows is
				// enough: further ones could outlast the trial.
				for range 5 {
					out, err := dut.Agent().Exec(ctx, "", "race", "10.77.0.250:53", "200")
					if err == nil && out.Exit != 0 {
						err = errors.New(out.Stderr)
					}
					if err != nil {
						return err
					}
					t.Log(strings.TrimSpace(out.Stdout))
					table, err := dut.Agent().ReadFile(ctx, "/proc/net/stat/nf_conntrack")
					if err != nil || racesIn(table) {
						return err
					}
				}
				return nil
			},
		}.measured(t)
		trial := run.Scenarios[0].Trials[0]
		want := results.Clean // a resolved race harms nothing
		c := trial.Conntrack
		if c.InsertFailed > 0 {
			want = results.Clash
		}
		if trial.Verdict != want || c.ClashResolve+c.InsertFailed == 0 {
			t.Errorf("verdict %s, clash_resolve %d, insert_failed %d; want %s, and one of "+
				"the counters risen", trial.Verdict, c.ClashResolve, c.InsertFailed, want)
		}
	})
}

// racesIn reports whether a column about races in /proc/net/stat/nf_conntrack has risen on any CPU.
func racesIn(table string) bool {
	lines := strings.Split(strings.TrimSpace(table), "\n")
	for i, column := range strings.Fields(lines[0]) {
		if column != "clashres" && column != "insert_failed" {
			continue
		}
		for _, line := range lines[1:] {
			if n, err := strconv.ParseUint(strings.Fields(line)[i], 16, 32); err == nil && n > 0 {
				return true
			}
		}
	}
	return false
}

// TestExistingConnectionsLiveOn sends requests over an earlier connection while new ones find the
// table full.
func TestExistingConnectionsLiveOn(t *testing.T) {
	hosttest.NeedTime(t)
	inLab(t, func(t *testing.T) {
		var asked, answered int
		run := play{
			text: `
experiment: existing
dut:
  memory: 256MiB
  sysctl: {net.netfilter.nf_conntrack_max: 1000}
  buckets: 1024
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
workload:
  - {generator: http, requests: 5, concurrency: 1, ports: 81}
  - {generator: hold, connections: 1400, rate: 400/s, duration: 4s, timeout: 4s, start: 3s,
     source-ports: 1024-30000} # the asker's is above
recovery: {at-least: 1s, at-most: 1s}
scenarios:
  one: {}
`,
			when: func(s results.Sample) bool { return s.Seconds > 0 },
			act: func(ctx context.Context, _, client vm.Node) error {
				out, err := client.Agent().Exec(ctx, "",
					labtest.Program(t, "orchestrator/testdata/asker"), "10.77.0.1:81", "10")
				if err != nil {
					return err
				}
				if _, err := fmt.Sscan(out.Stdout, &asked, &answered); err != nil {
					return fmt.Errorf("%s: %w", out.Stderr, err)
				}
				return nil
			},
		}.measured(t)
		if asked == 0 || asked != answered {
			t.Errorf("of %d questions on a connection of before %d were answered", asked, answered)
		}
		trial := run.Scenarios[0].Trials[0]
		if c := trial.Conntrack; trial.Verdict != results.TableFull || c.SecondsToFull == nil ||
			*c.SecondsToFull > 8 {
			t.Errorf("verdict %s, full after %v s: the table was not full while it asked",
				trial.Verdict, c.SecondsToFull)
		}
	})
}
