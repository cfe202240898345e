package forecast

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// predicted returns the prediction for the first scenario of an experiment, with a table of 1000.
func predicted(t *testing.T, workload, dut string) *results.Prediction {
	t.Helper()
	return predictedIn(t, "families: [ipv4]", workload, dut)
}

func predictedIn(t *testing.T, topology, workload, dut string) *results.Prediction {
	t.Helper()
	return Predict(caseOf(t, topology, workload, dut, ""))
}

// caseOf returns the trial of the first scenario of an experiment, with a table of 1000; more are
// further lines of it.
func caseOf(t *testing.T, topology, workload, dut, more string) Case {
	t.Helper()
	file := filepath.Join(t.TempDir(), "experiment.yaml")
	text := "experiment: x\ntopology: {" + topology + "}\ndut: {" + dut +
		"}\nworkload: [" + workload + "]\nscenarios: {a: {}}\n" + more + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	experiment, _, err := scenarios.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	scenario := experiment.Resolve()[0]
	state := tuning.State{Max: 1000, Buckets: 1024, Timeouts: map[string]int64{
		"net.netfilter.nf_conntrack_tcp_timeout_time_wait":      120,
		"net.netfilter.nf_conntrack_tcp_timeout_established":    432000,
		"net.netfilter.nf_conntrack_tcp_timeout_close":          10,
		"net.netfilter.nf_conntrack_tcp_timeout_syn_sent":       120,
		"net.netfilter.nf_conntrack_tcp_timeout_unacknowledged": 300,
		"net.netfilter.nf_conntrack_tcp_timeout_close_wait":     60,
		"net.netfilter.nf_conntrack_udp_timeout":                30,
		"net.netfilter.nf_conntrack_udp_timeout_stream":         120,
		"net.netfilter.nf_conntrack_icmp_timeout":               30,
		"net.netfilter.nf_conntrack_icmpv6_timeout":             30,
	}}
	state.Tracking.IPv4, state.Tracking.IPv6 = tuning.Yes, tuning.Yes
	return Case{
		Topology: experiment.Topology, Scenario: scenario,
		Entries: wiring.Assignments(experiment.Topology, scenario, 1),
		State:   state, Age: new(3 * time.Second), Client: kernels.Version{Major: 6, Minor: 1},
	}
}

// TestPredict_NamesThatBeginAlike: the prediction goes by the entries, whatever their names: it
// does not confuse the held load with the datagrams whose name begins its own.
func TestPredict_NamesThatBeginAlike(t *testing.T) {
	var got []float64
	for _, name := range []string{"load-ipv4", "held"} {
		p := predicted(t, "{name: load, generator: udp, flows: 100, rate: 10/s, silent: true}, "+
			"{name: "+name+", generator: hold, connections: 500, rate: 100/s, duration: 5s}", "")
		got = append(got, p.Sustainable)
	}
	// 10/s of datagrams live for 30 s, 100/s of connections for 130 s.
	if got[0] != got[1] || math.Abs(got[0]-1000/(0.01*(10*30+100*130)/1.1)) > 0.1 {
		t.Errorf("%v entries are sustained, with the names load-ipv4 and held; want one figure, "+
			"near 8.3", got)
	}
}

