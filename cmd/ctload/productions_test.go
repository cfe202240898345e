package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// quick has the timeouts of the productions, so that their tables are soon in a steady state.
const quick = `  sysctl:
    net.netfilter.nf_conntrack_tcp_timeout_time_wait: 5
    net.netfilter.nf_conntrack_tcp_timeout_close: 4
    net.netfilter.nf_conntrack_tcp_timeout_close_wait: 5
    net.netfilter.nf_conntrack_tcp_timeout_syn_sent: 5
    net.netfilter.nf_conntrack_tcp_timeout_syn_recv: 5
    net.netfilter.nf_conntrack_udp_timeout: 5
    net.netfilter.nf_conntrack_udp_timeout_stream: 8
    net.netfilter.nf_conntrack_icmp_timeout: 5
    net.netfilter.nf_conntrack_icmpv6_timeout: 5
`

// tracks are rules of a server, forwards those of a router.
const (
	tracks = `  rules: |
    *filter
    -A INPUT -m conntrack --ctstate INVALID -j DROP
    COMMIT
`
	forwards = `  rules: |
    *filter
    -A FORWARD -m conntrack --ctstate INVALID -j DROP
    COMMIT
`
)

// production is a synthetic one: topology and DUT, and a workload whose entries last for {T}.
type production struct {
	head, workload string
	long           bool // it is left to make test-long
}

// experiment returns the file of the production, whose load lasts for some seconds. Further
// scenarios follow the one without a change.
func (p production) experiment(t *testing.T, seconds int, further ...string) string {
	t.Helper()
	words := strings.NewReplacer(
		"{T}", fmt.Sprintf("duration: %ds, arrivals: poisson", seconds),
		"{S}", fmt.Sprintf("%ds", seconds-2))
	return experiment(t, "experiment: production\n"+p.head+"recovery: 1s\nworkload:"+
		words.Replace(p.workload)+"scenarios:\n  as-is: {}\n"+strings.Join(further, ""))
}

