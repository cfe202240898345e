package wiring

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

// resolved returns the topology and the first scenario of an experiment given as text.
func resolved(t *testing.T, text string) (scenarios.Topology, scenarios.Resolved) {
	t.Helper()
	e, _, err := scenarios.Parse("experiment.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e.Topology, e.Resolve()[0]
}

func TestWorkload(t *testing.T) {
	topology, scenario := resolved(t, `
experiment: dual
topology: {kind: router, families: [ipv4, ipv6], clients: 2}
workload:
  - {generator: udp, flows: 101, rate: 50/s, ports: 53, from: client2}
  - {generator: http, requests: 10, concurrency: 3, keep-alive: true}
  - {probe: tcp, port: 22, rate: 10/s}
scenarios: {a: {}}
`)
	type made struct {
		Name, Node, Target string
		Count              int64
		Concurrency        int
		Rate               float64
	}
	var got []made
	for _, a := range Assignments(topology, scenario, 1) {
		got = append(got, made{a.Name, a.Node, a.Spec.Target, a.Spec.Count, a.Spec.Concurrency,
			a.Spec.Rate})
		if err := a.Spec.Validate(); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
	}
	want := []made{
		{"udp-ipv4", "client2", "10.78.0.2", 50, 0, 25},
		{"udp-ipv6", "client2", "fd00:78::2", 51, 0, 25},
		{"http-ipv4", "client", "10.78.0.2", 5, 1, 0},
		{"http-ipv6", "client", "fd00:78::2", 5, 2, 0},
		{"probe-ipv4", "client", "10.78.0.2", 0, 0, 10},
		{"probe-ipv6", "client", "fd00:78::2", 0, 0, 10},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var kinds []string
	for _, r := range Responders(topology, scenario)["server"] {
		kinds = append(kinds, string(r.Kind)+"/"+string(r.Network))
	}
	if diff := cmp.Diff([]string{"echo/udp", "http/", "silent/"}, kinds); diff != "" {
		t.Error(diff)
	}
	if nodes := LoadNodes(topology); len(nodes) != 3 || nodes[1].Name != "client2" ||
		len(nodes[2].Port.Routes) != 4 {
		t.Errorf("%+v", nodes)
	}
}

// TestCraftedDatagrams: crafted datagrams come from strangers of their own client, whatever a
// socket could have; the target answers none of them.
func TestCraftedDatagrams(t *testing.T) {
	topology, scenario := resolved(t, `
experiment: spoofed
topology: {kind: router, clients: 2, families: [ipv4, ipv6]}
workload:
  - {generator: udp, name: one, flows: 2M, rate: 10k/s, crafted: true, sources: 60k, ports: 53}
  - {generator: udp, name: two, flows: 10, rate: 5/s, crafted: true, from: client2, ports: 53}
scenarios: {a: {}}
`)
	for _, a := range Assignments(topology, scenario, 1) {
		s := a.Spec
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
		if !s.Crafted || s.FreeBind || s.Exchanges > 0 || s.Reply {
			t.Errorf("%s: %+v", a.Name, s)
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
		if a.Node == "client2" {
			want = 1
		}
		if network := strangerNetwork(family, clientIndex(a.Node),
			topology.Clients); sources.Len() != want || !network.Contains(first) {
			t.Errorf("%s from %s: %d sources %s, want %d of %s", a.Name, a.Node, sources.Len(),
				s.Sources, want, network)
		}
	}
	answers := Responders(topology, scenario)["server"]
	if len(answers) != 1 || answers[0].Kind != responders.Echo ||
		answers[0].Network != responders.UDP {
		t.Errorf("the server has %+v", answers)
	}
}

// TestSharedPorts: an entry that needs only an open port shares the responder that another entry
// requires; without such an entry nothing listens.
func TestSharedPorts(t *testing.T) {
	topology, scenario := resolved(t, `
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
	for _, spec := range Responders(topology, scenario)["dut"] {
		got = append(got, fmt.Sprintf("%s%s %v %d", spec.Kind, spec.Network, spec.Ports, spec.Body))
	}
	if diff := cmp.Diff([]string{"http [80] 1024", "silent [81] 0", "echoudp [80] 0"},
		got); diff != "" {
		t.Error(diff)
	}
}

// TestHold: a hold opens as many connections at a time as the file says, or else as fast as they
// are accepted.
func TestHold(t *testing.T) {
	topology, scenario := resolved(t, `
experiment: held
workload:
  - {generator: hold, name: some-at-a-time, connections: 500, concurrency: 20, duration: 3s}
  - {generator: hold, name: all, connections: 500, duration: 3s, ports: 81}
  - {generator: hold, name: paced, connections: 500, rate: 100/s, duration: 3s, ports: 82}
scenarios: {a: {}}
`)
	for _, a := range Assignments(topology, scenario, 1) {
		concurrency, hold := 0, 3*time.Second
		switch a.Name {
		case "some-at-a-time":
			concurrency = 20
		case "all":
			concurrency = 500
		case "paced":
			hold = 8 * time.Second // the first one waits for the last
		}
		if a.Spec.Concurrency != concurrency || a.Spec.Lifetime.Average() != hold {
			t.Errorf("%s: %d at a time, held for %s; want %d, %s", a.Name, a.Spec.Concurrency,
				a.Spec.Lifetime.Average(), concurrency, hold)
		}
	}
}

// TestServersApart: a server that is stopped by its port stops alone, whatever else answers in the
// same way.
func TestServersApart(t *testing.T) {
	const text = `
experiment: apart
workload:
  - {generator: tcp, connections: 5, rate: 1/s, ports: 80-81}
  - {generator: hold, connections: 5, duration: 5s, ports: 82}
  - {probe: tcp, port: 22, rate: 1/s}
scenarios:
  joined: {actions: [{action: server-stop, at: 1s}]}
  parted:
    actions:
      - {action: server-stop, ports: 81-82, at: 1s, for: 1s}
      - {action: server-stall, ports: 82, at: 3s}
`
	e, _, err := scenarios.Parse("apart.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"[[80 81 82 22]]", "[[80 22] [81] [82]]"} {
		var ports [][]uint16
		for _, spec := range Responders(e.Topology, e.Resolve()[i])["dut"] {
			ports = append(ports, spec.Ports)
		}
		if got := fmt.Sprint(ports); got != want {
			t.Errorf("%s: responders at %s, want %s", e.Resolve()[i].Name, got, want)
		}
	}
}