func TestPredict(t *testing.T) {
	const probe = ", {probe: tcp, port: 22, rate: 10/s}"
	const raw = "table ip x { chain y { type filter hook prerouting priority raw; "
	const oneWay = `nft: "` + raw + `udp dport 80 notrack; } }"`
	const oneWayTCP = `nft: "` + raw + `tcp dport 8080 notrack; } }"`
	const exempt = `nft: "` + raw + `udp dport 80 notrack; tcp dport 22 notrack; }; chain z { ` +
		`type filter hook output priority raw; udp sport 80 notrack; tcp sport 22 notrack; } }"`
	const policy = `nft: "table ip x { ct timeout s { protocol udp; policy = { unreplied : 2 }; ` +
		`}; chain y { type filter hook prerouting priority -150; udp dport 53 ct timeout set s; ` +
		`} }"`
	for _, tc := range []struct {
		name, workload, dut string
		peak                int64
		full                float64 // 0: never, or not known
		residence           float64
	}{
		{"closed loop", "{generator: http, requests: 900, concurrency: 10}" + probe, "", 900, 0,
			120},
		{"kept alive", "{generator: http, requests: 900, concurrency: 10, keep-alive: true}", "",
			10, 0, 120},
		{"open loop", "{generator: udp, flows: 5000, rate: 500/s, silent: true}", "", 1000, 2, 30},
		{"crafted", "{generator: udp, flows: 5000, rate: 500/s, crafted: true, sources: 5k}", "",
			1000, 2, 30},
		{"crafted, few tuples", "{generator: udp, flows: 5000, rate: 500/s, crafted: true, " +
			"sources: 4, source-ports: 1024-1123}", "", 400, 0, 30},
		{"beside a bystander", "{generator: udp, flows: 1100, rate: 90/s, silent: true}" + probe,
			"", 1000, 10, 30},
		{"held, then closed", "{generator: hold, connections: 1500, rate: 100/s, duration: 5s}",
			"", 1000, 10, 20 + 120},
		{"a profile", "{generator: udp, stages: [{duration: 4s, from: 0/s, rate: 100/s}, " +
			"{duration: 3s, rate: 100/s}]}", "", 500, 0, 30},
		{"a closed port", "{generator: tcp, connections: 500, rate: 100/s, listener: closed}", "",
			0, 0, 0},
		{"a full queue", "{generator: tcp, connections: 500, rate: 100/s, listener: full}", "",
			500, 0, 120},
		{"few source ports", "{generator: hold, connections: 500, rate: 200/s, duration: 2s, " +
			"source-ports: 20000-20199}", "", 200, 0, 4.5 + 120},
		{"few source ports of four addresses", "{generator: hold, connections: 500, rate: " +
			"200/s, duration: 2s, source-ports: 20000-20199, sources: 4}", "", 500, 0, 4.5 + 120},
		{"few source ports to two ports", "{generator: http, requests: 900, concurrency: 10, " +
			"source-ports: [1024-1099, 2000], ports: [80, 81]}", "", 154, 0, 120},
		{"few source ports, a table that is smaller", "{generator: hold, connections: 4000, " +
			"rate: 200/s, duration: 2s, source-ports: 20000-21999}", "", 1000, 5, 22 + 120},
		{"exempt", "{generator: udp, flows: 500, rate: 100/s}" + probe, exempt, 0, 0, 0},
		{"exempt one way", "{generator: udp, flows: 500, rate: 100/s}", oneWay, 500, 0, 30},
		{"exempt one way, no answers", "{generator: udp, flows: 500, rate: 100/s, silent: true}",
			oneWay, 0, 0, 0},
		{"answers picked up", "{generator: http, requests: 500, rate: 100/s, ports: 8080}",
			oneWayTCP, 500, 0, 60},
		{"answers not picked up", "{generator: http, requests: 500, rate: 100/s, ports: 8080}",
			"sysctl: {net.netfilter.nf_conntrack_tcp_loose: 0}, " + oneWayTCP, 0, 0, 0},
		{"lives by chance", "{generator: tcp, connections: 900, rate: 100/s, lifetime: " +
			"exponential(3s)}", "", 900, 0, 123},
		{"a stream of datagrams", "{generator: udp, flows: 300, rate: 100/s, lifetime: 5s, " +
			"interval: 1s}", "", 300, 0, 125},
		{"refused by a rule", "{generator: udp, flows: 500, rate: 100/s}, {generator: udp, " +
			"name: other, flows: 300, rate: 100/s, ports: 53}", `rules: "*filter\n-A INPUT -p ` +
			`udp --dport 80 -j REJECT\nCOMMIT"`, 300, 0, 30},
		{"a timeout policy", "{generator: udp, flows: 900, rate: 100/s, ports: 53}", policy, 581,
			0, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := predicted(t, tc.workload, tc.dut)
			full := 0.0
			if p.SecondsToFull != nil {
				full = *p.SecondsToFull
			}
			if math.Abs(float64(p.Peak-tc.peak)) > 0.03*float64(tc.peak) ||
				math.Abs(full-tc.full) > 0.05 ||
				math.Abs(p.Residence-tc.residence) > 1e-6 {
				t.Errorf("peak %d, full after %.2f s, residence %v; want %d, %v, %v", p.Peak, full,
					p.Residence, tc.peak, tc.full, tc.residence)
			}
		})
	}
}

