package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/results"
)

// TestNotConntrack has loads fail at listeners and at a rule: the verdict clears connection
// tracking, and names the counter that explains the failures.
func TestNotConntrack(t *testing.T) {
	needsTime(t)
	text := `
experiment: listeners
dut:
  memory: 256MiB` + tracked + `
workload:
  - {generator: http, requests: 100, concurrency: 100, timeout: 5s}
recovery: 1s
scenarios:
  closed: {workload: {http: {listener: closed}}}
  full: {workload: {http: {listener: full}}}
  datagrams: {workload: [{generator: udp, flows: 100, rate: 100/s, timeout: 5s, listener: closed}]}
  firewall:
    rules: |
      *filter
      -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
      -A INPUT -p tcp --dport 80 -j DROP
      COMMIT
`
	judgeMeasured(t, experiment(t, text), func(t testing.TB, name string, m measured) {
		trial := m.trial
		t.Logf("%s: %s", name, trial.Sentence)
		if trial.Verdict != results.NotConntrack || trial.Load.Failed != 100 {
			t.Errorf("%s: verdict %s, failed %d; want not-conntrack and all 100",
				name, trial.Verdict, trial.Load.Failed)
		}
		truth := map[string]struct {
			cause, counter string
			rose           int64
		}{
			"closed": {results.CauseRefused, "OutRsts", trial.Stack.OutRsts},
			"full":   {results.CauseTimeout, "ListenOverflows", trial.Stack.ListenOverflows},
			// The kernel limits its ICMP answers: most flows time out.
			"datagrams": {"", "NoPorts", trial.Stack.UDPNoPorts},
			"firewall": {
				results.CauseTimeout, "-A INPUT -p tcp -m tcp --dport 80 -j DROP",
				trial.Stack.RulesDropped,
			},
		}[name]
		if truth.cause != "" && trial.Load.Causes[truth.cause] != 100 {
			t.Errorf("%s: causes %v, want %s alone", name, trial.Load.Causes, truth.cause)
		}
		if name == "closed" && trial.Stack.DropReasons["NO_SOCKET"] < 100 {
			t.Errorf("%s: the kernel's reasons are %v, without 100 times NO_SOCKET (%s)",
				name, trial.Stack.DropReasons, trial.Stack.DropReasonsMissing)
		}
		if truth.rose < 100 || !strings.Contains(trial.Sentence, truth.counter) {
			t.Errorf("%s: %s is %d, want at least 100, and its name in: %s",
				name, truth.counter, truth.rose, trial.Sentence)
		}
	})
}

// TestRuleBesideFullTable has one load meet a rule and another one a full table: the failures of
// each are told apart, and both causes are named.
func TestRuleBesideFullTable(t *testing.T) {
	needsTime(t)
	text := `
experiment: rule-and-table
dut:
  memory: 256MiB
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    -A INPUT -p tcp --dport 81 -j DROP
    COMMIT
  sysctl: {net.netfilter.nf_conntrack_max: 200}
workload:
  - {generator: tcp, connections: 300, rate: 100/s, timeout: 2s}
  - {generator: tcp, name: denied, connections: 200, rate: 66/s, ports: 81, timeout: 2s}
recovery: 1s
`
	judgeMeasured(t, experiment(t, text), func(t testing.TB, _ string, m measured) {
		trial := m.trial
		t.Log(trial.Sentence)
		if trial.Verdict != results.TableFull {
			t.Errorf("verdict %s", trial.Verdict)
		}
		for name, want := range map[string]int64{"tcp": 100, "denied": 200} {
			if got := trial.Entries[name].Failed; got != want {
				t.Errorf("%d of %s failed, want %d", got, name, want)
			}
		}
		for _, w := range []string{"full at 200 entries", "--dport 81 -j DROP\" (table filter"} {
			if !strings.Contains(trial.Sentence, w) {
				t.Errorf("%q is not in it", w)
			}
		}
		got, p := trial.Conntrack.Drop, trial.Prediction
		if math.Abs(float64(got-p.Drop)) > 0.1*float64(p.Drop) {
			t.Errorf("%d were dropped, %d were predicted", got, p.Drop)
		}
	})
}

// TestGeneratorPacedAboveItsCPU asks for a rate that no machine sends.
func TestGeneratorPacedAboveItsCPU(t *testing.T) {
	needsLab(t)
	text := `
experiment: too-fast
dut:
  memory: 256MiB` + tracked + `
workload:
  - {generator: udp, rate: 50M/s, duration: 1s, silent: true, reuse: true}
recovery: 1s
scenarios:
  one: {}
`
	o := ctload(t, 5*time.Minute, "run", experiment(t, text), "--format", "json")
	if o.status != statusInvalid {
		t.Fatalf("exit status %d, want %d\n%s\n%s", o.status, statusInvalid, o.stdout, o.stderr)
	}
	trial := decode(t, o.stdout).Scenarios[0].Trials[0]
	t.Log(trial.Sentence)
	if trial.Verdict != results.Invalid ||
		!strings.Contains(trial.Sentence, "the generator was the limit: rate: ") {
		t.Errorf("verdict %s; want INVALID with the generator's limit: %s",
			trial.Verdict, trial.Sentence)
	}
	if trial.Number != 1 || strings.Contains(o.stderr, "measured again") {
		t.Errorf("trial %d, though no other one would be better:\n%s", trial.Number, o.stderr)
	}
}

// TestDUTDied floods a table whose max is far beyond the memory until the kernel dies of it: a
// result of that configuration, and the next trial is valid.
func TestDUTDied(t *testing.T) {
	needsTime(t)
	text := `
experiment: died
dut:
  memory: 192MiB` + tracked + `
workload:
  - {generator: udp, crafted: true, rate: 4k/s, duration: 120s, sources: 60000, ports: 8000-8063}
recovery: 1s
scenarios:
  too-large: {buckets: 4000000, sysctl: {net.netfilter.nf_conntrack_max: 4000000}}
  fits: {sysctl: {net.netfilter.nf_conntrack_max: 1024}, workload: {udp: {duration: 1s}}}
`
	found := measuredTrials(t, experiment(t, text))
	if trial := found["too-large"].trial; trial.Verdict != results.DutDied || trial.Died == "" ||
		!strings.Contains(trial.Sentence, "ran out of memory") {
		t.Errorf("verdict %s, died of %q: %s", trial.Verdict, trial.Died, trial.Sentence)
	}
	trial := found["fits"].trial
	if trial.Verdict != results.TableFull && trial.Verdict != results.Evicting {
		t.Errorf("the other trial: %s: %s", trial.Verdict, trial.Sentence)
	}
}
