package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
)

// kindsOfLoad are all kinds of load.
var kindsOfLoad = []string{
	"http", "tcp", "hold", "udp", "udp, silent: true", "udp, crafted: true, silent: true", "syn",
	"handshake", "icmp",
}

// shapesOfLoad are the courses of a rate of r/s within a second or two, by name.
func shapesOfLoad(r int) map[string]string {
	return map[string]string{
		"rate":  fmt.Sprintf("rate: %d/s", r),
		"burst": fmt.Sprintf("burst: {size: %d, every: 300ms}", r/4),
		"ramp":  fmt.Sprintf("stages: [{from: %d/s, rate: %d/s, duration: 1s}]", r/2, r+r/2),
		"sine":  fmt.Sprintf("sine: {mean: %d/s, amplitude: %d/s, period: 300ms}", r, r/2),
	}
}

// TestTransit makes loads of every kind and of every course of their rate, all of a course at once
// and of both address families: each frame that the load node and the DUT sent arrived or was
// dropped at a named place. Rules of the DUT, which know nothing of links, count the first packet
// of every flow. Of guests, it takes one course but in long tests.
func TestTransit(t *testing.T) {
	labtest.Need(t)
	for shape, text := range shapesOfLoad(400) {
		t.Run("namespaces/"+shape, func(t *testing.T) {
			balanced(t, 400, text, kindsOfLoad, "--driver", "netns")
		})
	}
	for shape, text := range shapesOfLoad(100) {
		t.Run("guest/"+shape, func(t *testing.T) {
			if shape != "burst" {
				hosttest.NeedTime(t)
			}
			balanced(t, 100, text, kindsOfLoad)
		})
	}
}

// balanced runs loads of one course with the given number of flows each, and requires an exact
// balance of their frames.
func balanced(t *testing.T, flows int64, course string, loads []string, args ...string) {
	t.Helper()
	numbers := map[string]string{
		"tcp": "connections", "hold": "connections", "http": "requests", "icmp": "flows",
	}
	var workload, rules4, rules6 strings.Builder
	for i, load := range loads {
		kind, _, _ := strings.Cut(load, ",")
		fmt.Fprintf(&workload, "  - {name: load%d, %s: %d, %s, slack: 5s, generator: %s", i,
			cmp.Or(numbers[kind], "flows"), flows, course, load)
		if kind == "hold" && !strings.Contains(course, "stages") { // which have a length
			workload.WriteString(", duration: 100ms")
		}
		count4 := fmt.Sprintf("-p tcp -m tcp --dport %d --tcp-flags FIN,SYN,RST,ACK SYN", 9000+i)
		count6 := count4
		switch kind {
		case "udp":
			count4 = fmt.Sprintf("-p udp -m udp --dport %d", 9000+i)
			count6 = count4
		case "icmp":
			count4 = "-p icmp -m icmp --icmp-type 8"
			count6 = "-p ipv6-icmp -m icmp6 --icmpv6-type 128"
		}
		if kind != "icmp" { // each on ports of its own
			fmt.Fprintf(&workload, ", ports: %d, source-ports: %d-%d", 9000+i, 1000*(i+10),
				1000*(i+10)+999)
		}
		workload.WriteString("}\n")
		fmt.Fprintf(&rules4, "    -A PREROUTING %s\n", count4)
		fmt.Fprintf(&rules6, "    -A PREROUTING %s\n", count6)
	}
	filter := "    COMMIT\n" + strings.TrimPrefix(tracked, "\n  rules: |\n")
	text := `
experiment: transit
topology: {kind: server, families: [ipv4, ipv6]}
dut:
  memory: 256MiB
  rules: |
    *raw
` + rules4.String() + filter + `
  rules6: |
    *raw
` + rules6.String() + filter + `
workload:
` + workload.String() + `
recovery: 500ms
`
	file := experiment(t, text)
	o, _ := measuredRun(t, 5*time.Minute, append([]string{file}, args...)...)
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s\n%s", o.status, text, o.stdout, o.stderr)
	}
	trial := decode(t, o.stdout).Scenarios[0].Trials[0]
	exact(t, course, trial.Transit)
	for name, e := range trial.Entries {
		if e.Done() != flows || e.OneWay() && (e.Received == nil || *e.Received != flows) {
			t.Errorf("%s, %s: done %d, received %v of %d", e.Kind, name, e.Done(), e.Received,
				flows)
		}
	}
	hits := ruleHits(trial)
	if want := 2 * len(loads); len(hits) != want {
		t.Errorf("%d rules of the DUT counted packets, want %d", len(hits), want)
	}
	for rule, n := range hits {
		again := strings.Contains(rule, "SYN") // a socket may send one again
		if n < flows/2 || n > flows/2 && !again {
			t.Errorf("the DUT counted %d packets by %q, want %d", n, rule, flows/2)
		}
	}
}

