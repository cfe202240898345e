package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// TestLoads_LikeRealOnes makes loads whose entries the language foretells, in namespaces: datagrams
// on fixed tuples, flows and connections with lives, pings that wait for their answers, and servers
// that answer late or speak first.
func TestLoads_LikeRealOnes(t *testing.T) {
	labtest.Need(t)
	text := `
experiment: like-real
dut:` + tracked + `
  sysctl:
    net.netfilter.nf_conntrack_udp_timeout: 1
    net.netfilter.nf_conntrack_udp_timeout_stream: 1
    net.netfilter.nf_conntrack_tcp_timeout_close: 1
workload:
  - generator: udp
    rate: 20/s
    duration: 2s
    ports: 514
    source-ports: 5000-5009
    reuse: true
    silent: true
recovery: 1s
scenarios:
  syslog: {}
  forwarder:
    workload: {udp: {silent: , answer-delay: 300ms}}
  calls:
    workload:
      - {generator: udp, rate: 20/s, duration: 1s, lifetime: 2500ms, interval: 500ms}
  users:
    workload:
      - generator: tcp
        rate: 100/s
        duration: 2s
        close: rst
        lifetime: 500ms
        arrivals: poisson
        greeting: 100B
  pings:
    workload:
      - generator: icmp
        flows: 50
        rate: 100/s
        sources: {count: 10, weights: zipf(1)}
  lost-pings:
    rules: |
      *filter
      -A INPUT -p icmp -j DROP
      -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
      COMMIT
    workload: [{generator: icmp, flows: 50, rate: 100/s, timeout: 1s}]
  late:
    workload: [{generator: http, rate: 50/s, duration: 1s, answer-delay: 300ms}]
`
	o := ctload(t, 8*time.Minute, "run", experiment(t, text), "--driver", "netns",
		"--format", "json", labtest.Retries)
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	for _, s := range labtest.Counted(decode(t, o.stdout)).Scenarios {
		trial := s.Trials[0]
		load, peak := trial.Load, trial.Conntrack.Peak
		t.Logf("%s: %s, offered %d, completed %d, peak %d, latency %+v", s.Name, trial.Verdict,
			load.Offered, load.Completed, peak, load.Latency)
		offered, lost, entries := int64(40), int64(0), int64(10)
		switch s.Name {
		case "calls": // all live at a time: 2.5 s, begun within 1 s
			offered, entries = 20, 20
		case "users":
			offered, entries = load.Offered, peak
			// The kernel counts expired entries until it collects them.
			if offered < 140 || offered > 260 || peak < 30 || peak > offered {
				t.Errorf("%s: offered %d, peak %d; want about 200 and 50 at least", s.Name,
					offered, peak)
			}
		case "pings":
			offered, entries = 50, 50
		case "lost-pings":
			offered, lost, entries = 50, 50, 0
		case "late":
			offered, entries = 50, 50
		}
		if load.Offered != offered || load.Failed != lost || peak != entries {
			t.Errorf("%s: offered %d, failed %d by %v, peak %d; want %d, %d, %d", s.Name,
				load.Offered, load.Failed, load.Causes, peak, offered, lost, entries)
		}
		slow := s.Name == "late" || s.Name == "forwarder"
		if slow && load.Latency.P50 < 300 {
			t.Errorf("%s: the median latency is %v ms, want at least 300", s.Name, load.Latency.P50)
		}
		if lost == 0 && trial.Verdict != results.Clean {
			t.Errorf("%s: %s %s", s.Name, trial.Verdict, trial.Sentence)
		}
	}
}

// TestValidate_TooFewTuples checks that a stream on few tuples is refused before anything boots,
// unless it may use them again.
func TestValidate_TooFewTuples(t *testing.T) {
	t.Parallel()
	const text = `
experiment: udp-late-rule
dut:` + tracked + `
workload:
  - generator: udp
    name: stream
    duration: 20s
    rate: 20/s
    source-ports: 5000-5009
    timeout: 1s
`
	file := experiment(t, text)
	o := ctload(t, time.Minute, "scenarios", "validate", file)
	for _, word := range []string{file + ":", "entry stream", "400 wanted, 10 tuples", "reuse"} {
		if o.status != statusUsage || !strings.Contains(o.stderr, word) {
			t.Errorf("exit status %d, no %q in %s", o.status, word, o.stderr)
		}
	}
	again := text + "    reuse: true\n"
	if err := os.WriteFile(file, []byte(again), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := ctload(t, time.Minute, "scenarios", "validate", file); o.status != statusOK {
		t.Errorf("exit status %d: %s", o.status, o.stderr)
	}
}
