package wiring

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/scenarios"
)

// TestCountable finds the entries whose packets the DUT can tell from those of all others.
func TestCountable(t *testing.T) {
	topology, scenario := resolved(t, `
experiment: countable
topology: {kind: server, clients: 2, families: [ipv4, ipv6]}
workload:
  - {generator: udp, name: log, flows: 10, rate: 5/s, ports: 514, silent: true}
  - {generator: udp, name: far-log, flows: 10, rate: 5/s, ports: 514, silent: true, from: client2}
  - {generator: udp, name: stream, duration: 5s, rate: 5/s, ports: 8125, silent: true, reuse: true,
     source-ports: 5000-5009}
  - {generator: udp, name: twin, flows: 10, rate: 5/s, ports: 123, silent: true,
     source-ports: 5000-5099}
  - {generator: udp, name: twin-too, flows: 10, rate: 5/s, ports: "100-200", silent: true,
     source-ports: 5099-5199}
  - {generator: udp, name: calls, flows: 10, rate: 5/s, ports: 5060, silent: true, lifetime: 1s,
     interval: 200ms}
  - {generator: udp, name: race, flows: 10, rate: 5/s, ports: 53, silent: true, at-once: 2}
  - {generator: udp, name: query, flows: 10, rate: 5/s, ports: 54}
  - {generator: udp, name: spoofed, flows: 10, rate: 5/s, crafted: true, silent: true, sources: 50,
     ports: 514}
  - {generator: syn, name: flood, flows: 10, rate: 5/s}
  - {generator: http, name: web, requests: 10, concurrency: 3}
  - {generator: icmp, name: echo, flows: 10, rate: 5/s}
  - {probe: tcp, name: ssh, port: 22, rate: 1/s}
scenarios: {a: {}}
`)
	got := Countable(Assignments(topology, scenario, 1))
	names := slices.Sorted(maps.Keys(got))
	want := []string{"far-log", "flood", "log", "spoofed", "stream"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for name, flows := range got {
		if len(flows) != len(topology.Families) {
			t.Errorf("%s: %+v, want one of each family", name, flows)
		}
	}
	six := got["stream"][slices.Index(topology.Families, scenarios.IPv6)]
	if !six.Target.Is6() || six.SourcePorts != "5000-5009" || six.TargetPorts != "8125" {
		t.Errorf("stream: %+v", six)
	}
}