// productions are hosts whose tables are captured from outside and replayed.
var productions = map[string]production{
	"server": {"dut:\n" + tracks + quick, `
  - {generator: tcp, name: web, rate: 100/s, lifetime: "lognormal(1s, 1)", sources: 20, {T}}
  - {generator: tcp, name: api, rate: 30/s, close: rst, ports: 8080, sources: 4, {T}}
  - {generator: udp, name: dns, rate: 60/s, ports: 53, sources: 5, {T}}
  - {generator: hold, name: pool, connections: 100, rate: 100/s, duration: {S}, ports: 5432}
`, false},
	"NAT router": {"topology: router\ndut:\n  nat: masquerade\n" + forwards + quick, `
  - {generator: tcp, rate: 80/s, lifetime: exponential(1s), ports: 443, sources: 30, {T}}
  - {generator: udp, name: lost, rate: 60/s, silent: true, ports: 6881, sources: 10, {T}}
  - {generator: udp, name: quic, rate: 10/s, lifetime: 4s, interval: 1s, ports: 443, {T}}
`, false},
	"scanner over IPv6": {"topology: {kind: router, families: [ipv6]}\ndut:\n" +
		strings.Replace(forwards, "rules:", "rules6:", 1) + quick, `
  - {generator: syn, name: scan, rate: 80/s, ports: 23, sources: 3, listener: full, {T}}
  - {generator: icmp, name: sweep, rate: 40/s, {T}}
  - {generator: tcp, rate: 40/s, ports: 443, {T}}
`, false},
	"resolver": {"topology: router\ndut:\n" + tracks + quick, `
  - {generator: udp, name: in, target: dut, rate: 100/s, ports: 53, sources: 40, {T}}
  - {generator: udp, name: out, from: dut, target: server, rate: 50/s, ports: 53, {T}}
  - {generator: tcp, target: dut, rate: 20/s, ports: 53, sources: 8, {T}}
`, true},
	"load balancer": {"topology: router\ndut:\n  nat: dnat\n" + forwards + quick, `
  - {generator: tcp, name: users, rate: 120/s, ports: 443, sources: 50, lifetime: 500ms, {T}}
  - {generator: tcp, name: checks, rate: 20/s, ports: 443, close: rst, {T}}
`, true},
	"leak": {"dut:\n" + tracks + quick, `
  - {generator: tcp, name: half, rate: 60/s, close: half-close, ports: 8080, sources: 10, {T}}
  - {generator: hold, name: gone, connections: 400, rate: 200/s, duration: {S}, close: abandon,
     ports: 5432, sources: 20}
`, true},
	"flood": {"dut:\n" + tracks + quick, `
  - {generator: syn, name: flood, rate: 400/s, sources: 1000, ports: 80, {T}}
  - {generator: tcp, name: users, rate: 30/s, ports: 443, sources: 5, {T}}
`, true},
	"server over IPv6": {"topology: {kind: server, families: [ipv6]}\ndut:\n" +
		strings.Replace(tracks, "rules:", "rules6:", 1) + quick, `
  - {generator: tcp, rate: 100/s, ports: 443, sources: 30, lifetime: exponential(2s), {T}}
  - {generator: udp, rate: 50/s, ports: 53, sources: 5, {T}}
`, true},
	"zones": {"dut:\n  rules: |\n    *raw\n" +
		"    -A PREROUTING -i ${client.interface} -j CT --zone 5\n" +
		"    -A OUTPUT -o ${client.interface} -j CT --zone 5\n    COMMIT\n    *filter\n" +
		"    -A INPUT -m conntrack --ctstate INVALID -j DROP\n    COMMIT\n" + quick, `
  - {generator: tcp, rate: 100/s, ports: 443, sources: 30, {T}}
  - {generator: udp, rate: 50/s, ports: 53, sources: 5, {T}}
`, true},
	"talker": {"dut:\n" + tracks + quick, `
  - {generator: tcp, rate: 150/s, ports: 80, sources: {count: 60, weights: zipf(1.1)}, {T}}
`, true},
	"calls": {"topology: router\ndut:\n" + forwards + quick, `
  - {generator: udp, name: media, rate: 15/s, lifetime: 6s, interval: 1s, ports: 40000-40009, {T}}
  - {generator: udp, name: registrations, flows: 80, rate: 80/s, lifetime: {S}, interval: 2s,
     ports: 5060, sources: 80}
`, true},
	"mix": {"topology: router\ndut:\n  nat: masquerade\n" + forwards + quick, `
  - {generator: tcp, rate: 60/s, ports: 443, sources: 30, lifetime: "lognormal(2s, 1)", {T}}
  - {generator: tcp, name: reset, rate: 20/s, close: rst, ports: 443, sources: 30, {T}}
  - {generator: udp, rate: 40/s, ports: 53, sources: 10, {T}}
  - {generator: udp, name: p2p, rate: 40/s, silent: true, ports: 6881, sources: 10, {T}}
  - {generator: icmp, rate: 10/s, {T}}
  - {generator: hold, connections: 60, rate: 60/s, duration: {S}, ports: 5222}
`, true},
}

// lasts is the length, in seconds, of a production's load: several times its timeouts.
const lasts = 32