// exact holds a trial's balance to be complete.
func exact(t *testing.T, name string, transit *results.Transit) {
	t.Helper()
	if transit == nil {
		t.Errorf("%s: no balance", name)
		return
	}
	for way, c := range map[string]results.Crossing{"to": transit.ToDUT, "from": transit.FromDUT} {
		var named int64
		for _, p := range c.Places {
			named += p.Frames
		}
		if c.Missing != 0 || c.Sent != c.Received+named || transit.Moving != 0 {
			t.Errorf("%s, %s the DUT: %+v while %d frames moved", name, way, c, transit.Moving)
		}
	}
}

// TestTransit_Received cuts the link of the DUT in the middle of loads without answers: of each
// entry, the DUT received what its rules have counted, which know nothing of links.
func TestTransit_Received(t *testing.T) {
	labtest.Need(t)
	rules := countedBefore(9000, 9001, 9002)
	text := `
experiment: received
topology: {kind: server, families: [ipv4, ipv6]}
dut:` + rules + strings.Replace(rules, "rules:", "rules6:", 1) + `
workload:
  - {name: sockets, ports: 9000, generator: udp, flows: 600, rate: 300/s, silent: true, slack: 5s}
  - {name: crafted, ports: 9001, generator: udp, flows: 600, rate: 300/s, crafted: true, slack: 5s}
  - {name: syn, ports: 9002, generator: syn, flows: 600, rate: 300/s, slack: 5s}
actions: [{action: link-down, link: dut/client, at: 500ms, for: 700ms}]
recovery: 500ms
`
	o, _ := measuredRun(t, 5*time.Minute, experiment(t, text), "--driver", "netns")
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	trial := decode(t, o.stdout).Scenarios[0].Trials[0]
	heldToRules(t, trial, map[string]int{"sockets": 9000, "crafted": 9001, "syn": 9002})
	for name, e := range trial.Entries {
		if *e.Sent != 600 || e.Received != nil && *e.Received == 600 {
			t.Errorf("%s: no frame of %d sent was lost", name, *e.Sent)
		}
	}
}

// countedBefore returns rules of a DUT that count the packets to ports before anything else: SYNs
// to the port 9002, datagrams to others.
func countedBefore(ports ...int) string {
	text := "\n  rules: |\n    *raw\n"
	for _, port := range ports {
		match := "-p udp -m udp --dport %d"
		if port == 9002 {
			match = "-p tcp -m tcp --dport %d"
		}
		text += fmt.Sprintf("    -A PREROUTING "+match+"\n", port)
	}
	return text + "    COMMIT\n" + strings.TrimPrefix(tracked, "\n  rules: |\n")
}

// heldToRules holds what the DUT received of entries to what its rules counted at their ports.
func heldToRules(t *testing.T, trial results.Trial, ports map[string]int) {
	t.Helper()
	hits := ruleHits(trial)
	for name, port := range ports {
		e, want := trial.Entries[name], int64(0)
		for rule, n := range hits {
			if strings.HasSuffix(rule, fmt.Sprintf("--dport %d", port)) {
				want += n
			}
		}
		switch {
		case e.Received == nil:
			t.Errorf("%s: received is unknown", name)
		case *e.Received != want || want == 0 || want > *e.Sent:
			t.Errorf("%s: received %d of %d, want %d of %v", name, *e.Received, *e.Sent, want, hits)
		}
	}
}

// ruleHits returns how many packets each rule of the DUT's tables raw has counted.
func ruleHits(trial results.Trial) map[string]int64 {
	hits := map[string]int64{}
	for _, r := range trial.Rules {
		if r.Table == "raw" && !strings.HasPrefix(r.Text, "policy") {
			hits[r.Family+" "+r.Text] = r.Packets()
		}
	}
	return hits
}