// TestPredict_NAT has two of three ports of a load translated to few sources, by rules with
// conditions that the lab decides.
func TestPredict_NAT(t *testing.T) {
	const hold = "{generator: hold, connections: 300, rate: 100/s, duration: 2s, ports: [80-82]}"
	for _, condition := range []string{
		"-o ${server.interface}", "-o eth1", "-s 10.0.0.0/8", "-s ${client.address}",
		"-d ${server.network}", "-d 10.78.0.2", "! -d 10.77.0.0/16 -m mark ! --mark 0x4000/0x4000",
		"-m set --match-set inside src",
	} {
		p := predictedIn(t, "kind: router", hold, `ipset: "create inside hash:net\nadd inside `+
			`${client.network}", rules: "*nat\n-A POSTROUTING `+condition+` -p tcp `+
			`--dport 81:82 -j SNAT --to-source ${dut.server.address}:40000-40039\nCOMMIT"`)
		// 80 of the 200 connections to the two ports get a source, since each is a destination.
		if p.Peak != 180 || p.NATRefused != 120 || p.NATPorts != 80 {
			t.Errorf("%s: peak %d, %d refused of %d ports; want 180, 120, 80",
				condition, p.Peak, p.NATRefused, p.NATPorts)
		}
	}
}

// TestPredict_SharedTuples has entries of a workload that name the same source ports: one entry of
// the table stands for a flow of each. Where they share only some, the order decides how many.
func TestPredict_SharedTuples(t *testing.T) {
	load := func(name, ports, start string) string {
		return "{generator: udp, name: " + name + ", flows: 100, rate: 50/s, silent: true, " +
			"ports: 514, source-ports: " + ports + ", start: " + start + "}"
	}
	for _, tc := range []struct {
		name, workload  string
		peak, low, high int64
	}{
		{"the same", load("a", "5000-5099", "0s") + ", " + load("b", "5000-5099", "3s"),
			100, 100, 100},
		{"half of them", load("a", "5000-5099", "0s") + ", " + load("b", "5050-5149", "3s"),
			200, 100, 200},
		{"none", load("a", "5000-5099", "0s") + ", " + load("b", "5100-5199", "3s"),
			200, 200, 200},
	} {
		p := predicted(t, tc.workload, "")
		if p.Peak != tc.peak || p.PeakLow != tc.low || p.PeakHigh != tc.high {
			t.Errorf("%s: a peak of %d, %d to %d; want %d, %d to %d", tc.name, p.Peak, p.PeakLow,
				p.PeakHigh, tc.peak, tc.low, tc.high)
		}
	}
}

// TestPredict_RefusedFlows: packets that a rule refuses need room in the table before they meet it,
// with their repetitions, also where the rule would answer; not those refused before tracking.
func TestPredict_RefusedFlows(t *testing.T) {
	const load = "{generator: hold, connections: 1000, rate: 500/s, duration: 9s}, {generator: " +
		"tcp, name: denied, connections: 100, rate: 100/s, start: 3s, ports: 81, timeout: 2s}"
	for rule, drop := range map[string]int64{
		`*filter\n-A INPUT -p tcp --dport 81 -j DROP`:            200,
		`*filter\n-A INPUT -p tcp --dport 81 -j REJECT`:          200,
		`*raw\n-A PREROUTING -p tcp --dport 81 -j DROP`:          0,
		`*filter\n-A INPUT -j x\n-A x -p tcp --dport 81 -j DROP`: 200,
	} {
		p := predicted(t, load, `rules: "`+rule+`\nCOMMIT"`)
		if p.Peak != 1000 || p.Drop != drop || p.Overflow != 0 {
			t.Errorf("%s: peak %d, drop %d, overflow %d; want 1000, %d, 0", rule, p.Peak, p.Drop,
				p.Overflow, drop)
		}
	}
}

// TestPredict_Performed: an action comes when the trial performed it, and what did not come changes
// nothing.
func TestPredict_Performed(t *testing.T) {
	const load = "{generator: udp, flows: 500, rate: 100/s, silent: true}"
	at := func(done []results.Action) int64 {
		c := caseOf(t, "families: [ipv4]", load, "", "actions: [{action: flush, at: 2s}]")
		c.Performed = done
		return Predict(c).Peak
	}
	late := []results.Action{{Name: "flush", Begun: new(3.6), Took: 0.8}}
	for name, got := range map[string][2]int64{
		"planned": {at(nil), 300}, "late": {at(late), 400}, "never": {at(late[:0]), 500},
	} {
		if math.Abs(float64(got[0]-got[1])) > 2 {
			t.Errorf("%s: peak %d, want %d", name, got[0], got[1])
		}
	}
}

