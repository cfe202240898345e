package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/results"
)

// predictedHead begins the experiments of this file.
const predictedHead = `
experiment: predicted
topology: {kind: %s, families: [%s]}
dut:
  memory: 256MiB
  rules: &rules |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED,UNTRACKED -j ACCEPT
    COMMIT
  rules6: *rules
workload: [{generator: udp, flows: 1, rate: 1/s, silent: true}]
recovery: {at-least: 500ms, at-most: 500ms}
scenarios:
`

// hard are loads that an even rate with one life does not describe.
var hard = []struct {
	name, topology, families string
	standing                 bool // measured also where long tests do not run
	scenario                 string
}{
	{"ramp", "server", "ipv4", false, `
    sysctl: {net.netfilter.nf_conntrack_max: 700}
    workload:
      - {generator: udp, silent: true, stages: [{duration: 10s, from: 0/s, rate: 200/s}]}`},
	{"late", "server", "ipv4", false, `
    sysctl: {net.netfilter.nf_conntrack_max: 700}
    workload:
      - {generator: udp, flows: 200, rate: 100/s, silent: true}
      - {generator: udp, name: late, flows: 800, rate: 200/s, silent: true, start: 8s}`},
	{"burst", "server", "ipv4", false, `
    sysctl: {net.netfilter.nf_conntrack_max: 700}
    workload:
      - {generator: udp, silent: true, duration: 6s, burst: {size: 150, every: 1s}}`},
	{"sine", "server", "ipv4", false, `
    sysctl: {net.netfilter.nf_conntrack_max: 700}
    workload:
      - generator: udp
        silent: true
        duration: 8s
        sine: {mean: 100/s, amplitude: 100/s, period: 4s}`},
	{"handshake-fin", "server", "ipv4", false, `
    sysctl:
      net.netfilter.nf_conntrack_max: 2048
      net.netfilter.nf_conntrack_tcp_timeout_time_wait: 2
    buckets: 1024
    workload: [{generator: handshake, flows: 3000, rate: 200/s}]`},
	{"two-lives", "server", "ipv4", false, `
    sysctl: {net.netfilter.nf_conntrack_tcp_timeout_close: 2}
    workload:
      - {generator: tcp, connections: 1500, rate: 100/s, close: rst}
      - {generator: tcp, name: f, connections: 300, rate: 20/s}`},
	{"policy", "server", "ipv4", false, `
    buckets: 1024
    nft: |
      table ip timeouts {
        ct timeout short {
          protocol tcp; l3proto ip; policy = { time_wait : 1 };
        }
        chain prerouting {
          type filter hook prerouting priority -150; tcp dport 80 ct timeout set "short";
        }
      }
    workload:
      - {generator: http, requests: 1200, rate: 150/s}
      - {generator: tcp, name: other, connections: 200, rate: 25/s, ports: 81}`},
	{"hold-ends", "server", "ipv4", false, `
    sysctl: {net.netfilter.nf_conntrack_tcp_timeout_close: 1}
    buckets: 512
    workload:
      - {generator: hold, connections: 500, rate: 250/s, duration: 1s, close: rst}
      - {generator: udp, name: after, start: 8s, flows: 300, rate: 100/s, silent: true}`},
	{"one-way-notrack", "server", "ipv4", true, `
    sysctl: {net.netfilter.nf_conntrack_max: 100}
    rules: |
      *raw
      -A PREROUTING -p tcp --dport 80 -j CT --notrack
      COMMIT
      *filter
      -A INPUT -m conntrack --ctstate ESTABLISHED,UNTRACKED -j ACCEPT
      COMMIT
    workload: [{generator: http, requests: 400, rate: 200/s}]`},
	{"ipv6", "server", "ipv6", false, `
    sysctl: {net.netfilter.nf_conntrack_icmpv6_timeout: 2}
    buckets: 512
    workload:
      - {generator: icmp, flows: 600, rate: 100/s}
      - {generator: udp, flows: 600, rate: 100/s}`},
	{"both-families", "server", "ipv4, ipv6", false, `
    rules6: |
      *raw
      -A PREROUTING -p udp --dport 53 -j CT --notrack
      -A OUTPUT -p udp --sport 53 -j CT --notrack
      COMMIT
    workload: [{generator: udp, flows: 800, rate: 200/s, ports: 53}]`},
	{"probes", "server", "ipv4", false, `
    sysctl: {net.netfilter.nf_conntrack_max: 700}
    workload:
      - {generator: udp, flows: 500, rate: 100/s, silent: true}
      - {probe: tcp, port: 22, rate: 20/s}
      - {probe: udp, port: 53, rate: 50/s}`},
	{"snat", "router", "ipv4", false, `
    rules: |
      *nat
      -A POSTROUTING -o ${server.interface} -p tcp -j SNAT ` +
		`--to-source ${dut.server.address}:40000-40399
      COMMIT
    workload: [{generator: hold, connections: 600, rate: 200/s, duration: 2s, timeout: 4s}]`},
	{"flush", "server", "ipv4", false, `
    sysctl: {net.netfilter.nf_conntrack_max: 400}
    workload: [{generator: udp, flows: 1000, rate: 125/s, silent: true}]
    actions: [{action: flush, at: 2s}]`},
	{"same-tuples", "server", "ipv4", false, `
    workload:
      - &s {generator: udp, flows: 200, rate: 100/s, silent: true, ports: 9,
            source-ports: 5000-5199}
      - {<<: *s, name: again, start: 3s}`},
	{"even", "server", "ipv4", true, `
    sysctl:
      net.netfilter.nf_conntrack_max: 2000
      net.netfilter.nf_conntrack_udp_timeout: 4
    workload: [{generator: udp, rate: 500/s, duration: 5s, silent: true}]`},
	{"mixed-silent", "server", "ipv4", true, `
    sysctl: {net.netfilter.nf_conntrack_max: 200}
    workload:
      - {generator: hold, connections: 200, rate: 200/s, duration: 6s, timeout: 3s}
      - {generator: udp, flows: 400, rate: 200/s, silent: true, start: 3s}
      - {probe: tcp, port: 22, rate: 5/s}`},
}

