package wiring

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
)

// TestSourcePorts: entries of one node that would collide have source ports of their own, all
// others the whole range.
func TestSourcePorts(t *testing.T) {
	topology, scenario := resolved(t, `
experiment: ports
topology: {kind: server, clients: 2}
workload:
  - {generator: http, name: web, requests: 10, concurrency: 3, ports: [80, 81]}
  - {generator: tcp, name: web-too, connections: 10, concurrency: 3, ports: [81, 82]}
  - {generator: hold, name: elsewhere, connections: 10, rate: 5/s, duration: 9s, ports: 8080}
  - {generator: http, name: neighbour, requests: 10, concurrency: 3, from: client2}
  - {generator: udp, name: query, flows: 10, rate: 5/s, ports: 53}
  - {generator: udp, name: log, flows: 10, rate: 5/s, ports: 514, silent: true}
  - {generator: udp, name: own, flows: 10, rate: 5/s, ports: 53, source-ports: 5000-5009}
  - {generator: syn, name: flood, flows: 10, rate: 5/s}
  - {generator: syn, name: wave, flows: 10, rate: 5/s}
  - {generator: udp, name: spoofed, flows: 10, rate: 5/s, crafted: true, ports: 53}
  - {generator: udp, name: spoofed-too, flows: 10, rate: 5/s, crafted: true, ports: [53, 123]}
  - {generator: udp, name: spoofed-elsewhere, flows: 10, rate: 5/s, crafted: true, silent: true,
     ports: 514}
  - {generator: icmp, name: echo, flows: 10, rate: 5/s}
  - {probe: tcp, name: ssh, port: 22, rate: 1/s}
  - {probe: udp, name: dns, port: 53, rate: 1/s}
  - {probe: udp, name: ntp, port: 123, rate: 1/s}
  - {probe: udp, name: snmp, port: 161, rate: 1/s}
  - {probe: icmp, name: ping, rate: 1/s}
scenarios: {a: {}}
`)
	got := map[string]string{}
	for _, a := range Assignments(topology, scenario, 1) {
		got[a.Name] = a.Spec.SourcePorts
		if err := a.Spec.Validate(); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
	}
	want := map[string]string{
		"web": "1024-31011", "web-too": "31012-60999", "elsewhere": "1024-60999",
		"neighbour": "1024-60999",
		"query":     "1024-31011", "log": "31012-60999", "own": "5000-5009",
		"flood": "1024-33279", "wave": "33280-65535", "echo": "1024-65535",
		"spoofed": "1024-33279", "spoofed-too": "33280-65535", "spoofed-elsewhere": "1024-65535",
		"ssh": "61000-65535", "dns": "61000-62511", "ntp": "62512-64023", "snmp": "64024-65535",
		"ping": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestSourcePortsBesideListeners: a node that loads itself leaves out the ports that it listens on.
func TestSourcePortsBesideListeners(t *testing.T) {
	topology, scenario := resolved(t, `
experiment: itself
workload:
  - {generator: tcp, name: program, from: dut, target: dut, connections: 10, concurrency: 3,
     ports: [8080, 8081, 50000]}
  - {generator: udp, name: named, from: dut, target: dut, flows: 10, rate: 5/s, ports: 53,
     source-ports: 8000-8099}
  - {probe: tcp, name: ssh, port: 22, rate: 1/s}
scenarios: {a: {}}
`)
	got := map[string]string{}
	for _, a := range Assignments(topology, scenario, 1) {
		got[a.Name] = a.Spec.SourcePorts
	}
	want := map[string]string{"program": "1024-8079,8082-49999,50001-60999", "named": "8000-8099",
		"ssh": "61000-65535"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestProbesBesideEachOther: two probes that send at the same times lose no answer to each other.
func TestProbesBesideEachOther(t *testing.T) {
	topology, scenario := resolved(t, `
experiment: probes
workload:
  - {probe: udp, name: one, port: 5301, rate: 200/s}
  - {probe: udp, name: two, port: 5302, rate: 200/s}
  - {generator: tcp, connections: 1, concurrency: 1}
scenarios: {a: {}}
`)
	var probes []generators.Spec
	for _, a := range Assignments(topology, scenario, 1) {
		if a.Probe {
			probes = append(probes, a.Spec)
		}
	}
	var done sync.WaitGroup
	answered := make([]int64, len(probes))
	for i, spec := range probes {
		// Slow, so that a socket still waits when the other one's is opened.
		slow, err := responders.Listen(t.Context(), responders.Spec{
			Kind: responders.Slow, Delay: 200 * time.Millisecond, Network: responders.UDP,
			Address: "127.0.0.1", Ports: []uint16{0},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := slow.Close(); err != nil {
				t.Error(err)
			}
		})
		spec.Target, spec.Ports, spec.Duration, spec.Slack = "127.0.0.1", slow.Ports(), time.Second,
			time.Second
		// The values also suit a host that stands still meanwhile.
		spec.Timeout, spec.CatchUp = 10*time.Second, true
		done.Go(func() {
			result, err := generators.Run(t.Context(), spec, nil)
			if err != nil {
				t.Error(err)
			}
			answered[i] = result.Completed
			if result.Offered != result.Completed {
				t.Errorf("probe %d: %d sent, %d answered, failed by %v", i, result.Offered,
					result.Completed, result.Causes)
			}
		})
	}
	done.Wait()
	if slices.Min(answered) < 100 {
		t.Errorf("%v answers", answered)
	}
}