// TestPredict_ManyPorts asks the rules about some of the ports alone.
func TestPredict_ManyPorts(t *testing.T) {
	p := predicted(t, "{generator: udp, flows: 900, rate: 100/s, ports: [1-60000], silent: true}",
		`rules: "*raw\n-A PREROUTING -p udp --dport 40001:65535 -j NOTRACK\nCOMMIT"`)
	if p.Peak < 590 || p.Peak > 610 {
		t.Errorf("peak %d, want two thirds of 900", p.Peak)
	}
}

// TestPredict_Lives: the entries alive follow from the mean of the lives, whatever their form, and
// those that differ by chance have a range.
func TestPredict_Lives(t *testing.T) {
	for _, lives := range []string{"4s", "exponential(4s)", "lognormal(4s, 1)", "[0s, 3s, 10s]"} {
		p := predicted(t, "{generator: tcp, rate: 20/s, duration: 60s, close: rst, lifetime: \""+
			lives+"\"}", "")
		if want := 20 * (4 + 10.0); math.Abs(float64(p.Alive)-want) > 0.03*want {
			t.Errorf("%s: %d entries alive, want %v", lives, p.Alive, want)
		}
		if chance := p.PeakHigh-p.PeakLow > 50; chance == (lives == "4s") {
			t.Errorf("%s: peak %d to %d", lives, p.PeakLow, p.PeakHigh)
		}
	}
}

// TestPredictByFamily has rules for one family, or for one protocol, and a load over others.
func TestPredictByFamily(t *testing.T) {
	const load = "{generator: udp, flows: 500, rate: 100/s, ports: [53]}"
	const notrack = `"*raw\n-A PREROUTING -p udp --dport 53 -j CT --notrack\n-A OUTPUT -p udp ` +
		`--sport 53 -j CT --notrack\nCOMMIT"`
	for _, tc := range []struct {
		name, families, load, dut string
		peak                      int64
	}{
		{"IPv6 exempt by its rules", "ipv6", load, "rules6: " + notrack, 0},
		{"IPv6, the rules of IPv4", "ipv6", load, "rules: " + notrack, 500},
		{"both, one exempt", "ipv4, ipv6", load, "rules6: " + notrack, 250},
		{"both exempt", "ipv4, ipv6", load, "rules: " + notrack + ", rules6: " + notrack, 0},
		{"another protocol", "ipv4", "{generator: tcp, connections: 500, rate: 100/s, ports: [53]}",
			"rules: " + notrack, 500},
		{"SYNs alone", "ipv4", "{generator: syn, flows: 500, rate: 100/s}",
			`rules: "*raw\n-A PREROUTING -p tcp --syn -j CT --notrack\nCOMMIT"`, 0},
		{"SYNs exempt, connections not", "ipv4", "{generator: tcp, connections: 500, rate: 100/s}",
			`rules: "*raw\n-A PREROUTING -p tcp --syn -j CT --notrack\nCOMMIT"`, 500},
		{"loopback alone", "ipv4", load, `rules: "*raw\n-A PREROUTING -i lo -j CT --notrack\n-A ` +
			`OUTPUT -o lo -j CT --notrack\nCOMMIT"`, 500},
		{"ICMPv6", "ipv6", "{generator: icmp, flows: 500, rate: 100/s}", `rules6: "*raw\n-A ` +
			`PREROUTING -p icmpv6 -j CT --notrack\n-A OUTPUT -p icmpv6 -j CT --notrack\nCOMMIT"`,
			0},
		{"ICMPv6, exempt behind a rule about answers", "ipv6",
			"{generator: icmp, flows: 500, rate: 100/s}", `rules6: "*raw\n-A PREROUTING ` +
				`-p icmpv6 --icmpv6-type echo-reply -j DROP\n-A PREROUTING -p icmpv6 -j CT ` +
				`--notrack\nCOMMIT"`, 0},
	} {
		if p := predictedIn(t, "families: ["+tc.families+"]", tc.load, tc.dut); p.Peak != tc.peak {
			t.Errorf("%s: a peak of %d, want %d", tc.name, p.Peak, tc.peak)
		}
	}
}