// mixOf returns a scenario of some loads, settings and rules, drawn from a seed.
func mixOf(seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(low, high float64) int { return int(low * math.Pow(high/low, r.Float64())) }
	one := func(words ...string) string { return words[r.IntN(len(words))] }
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "    "+format+"\n", args...) }
	timeout := func(key string, low, high float64) string {
		return fmt.Sprintf("net.netfilter.nf_conntrack_%s: %d", key, pick(low, high))
	}
	settings := []string{
		timeout("tcp_timeout_time_wait", 1, 120), timeout("tcp_timeout_close", 1, 20),
		timeout("udp_timeout", 1, 60), timeout("tcp_timeout_syn_recv", 2, 60),
		timeout("icmp_timeout", 1, 30),
	}
	if r.IntN(3) > 0 {
		settings = append(settings, timeout("max", 100, 800))
	}
	line("sysctl: {%s}", strings.Join(settings, ", "))
	line("buckets: %s", one("512", "1024", "4096", "65536"))
	switch r.IntN(4) {
	case 0:
		line("rules: |\n      *raw\n"+
			"      -A PREROUTING -p %s --dport 8000 -j CT --notrack\n"+
			"      -A OUTPUT -p %[1]s --sport 8000 -j CT --notrack\n      COMMIT\n"+
			"      *filter\n      -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n"+
			"      COMMIT", one("tcp", "udp"))
	case 1:
		line(`nft: |
      table ip timeouts {
        ct timeout short {
          protocol udp; l3proto ip; policy = { unreplied : %d, replied : 4 };
        }
        chain prerouting {
          type filter hook prerouting priority -150; udp dport 8001 ct timeout set "short";
        }
      }`, pick(1, 5))
	}
	line("workload:")
	for i := range 1 + r.IntN(3) {
		pace := []string{
			fmt.Sprintf("rate: %d/s, duration: %ds", pick(20, 250), pick(3, 9)),
			fmt.Sprintf("stages: [{duration: %ds, from: %d/s, rate: %d/s}, "+
				"{duration: 2s, rate: %d/s}]",
				pick(2, 6), pick(1, 100), pick(50, 300), pick(10, 200)),
			fmt.Sprintf("duration: %ds, burst: {size: %d, every: %dms}",
				pick(3, 9), pick(10, 150), pick(300, 1500)),
			fmt.Sprintf("duration: %ds, sine: {mean: %d/s, amplitude: 20/s, period: %ds}",
				pick(4, 9), pick(20, 200), pick(2, 5)),
		}[r.IntN(4)]
		kind := one("tcp", "tcp", "http", "udp", "udp, silent: true",
			"udp, crafted: true, sources: 500", "handshake", "syn", "icmp", "hold")
		more := ""
		switch kind {
		case "tcp", "handshake":
			more = ", timeout: 4s, close: " + one("fin", "rst", "abandon")
		case "http":
			more = ", timeout: 4s"
		case "hold":
			more = ", timeout: 4s, close: " + one("fin", "rst")
			pace = fmt.Sprintf("connections: %d, rate: %d/s, duration: %ds",
				pick(50, 400), pick(50, 200), pick(1, 4))
		}
		if kind != "icmp" {
			more += fmt.Sprintf(", ports: %d", 8000+i)
		}
		if r.IntN(3) == 0 {
			more += fmt.Sprintf(", start: %dms", pick(200, 5000))
		}
		line("- {generator: %s, name: load-%d, %s%s}", kind, i, pace, more)
	}
	if r.IntN(2) == 0 {
		line("- {probe: %s, rate: %d/s}", one("tcp, port: 22", "icmp"), pick(5, 30))
	}
	switch r.IntN(5) {
	case 0:
		line("actions: [{action: flush, at: %ds}]", pick(2, 6))
	case 1:
		setting := timeout("udp_timeout", 1, 60)
		line("actions: [{action: sysctl, at: %ds, sysctl: {%s}}]", pick(2, 6), setting)
	}
	return b.String()
}