// TestProductions captures tables from outside, makes experiments of them, and finds the same in
// the table of another lab: every state within 5 %, or within three sigma of two counts, and the
// same verdict.
func TestProductions(t *testing.T) {
	labtest.Need(t)
	for name, p := range productions {
		t.Run(name, func(t *testing.T) {
			if p.long {
				hosttest.NeedTime(t)
			}
			t.Parallel()
			t.Cleanup(hosttest.SharesSettings(t)) // the host's max and hash are in the capture
			table, run := captured(t, p.experiment(t, lasts), lasts*time.Second)
			o := ctload(t, time.Minute, "scenarios", "from-capture", table)
			if o.status != statusOK {
				t.Fatalf("%s", o.stderr)
			}
			// Namespaces share the size of the host's table, which the capture has too.
			sizes := regexp.MustCompile(`(?m)^ +(net\.netfilter\.nf_conntrack_max|buckets):.*\n`)
			mine := experiment(t, sizes.ReplaceAllString(o.stdout, ""))
			made, _, err := scenarios.Parse("mine", []byte(o.stdout))
			if err != nil {
				t.Fatal(err)
			}
			length := time.Duration(0)
			for _, e := range made.Workload {
				if e.Number() == 0 {
					length = max(length, time.Duration(e.Duration))
				}
			}
			replayed, again := captured(t, mine, max(length, 10*time.Second),
				"--scenario", "as-captured")
			same(t, readCapture(t, table), readCapture(t, replayed), o.stdout)
			for _, failed := range again.Scenarios[0].Thresholds {
				if !failed.Passed {
					t.Errorf("%+v", failed)
				}
			}
			sameOutcome(t, run, again, o.stdout)
		})
	}
}

// sameOutcome compares verdict, alerts and peak of two runs.
func sameOutcome(t *testing.T, production, replay *results.Run, text string) {
	t.Helper()
	a, b := production.Scenarios[0].Trials[0], replay.Scenarios[0].Trials[0]
	for _, trial := range []results.Trial{a, b} {
		if trial.Verdict == results.Invalid {
			t.Fatal(trial.Sentence)
		}
	}
	if x, y := tableVerdict(a), tableVerdict(b); x != y {
		t.Errorf("the production is %s, its replay %s\n%s", x, y, text)
	}
	if x, y := alertsOf(a), alertsOf(b); !slices.Equal(x, y) {
		t.Errorf("alerts of the production %v, of its replay %v", x, y)
	}
	samePeak(t, a, b, text)
}

// samePeak compares the highest counts of two trials, as shares of max. A count has expired entries
// too, as many as have gathered since the host's collector came. Where it came at other moments, or
// the loads have other lengths, both counts must be in the range that a simulation of their load
// leaves to the collector, and the most living entries alike.
func samePeak(t *testing.T, a, b results.Trial, text string) {
	t.Helper()
	near := func(x, y float64) bool {
		return math.Abs(x-y) <= max(0.1*x, 3*math.Sqrt(x+y))
	}
	scale := float64(a.Conntrack.Max) / float64(b.Conntrack.Max)
	inRange := func(trial results.Trial) bool {
		peak, p := float64(trial.Conntrack.Peak), trial.Prediction
		return peak >= 0.9*float64(cmp.Or(p.PeakLow, p.Peak)) &&
			peak <= 1.1*float64(cmp.Or(p.PeakHigh, p.Peak))
	}
	t.Logf("peak %d of %d, replayed %d of %d", a.Conntrack.Peak, a.Conntrack.Max,
		b.Conntrack.Peak, b.Conntrack.Max)
	if near(float64(a.Conntrack.Peak), float64(b.Conntrack.Peak)*scale) {
		return
	}
	p, q := a.Prediction, b.Prediction
	if p == nil || q == nil {
		t.Fatalf("the peaks differ, and there is no prediction of them")
	}
	t.Logf("predicted %d (%d to %d) with %d living, replayed %d (%d to %d) with %d", p.Peak,
		p.PeakLow, p.PeakHigh, p.Alive, q.Peak, q.PeakLow, q.PeakHigh, q.Alive)
	if !inRange(a) || !inRange(b) || !near(float64(p.Alive), float64(q.Alive)*scale) {
		t.Errorf("peak %d, replayed %d\n%s", a.Conntrack.Peak, b.Conntrack.Peak, text)
	}
}

