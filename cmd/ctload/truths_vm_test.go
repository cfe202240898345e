package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/results"
)

// tracked is a DUT whose every packet is tracked and none is refused by a rule.
const tracked = `
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
`

// TestTruths runs loads whose outcome is known beforehand from the kernel's own rules
// (nf_conntrack_core.c) and holds figures and verdicts to it. The scenarios of one experiment share
// a workload; each boots a guest of its own.
func TestTruths(t *testing.T) {
	needsLab(t)
	type truth struct {
		verdict, also results.Verdict
		check         func(*testing.T, results.Trial)
	}
	for _, tc := range []struct {
		name, text string
		truths     map[string]truth
	}{
		{
			name: "unreplied datagrams",
			text: `
experiment: datagrams
dut:` + tracked + `
workload:
  - {generator: udp, flows: 10000, rate: 2000/s, silent: true}
recovery: 3s
scenarios:
  few-in-many-buckets: {sysctl: {net.netfilter.nf_conntrack_max: 2000}, buckets: 65536}
  few-in-few-buckets: {sysctl: {net.netfilter.nf_conntrack_max: 2000}, buckets: 2048}
`,
			truths: map[string]truth{
				"few-in-many-buckets": {results.TableFull, results.Evicting, func(t *testing.T, trial results.Trial) {
					c := trial.Conntrack
					if c.Drop == 0 || c.EarlyDrop == 0 || c.Drop+c.EarlyDrop != 8000 {
						t.Errorf("drop %d + early_drop %d, want both, and 8000 together: what did not fit", c.Drop, c.EarlyDrop)
					}
					// An independent witness: no rule drops here, so that the reason is conntrack's.
					if n := trial.Stack.DropReasons["NETFILTER_DROP"]; n != c.Drop {
						t.Errorf("drop %d, and the kernel freed %d packets as NETFILTER_DROP %s", c.Drop, n, trial.Stack.DropReasonsMissing)
					}
				}},
				"few-in-few-buckets": {results.Evicting, "", func(t *testing.T, trial results.Trial) {
					c := trial.Conntrack
					if c.Drop != 0 || c.LogLines != 0 || c.EarlyDrop < 7900 {
						t.Errorf("drop %d, %d log lines, early_drop %d; want 0, 0 and about 8000", c.Drop, c.LogLines, c.EarlyDrop)
					}
				}},
			},
		},
		{
			name: "long chains",
			text: `
experiment: chains
dut:
  memory: 1GiB` + tracked + `
workload:
  - {generator: udp, flows: 30000, rate: 4000/s, silent: true}
recovery: 3s
scenarios:
  tiny-hash: {sysctl: {net.netfilter.nf_conntrack_max: 200000}, buckets: 512}
`,
			truths: map[string]truth{
				"tiny-hash": {results.ChainTooLong, "", func(t *testing.T, trial results.Trial) {
					c := trial.Conntrack
					if c.InsertFailed == 0 || c.ChainTooLong == 0 || c.Drop != 0 {
						t.Errorf("insert_failed %d, chain_toolong %d, drop %d; want both of the first and no drop", c.InsertFailed, c.ChainTooLong, c.Drop)
					}
				}},
			},
		},
		{
			name: "held handshakes",
			text: `
experiment: held
dut:` + tracked + `
workload:
  - {generator: hold, connections: 2200, rate: 200/s, duration: 3s, timeout: 4s}
recovery: 1s
scenarios:
  full: {sysctl: {net.netfilter.nf_conntrack_max: 2000}, buckets: 2048}
`,
			truths: map[string]truth{
				"full": {results.TableFull, "", func(t *testing.T, trial results.Trial) {
					if l := trial.Load; l.Completed != 2000 || l.Failed != 200 {
						t.Errorf("completed %d, failed %d %v; want 2000 and 200", l.Completed, l.Failed, l.Causes)
					}
				}},
			},
		},
		{
			name: "nothing tracked",
			text: `
experiment: blameless
dut: {memory: 256MiB}
workload:
  - {generator: http, requests: 300, concurrency: 20, timeout: 2s}
recovery: 1s
scenarios:
  no-rule: {modules: {load: [nf_conntrack]}}
`,
			truths: map[string]truth{
				"no-rule": {results.Clean, "", func(t *testing.T, trial results.Trial) {
					if trial.Conntrack.Peak != 0 || !strings.Contains(trial.Sentence, "nothing was tracked") {
						t.Errorf("peak %d: %s", trial.Conntrack.Peak, trial.Sentence)
					}
				}},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := ctload(t, 10*time.Minute, "run", experiment(t, tc.text), "--format", "json", "--out", filepath.Join(t.TempDir(), "run"))
			if o.status != statusOK {
				t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
			}
			for _, s := range decode(t, o.stdout).Scenarios {
				want, trial := tc.truths[s.Name], s.Trials[0]
				t.Logf("%s: %s", s.Name, trial.Sentence)
				if trial.Verdict != want.verdict || trial.Also != want.also {
					t.Errorf("%s: verdict %s + %s, want %s + %s", s.Name, trial.Verdict, trial.Also, want.verdict, want.also)
				}
				want.check(t, trial)
			}
		})
	}
}