// TestTransit_Lost floods an emulated guest with more than its card takes: the trial is INVALID,
// and names where each frame was lost.
func TestTransit_Lost(t *testing.T) {
	needsLab(t)
	text := `
experiment: flood
dut:
  memory: 256MiB` + countedBefore(9000) + `
workload:
  - {name: flood, generator: udp, duration: 1s, rate: 100k/s, silent: true, crafted: true,
     sources: 1000, ports: 9000}
recovery: 1s
`
	o := ctload(t, 5*time.Minute, "run", experiment(t, text), "--accelerator", "tcg",
		"--format", "json", "--retries", "0")
	trial := decode(t, o.stdout).Scenarios[0].Trials[0]
	if o.status != statusInvalid || !slices.Contains(trial.InvalidCodes, results.CodeOverload) {
		t.Fatalf("exit status %d, invalid %q, transit %+v", o.status, trial.Invalid, trial.Transit)
	}
	exact(t, "flood", trial.Transit)
	to := trial.Transit.ToDUT
	if p := to.Places[0]; p.Part != results.PartQueue || p.Node != "dut" || to.Lost() != p.Frames {
		t.Errorf("lost %d at %+v", to.Lost(), to.Places)
	}
	heldToRules(t, trial, map[string]int{"flood": 9000})
	if to.Sent < trial.Load.Offered || to.Sent > trial.Load.Offered+20 {
		t.Errorf("%d frames of a load of %d packets", to.Sent, trial.Load.Offered)
	}
	want := fmt.Sprintf("%s at the lab's queue to dut/client", results.Count(to.Lost()))
	if !strings.Contains(strings.Join(trial.Invalid, "\n"), want) {
		t.Errorf("%q does not say %q", trial.Invalid, want)
	}
	if !strings.Contains(o.stderr, "the links carry less than the load") {
		t.Errorf("the loss is not told while the load runs:\n%s", o.stderr)
	}
}

// TestTransit_Conditions has the link of a guest lose a fifth of its frames, as an action asks: the
// trial stays valid, and names what the conditions took.
func TestTransit_Conditions(t *testing.T) {
	needsLab(t)
	text := `
experiment: lossy
dut:
  memory: 512MiB` + countedBefore(9000) + `
workload:
  - {name: lossy, ports: 9000, generator: udp, flows: 2400, rate: 400/s, silent: true, slack: 5s}
actions: [{action: network, link: dut/client, loss: 20%, at: 0s, for: 5s}]
recovery: 1s
`
	o, _ := measuredRun(t, 15*time.Minute, experiment(t, text))
	if o.status != statusOK {
		t.Fatalf("exit status %d\n%s\n%s", o.status, o.stdout, o.stderr)
	}
	trial := decode(t, o.stdout).Scenarios[0].Trials[0]
	exact(t, "lossy", trial.Transit)
	// Where the host has no netem the DUT itself drops what its card has received.
	if trial.Entries["lossy"].Received != nil {
		heldToRules(t, trial, map[string]int{"lossy": 9000})
	}
	to := trial.Transit.ToDUT
	if p := to.Places[0]; p.Part != results.PartConditions || !trial.Transit.Expected {
		t.Errorf("lost at %+v, expected: %v", to.Places, trial.Transit.Expected)
	}
	// Each datagram that arrived has an entry, and nothing else does. Other frames may be among the
	// lost ones: those that look for neighbours, and one of the lab's own, which no node has sent.
	least, others := trial.Load.Offered-to.Lost(), to.Sent-trial.Load.Offered+1
	if peak := trial.Conntrack.Peak; peak < least || peak > least+others {
		t.Errorf("%d entries, want the %d datagrams that were not lost, and at most %d more", peak,
			least, others)
	}
	want := fmt.Sprintf("%s at the conditions of dut/client", results.Count(to.Places[0].Frames))
	if !slices.ContainsFunc(results.Insights(&trial), func(s string) bool {
		return strings.Contains(s, want)
	}) {
		t.Errorf("%q does not say %q", results.Insights(&trial), want)
	}
}