// tableVerdict returns the verdict of a trial; clean where a busy host let a few attempts in a
// hundred wait too long, of which no counter of the table tells.
func tableVerdict(t results.Trial) results.Verdict {
	var offered, failed int64
	for _, e := range t.Entries {
		offered, failed = offered+e.Offered, failed+e.Failed
	}
	if t.Verdict == results.NotConntrack && failed*50 < offered {
		return results.Clean
	}
	return t.Verdict
}

// alertsOf returns the shares of max at which alerts would have fired.
func alertsOf(t results.Trial) (shares []float64) {
	for _, alert := range t.Conntrack.Alerts {
		shares = append(shares, alert.Share)
	}
	return shares
}

// same compares two tables by state.
func same(t *testing.T, production, replay *capture.Capture, text string) {
	t.Helper()
	count := func(c *capture.Capture) map[string]float64 {
		n := map[string]float64{}
		for _, e := range c.Table.Entries {
			n[strings.Join([]string{e.Protocol, e.State, string(e.Kind())}, " ")]++
		}
		return n
	}
	a, b := count(production), count(replay)
	for what := range b {
		a[what] += 0
	}
	for what, n := range a {
		t.Logf("%s: %.0f, replayed %.0f", what, n, b[what])
		if off := math.Abs(n - b[what]); off > max(0.05*n, 3*math.Sqrt(n+b[what])) && off > 10 {
			t.Errorf("%s: %.0f entries of the production, %.0f of its replay\n%s", what, n, b[what],
				text)
		}
	}
}

func readCapture(t *testing.T, path string) *capture.Capture {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := capture.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// captured runs an experiment in namespaces, and captures the table of its DUT from outside shortly
// before its load, which lasts for a while, ends.
func captured(
	t *testing.T, file string, load time.Duration, args ...string,
) (path string, run *results.Run) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "table"+capture.Ending)
	cmd := command(t, append([]string{"run", file, "--driver", "netns", "--kernel", "host",
		"--format", "json", "--out", filepath.Join(t.TempDir(), "run")}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inside, begun := tracking(t, cmd.Process.Pid)
	if inside != nil {
		const margin = 5 * time.Second // for the capture, and for the samples since the begin
		time.Sleep(time.Until(begun.Add(load - margin)))
		out, err := exec.Command(inside[0], append(inside[1:], labtest.Ctload(t), "capture",
			"--watch", "1s", "--output", path)...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	o := wait(t, cmd, 5*time.Minute, &stdout, &stderr)
	if inside == nil || o.status > statusFailed && o.status != statusInvalid {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	return path, decode(t, o.stdout)
}

// tracking waits for a process below another one whose table fills, and returns the command that
// enters its network namespace, with the time at which its load has begun; nil where none comes.
func tracking(t *testing.T, root int) (command []string, begun time.Time) {
	t.Helper()
	nsenter := hosttest.Program(t, "nsenter")
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		for _, pid := range below(root) {
			enter := []string{nsenter, "--target", pid, "--net"}
			if os.Getuid() != 0 {
				enter = append(enter, "--user", "--preserve-credentials")
			}
			const few = 20
			out, err := exec.Command(enter[0], append(enter[1:], "cat",
				"/proc/sys/net/netfilter/nf_conntrack_count")...).Output()
			if n, _ := strconv.Atoi(strings.TrimSpace(string(out))); err == nil && n > few {
				return enter, time.Now()
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, time.Time{}
}

// below returns the agents among the descendants of a process.
func below(root int) (agents []string) {
	parents := map[string]string{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		_, rest, ok := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); err == nil && ok && len(fields) > 1 {
			parents[filepath.Base(filepath.Dir(file))] = fields[1]
		}
	}
	for pid := range parents {
		name, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		for at := pid; at != "" && string(name) != ""; at = parents[at] {
			if at == strconv.Itoa(root) && strings.HasPrefix(string(name), "ctload-agent") {
				agents = append(agents, pid)
				break
			}
		}
	}
	slices.Sort(agents)
	return agents
}