// judgePredicted measures an experiment and holds the prediction of each trial to it: peak and time
// to full within a tenth (or 3 entries, and two samples), or in the range that the prediction
// gives. The plan, without a machine, predicts the same as the trial. Entries that the DUT's
// answers make come later in a starved guest, so a scenario that is off is measured once more.
func judgePredicted(t *testing.T, text string) {
	t.Helper()
	file := experiment(t, text)
	var planned []results.Forecast
	o := ctload(t, time.Minute, "plan", file, "--format", "json")
	if json.Unmarshal([]byte(o.stdout), &planned) != nil {
		t.Fatalf("ctload plan: exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	plans := map[string]results.Forecast{}
	for _, plan := range planned {
		plans[plan.Scenario] = plan
	}
	judgeMeasured(t, file, func(t testing.TB, scenario string, m measured) {
		plan, trial := plans[scenario], m.trial
		p, c := trial.Prediction, trial.Conntrack
		if p == nil {
			t.Errorf("%s: the trial predicts nothing", scenario)
			return
		}
		// A busy guest acts that much later than asked, at a whole second, which the plan cannot
		// know.
		late := 0.0
		for _, a := range trial.Actions {
			if begun := a.Begun; begun != nil {
				late = max(late, *begun-math.Floor(*begun)+a.Took)
			}
		}
		t.Logf("%s: peak %d (%d to %d), measured %d; full %s (%s to %s), measured %s; "+
			"drop %d (%d to %d), measured %d; early_drop %d, measured %d", scenario,
			p.Peak, p.PeakLow, p.PeakHigh, c.Peak, seconds(p.SecondsToFull), seconds(p.FullEarly),
			seconds(p.FullLate), seconds(c.SecondsToFull), p.Drop, p.DropLow, p.DropHigh, c.Drop,
			p.EarlyDrop, c.EarlyDrop)
		if late > 0 {
			t.Logf("%s: the action came %.2f s late", scenario, late)
		}
		off := math.Abs(float64(c.Peak - p.Peak))
		if !p.Expects(c.Peak) && off > 3 {
			t.Errorf("%s: a peak of %d, measured %d", scenario, p.Peak, c.Peak)
		}
		if !fullAsPredicted(p, c) {
			t.Errorf("%s: full %s, measured %s",
				scenario, seconds(p.SecondsToFull), seconds(c.SecondsToFull))
		}
		// On a host so slow that the minute's garbage collection falls into the load, the trial
		// knows better.
		soon := ageAtLoad(trial) < 45 && late < underWay
		if own := plan.Prediction; soon && !p.Expects(own.Peak) && own.Peak != p.Peak {
			t.Errorf("%s: ctload plan says peak %d, the trial's own prediction %d",
				scenario, own.Peak, p.Peak)
		}
	})
}

// underWay bounds, in seconds, the delay of an action that a plan allows for.
const underWay = 0.25

func fullAsPredicted(p *results.Prediction, c results.Conntrack) bool {
	measured := c.SecondsToFull
	if measured == nil {
		return p.FullLate == nil
	}
	if p.FullEarly == nil {
		return false
	}
	latest := math.Inf(1)
	if p.FullLate != nil {
		latest = *p.FullLate
	}
	// A guest that stood still, for less than would make the trial INVALID, made its entries that
	// much later.
	stood := max(0.2, c.LongestGap)
	return *measured >= 0.9*(*p.FullEarly)-0.2 && *measured <= 1.1*latest+stood
}

// ageAtLoad returns about how long nf_conntrack had been loaded when the load began, in seconds.
func ageAtLoad(t results.Trial) (age float64) {
	for _, s := range t.Stages {
		if s.Name == "configure" || s.Name == "read back" || s.Name == "baseline" {
			age += s.Seconds
		}
	}
	return age
}

func seconds(s *float64) string {
	if s == nil {
		return "never"
	}
	return fmt.Sprintf("%.2f s", *s)
}

// TestPredicted compares predictions of loads that one rate and one life do not describe with
// trials in guests, whose tables have the sizes that the scenarios ask for.
func TestPredicted(t *testing.T) {
	needsLab(t)
	groups := map[[2]string]string{}
	for _, h := range hard {
		if h.standing || hosttest.Long() {
			key := [2]string{h.topology, h.families}
			groups[key] += "  " + h.name + ":" + h.scenario + "\n"
		}
	}
	for key, list := range groups {
		t.Run(strings.Join(key[:], ", "), func(t *testing.T) {
			judgePredicted(t, fmt.Sprintf(predictedHead, key[0], key[1])+list)
		})
	}
}

// TestPredictedMixes does the same with twenty mixes of loads, settings and rules that are drawn.
func TestPredictedMixes(t *testing.T) {
	needsTime(t)
	text := fmt.Sprintf(predictedHead, "server", "ipv4")
	for seed := uint64(1); seed <= 20; seed++ {
		text += fmt.Sprintf("  seed-%d:\n", seed) + mixOf(seed)
	}
	judgePredicted(t, text)
}