// TestFirewallIsNotConntrack has rules drop every new connection: the failures are the firewall's.
func TestFirewallIsNotConntrack(t *testing.T) {
	needsLab(t)
	text := `
experiment: firewall
dut:
  memory: 256MiB
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    -A INPUT -p tcp --dport 80 -j DROP
    COMMIT
workload:
  - {generator: http, requests: 60, concurrency: 20, timeout: 2s}
recovery: 1s
scenarios:
  drop: {}
`
	o := ctload(t, 5*time.Minute, "run", experiment(t, text), "--format", "json")
	trial := decode(t, o.stdout).Scenarios[0].Trials[0]
	t.Log(trial.Sentence)
	if trial.Verdict != results.NotConntrack || trial.Load.Failed != 60 {
		t.Errorf("verdict %s, failed %d; want not-conntrack and all 60", trial.Verdict, trial.Load.Failed)
	}
	if trial.Stack == nil || trial.Stack.RulesDropped < 60 || !strings.Contains(trial.Sentence, "rule") {
		t.Errorf("the rule that dropped them is not named: %+v\n%s", trial.Stack, trial.Sentence)
	}
}

// TestGeneratorShortOfDescriptors gives the generator fewer descriptors than the load needs.
func TestGeneratorShortOfDescriptors(t *testing.T) {
	needsLab(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	text := `
experiment: descriptors
dut:
  memory: 256MiB` + tracked + `
workload:
  - {generator: hold, connections: 600, rate: 300/s, duration: 1s}
recovery: 1s
scenarios:
  one: {}
`
	cmd := exec.Command("sh", "-c", `ulimit -n 500 && exec "$0" run "$1" --format json`, path, experiment(t, text))
	cmd.Dir = t.TempDir()
	o := finish(t, cmd, 5*time.Minute)
	if o.status != statusInvalid || !strings.Contains(o.stdout, "descriptors") {
		t.Errorf("exit status %d, want %d and a word about descriptors:\n%s\n%s", o.status, statusInvalid, o.stdout, o.stderr)
	}
}

// TestPredictions compares prediction and measurement over pairs of rate and timeout.
func TestPredictions(t *testing.T) {
	needsLab(t)
	var scenarios strings.Builder
	for _, rate := range []int{200, 400} {
		for _, timeout := range []int{2, 5, 30} {
			fmt.Fprintf(&scenarios, "  r%dt%d: {workload: [{generator: udp, rate: %d/s, duration: 12s, silent: true}], sysctl: {net.netfilter.nf_conntrack_udp_timeout: %d}}\n", rate, timeout, rate, timeout)
		}
	}
	text := `
experiment: predictions
dut:` + tracked + `
  sysctl: {net.netfilter.nf_conntrack_max: 3000}
  buckets: 3072
workload:
  - {generator: udp, rate: 300/s, duration: 12s, silent: true}
recovery: 1s
scenarios:
` + scenarios.String()
	file := experiment(t, text)
	// The same arithmetic without a machine.
	var planned []results.Forecast
	if o := ctload(t, time.Minute, "plan", file, "--format", "json"); json.Unmarshal([]byte(o.stdout), &planned) != nil {
		t.Fatalf("ctload plan: exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	o := ctload(t, 15*time.Minute, "run", file, "--format", "json")
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	for i, s := range decode(t, o.stdout).Scenarios {
		trial := s.Trials[0]
		if plan := planned[i].Prediction; plan.Peak != trial.Prediction.Peak && math.Abs(float64(plan.Peak)/float64(trial.Prediction.Peak)-1) > 0.02 {
			t.Errorf("%s: ctload plan says peak %d, the trial's own prediction %d", s.Name, plan.Peak, trial.Prediction.Peak)
		}
		p, c := trial.Prediction, trial.Conntrack
		t.Logf("%s: predicted peak %d, full %v; measured %d, %v", s.Name, p.Peak, seconds(p.SecondsToFull), c.Peak, seconds(c.SecondsToFull))
		if e := math.Abs(float64(c.Peak)/float64(p.Peak) - 1); e > 0.10 {
			t.Errorf("%s: peak %d, predicted %d: %.0f %% off", s.Name, c.Peak, p.Peak, 100*e)
		}
		if (p.SecondsToFull == nil) != (c.SecondsToFull == nil) {
			t.Errorf("%s: full after %v, predicted %v", s.Name, seconds(c.SecondsToFull), seconds(p.SecondsToFull))
		} else if p.SecondsToFull != nil && math.Abs(*c.SecondsToFull/(*p.SecondsToFull)-1) > 0.10 {
			t.Errorf("%s: full after %.2f s, predicted %.2f s", s.Name, *c.SecondsToFull, *p.SecondsToFull)
		}
	}
}

func seconds(s *float64) string {
	if s == nil {
		return "never"
	}
	return fmt.Sprintf("%.2f s", *s)
}
