package main

import (
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// causesInState has experiments whose failures the state of an entry, of rules or of NAT causes,
// while the table has room and the kernel refuses nothing.
var causesInState = map[string]string{
	"idle for longer than the timeout": `
experiment: idle
topology: router
dut:
  nat: masquerade
  rules: |
    *filter
    -A FORWARD -p tcp ! --syn -m conntrack --ctstate NEW -j DROP
    COMMIT
  sysctl: {net.netfilter.nf_conntrack_tcp_timeout_established: 2}
workload:
  - generator: hold
    name: pool
    connections: 20
    rate: 100/s
    duration: 8s
    ports: 5432
    payload: 10B
    interval: 4s
    timeout: 2s
scenarios:
  expired: {}
  kept-alive: {workload: {pool: {interval: 1s}}}
recovery: 1s
`,
	"answers take another way": `
experiment: return-path
topology: router
dut:
  rules: |
    *raw
    -A PREROUTING -i ${server.interface} -p tcp -j CT --notrack
    COMMIT
    *filter
    -A FORWARD -m conntrack --ctstate INVALID -j DROP
    COMMIT
workload: [{generator: http, requests: 20, concurrency: 20, timeout: 2s}]
scenarios:
  one-way: {}
  accepted: {rules: "*filter\nCOMMIT\n"}
recovery: 1s
`,
	"entries older than the rule": `
experiment: late-rule
dut:
  rules: |
    *nat
    COMMIT
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    -A OUTPUT -p icmp -m icmp --icmp-type port-unreachable -j DROP
    COMMIT
workload:
  - &s {generator: udp, name: before, flows: 10, rate: 50/s, ports: 514,
        source-ports: 5000-5009, listener: closed, timeout: 1s}
  - {<<: *s, name: after, start: 3s}
  - {probe: udp, name: fresh, port: 5301, rate: 5/s}
actions:
  - action: rules-load
    name: service
    at: 2s
    rules: |
      *nat
      -A PREROUTING -p udp -m udp --dport 514 -j REDIRECT --to-ports 5301
      COMMIT
scenarios:
  rule-only: {}
recovery: 1s
`,
	"a dead backend, and clients that keep its entries": `
experiment: fixed-ports
topology: {kind: router, servers: 2}
dut:
  rules: |
    *nat
    COMMIT
    *filter
    -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
workload:
  - generator: tcp
    target: server1
    ports: 2049
    source-ports: 900-905
    rate: 3/s
    close: rst
    duration: 10s
    timeout: 1500ms
  - {probe: tcp, name: mount, target: server1, port: 2049, rate: 5/s}
  - generator: tcp
    name: warm
    target: server2
    ports: 2049
    rate: 1/s
    duration: 10s
    timeout: 1500ms
steady: [probe.loss == 0]
actions:
  - {action: partition, node: server1, at: 2s}
  - action: rules-load
    name: other-backend
    fix: true
    at: 4s
    rules: |
      *nat
      -A PREROUTING -d ${server.address} -p tcp --dport 2049 -j DNAT --to-destination ` +
		`${server2.address}
      COMMIT
scenarios:
  rules-only: {}
recovery: 1s
`,
	"no source port": `
experiment: no-port
topology: router
dut:
  rules: |
    *nat
    -A POSTROUTING -p tcp -j SNAT --to-source ${dut.server.address}:40000-40049
    COMMIT
workload: [{generator: hold, connections: 70, rate: 100/s, duration: 2s, timeout: 2s}]
scenarios:
  exhausted: {}
recovery: 1s
`,
}

// TestCausesInState: the verdict and the sentence name the cause.
func TestCausesInState(t *testing.T) {
	labtest.Need(t)
	type outcome struct {
		verdict results.Verdict
		failed  int64 // at least
		words   []string
		later   bool // the bystander heals and the load does not
	}
	for name, want := range map[string]map[string]outcome{
		"idle for longer than the timeout": {
			"expired": {results.StateLost, 20, []string{
				"--ctstate NEW -j DROP", "pool is silent for 4.00 s",
				"2 s (tcp_timeout_established)",
			}, false},
			"kept-alive": {results.Clean, 0, nil, false},
		},
		"answers take another way": {
			"one-way": {results.NotConntrack, 20, []string{
				"-A FORWARD -m conntrack --ctstate INVALID -j DROP",
				"packets that tracking called invalid", "CT --notrack",
			}, false},
			"accepted": {results.Clean, 0, []string{
				"no rule of the DUT needs connection tracking",
			}, false},
		},
		"entries older than the rule": {
			"rule-only": {results.StateLost, 20, []string{
				"10 entries to", "are older than the rule -A PREROUTING -p udp",
				"all but 10 of the failures", "NoPorts",
			}, false},
		},
		"a dead backend, and clients that keep its entries": {
			"rules-only": {results.StateLost, 10, []string{
				"(tcp SYN_SENT) are older than the rule -A PREROUTING -d",
			}, true},
		},
		"no source port": {
			"exhausted": {results.NATExhausted, 20, []string{
				"found no free source port for NAT", "50 in use towards tcp ",
			}, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := experiment(t, causesInState[name])
			o, _ := measuredRun(t, 5*time.Minute, file, "--driver", "netns")
			if o.status != statusOK {
				t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
			}
			for _, s := range decode(t, o.stdout).Scenarios {
				trial, want := s.Trials[0], want[s.Name]
				t.Logf("%s: %s", s.Name, trial.Sentence)
				if trial.Verdict != want.verdict || trial.Accounting.Failed < want.failed {
					t.Errorf("%s: %s, %d failed, want %s and at least %d", s.Name, trial.Verdict,
						trial.Accounting.Failed, want.verdict, want.failed)
				}
				if h := trial.Heal; want.later && (h == nil || h.Healed == nil ||
					h.LaterFailures == 0) {
					t.Errorf("%s: %+v, want a healed bystander and later failures", s.Name, h)
				}
				for _, w := range want.words {
					if !strings.Contains(trial.Sentence, w) {
						t.Errorf("%s: %q is not in: %s", s.Name, w, trial.Sentence)
					}
				}
			}
		})
	}
}

// TestThreshold_OfNothing: a limit on the latency of a load that nothing answers does not hold.
func TestThreshold_OfNothing(t *testing.T) {
	labtest.Need(t)
	t.Parallel()
	o, _ := measuredRun(t, time.Minute, experiment(t, `
experiment: nothing
workload: [{generator: tcp, connections: 30, rate: 100/s, listener: closed}]
recovery: 500ms
thresholds: {all: load.latency_ms.p99 < 250}
`), "--driver", "netns")
	if o.status != statusFailed {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	got := decode(t, o.stdout).Scenarios[0].Thresholds[0]
	if got.Passed || !strings.Contains(got.Actual, "missing: not measured") {
		t.Errorf("%+v", got)
	}
}
