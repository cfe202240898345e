package orchestrator

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/generators/tuples"
	"github.com/ctload/ctload/scenarios"
)

// Crafted datagrams come from strangers of their own client, whatever a socket could have; the target answers to nobody.
func TestCraftedDatagrams(t *testing.T) {
	plan := planOf(t, `
experiment: spoofed
topology: {kind: router, clients: 2, families: [ipv4, ipv6]}
workload:
  - {generator: udp, name: one, flows: 2M, rate: 10k/s, crafted: true, sources: 60k, ports: 53}
  - {generator: udp, name: two, flows: 10, rate: 5/s, crafted: true, from: client2, ports: 53}
scenarios: {a: {}}
`)
	topology, scenario := plan.Experiment.Topology, plan.Scenarios[0]
	for _, a := range assignments(topology, scenario, 1) {
		s := a.spec
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", a.name, err)
		}
		if !s.Crafted || s.FreeBind || s.Exchanges > 0 || s.Reply {
			t.Errorf("%s: %+v", a.name, s)
		}
		family, first := scenarios.IPv4, netip.MustParseAddr(strings.Split(s.Sources, "-")[0])
		if first.Is6() {
			family = scenarios.IPv6
		}
		sources, err := tuples.ParseAddresses(s.Sources)
		if err != nil {
			t.Fatal(err)
		}
		want := uint64(60_000)
		if a.node == "client2" {
			want = 1
		}
		if network := strangerNetwork(family, clientIndex(a.node), topology.Clients); sources.Len() != want || !network.Contains(first) {
			t.Errorf("%s from %s: %d sources %s, want %d of %s", a.name, a.node, sources.Len(), s.Sources, want, network)
		}
	}
	answers := responderSpecs(topology, scenario)["server"]
	if len(answers) != 1 || answers[0].Kind != responders.Echo || answers[0].Network != responders.UDP {
		t.Errorf("the server has %+v", answers)
	}
}

// Who wants no more than that somebody listens meets the program that others need; nobody listens where nobody is wanted.
func TestSharedPorts(t *testing.T) {
	plan := planOf(t, `
experiment: shared
workload:
  - {probe: tcp, port: 80, rate: 5/s}
  - {generator: syn, flows: 5, rate: 5/s, ports: 80-81}
  - {generator: http, requests: 5, rate: 5/s, payload: 1KiB}
  - {generator: tcp, connections: 5, rate: 5/s, ports: [80, 82], listener: closed}
  - {generator: udp, flows: 5, rate: 5/s, ports: 80}
scenarios: {a: {}}
`)
	var got []string
	for _, spec := range responderSpecs(plan.Experiment.Topology, plan.Scenarios[0])["dut"] {
		got = append(got, fmt.Sprintf("%s%s %v %d", spec.Kind, spec.Network, spec.Ports, spec.Body))
	}
	if diff := cmp.Diff([]string{"http [80] 1024", "silent [81] 0", "echoudp [80] 0"}, got); diff != "" {
		t.Error(diff)
	}
}

// Held connections are opened as many at a time as the file says, or else as fast as they are accepted.
func TestHold(t *testing.T) {
	plan := planOf(t, `
experiment: held
workload:
  - {generator: hold, name: some-at-a-time, connections: 500, concurrency: 20, duration: 3s}
  - {generator: hold, name: all, connections: 500, duration: 3s, ports: 81}
  - {generator: hold, name: paced, connections: 500, rate: 100/s, duration: 3s, ports: 82}
scenarios: {a: {}}
`)
	for _, a := range assignments(plan.Experiment.Topology, plan.Scenarios[0], 1) {
		concurrency, hold := 0, 3*time.Second
		switch a.name {
		case "some-at-a-time":
			concurrency = 20
		case "all":
			concurrency = 500
		case "paced":
			hold = 8 * time.Second // the first one waits for the last
		}
		if a.spec.Concurrency != concurrency || a.spec.Hold != hold {
			t.Errorf("%s: %d at a time, held for %s; want %d, %s", a.name, a.spec.Concurrency, a.spec.Hold, concurrency, hold)
		}
	}
}
