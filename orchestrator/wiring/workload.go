// Package wiring turns a scenario into what the nodes of a lab get: addresses and routes, loads and
// their responders, settings of the kernel, and changes under load.
package wiring

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// Assignment is one entry of a workload, for the node that makes it.
type Assignment struct {
	// Name names its part of the load: the entry's name, with the address family where there are
	// two.
	Name   string
	Entry  scenarios.Entry // of the workload
	Node   string          // the client that makes it
	Family scenarios.Family
	Start  time.Duration // after the start of the load
	Probe  bool
	Spec   generators.Spec

	// unnamed are the source ports that it shares with other entries; zero where it names its own
	// or has none.
	unnamed portRange
}

// ClosedLoop reports whether the answers set the pace of an assignment, as fast as generator and
// DUT can.
func (a Assignment) ClosedLoop() bool { return a.Spec.Rate == 0 && a.Spec.Profile == nil }

// MeanRate returns how many requests, connections or flows an assignment begins per second, the
// mean of its profile; 0 where the answers set the pace.
func (a Assignment) MeanRate() float64 {
	p := a.Spec.Profile
	switch {
	case p == nil:
		return a.Spec.Rate
	case p.Bursts != nil:
		return float64(p.Bursts.Size) / p.Bursts.Every.Seconds()
	case p.Sine != nil:
		return p.Sine.Mean
	}
	var n, seconds float64
	for _, s := range p.Stages {
		n += (s.From + s.To) / 2 * s.Duration.Seconds()
		seconds += s.Duration.Seconds()
	}
	if seconds == 0 {
		return 0
	}
	return n / seconds
}

// Transport returns the protocol of an assignment's packets, whatever the address family.
func (a Assignment) Transport() generators.Protocol {
	return generators.Protocol(a.Entry.Transport())
}

// Limit bounds the time that an assignment can take, from its start: a generator that still runs
// then is stuck. The margin allows for the last requests under way and for a slow node.
func (a Assignment) Limit() time.Duration {
	const margin = 60 * time.Second
	limit := a.Spec.Duration
	if a.Spec.Count > 0 {
		perWorker := float64(a.Spec.Count) / float64(max(1, a.Spec.Concurrency))
		slowest := time.Duration(perWorker * float64(a.Spec.Timeout))
		if a.Spec.Rate > 0 {
			offered := float64(a.Spec.Count) / a.Spec.Rate
			slowest = time.Duration(offered*float64(time.Second)) + a.Spec.Timeout
		}
		if limit == 0 || slowest < limit {
			limit = slowest
		}
	}
	return a.Start + limit + a.longestLife() + a.Spec.Timeout + margin
}

// longestLife returns the longest life that a connection or flow of an assignment can have, but for
// one in ten thousand loads.
func (a Assignment) longestLife() time.Duration {
	life := a.Spec.Lifetime
	if life.None() || a.Spec.Kind == generators.Hold && a.Entry.Lifetime.Shape != "" {
		return 0 // such a hold ends with its duration
	}
	n := max(float64(a.Spec.Count), a.MeanRate()*a.Spec.Duration.Seconds(), 1)
	return life.Quantile(1 - 1e-4/n)
}

// Assignments returns the entries of a scenario's workload, each once for every address family; the
// families share its number and its rate.
func Assignments(
	topology scenarios.Topology, scenario scenarios.Resolved, seed uint64,
) (list []Assignment) {
	for _, e := range scenario.Workload {
		for i, family := range topology.Families {
			a := Assignment{
				Name: e.Name, Entry: e, Node: clientName(e.From), Family: family,
				Start: time.Duration(scenario.Begins(e)), Probe: e.Probe != "",
				Spec: spec(topology, family, scenario.DUT, e, seed),
			}
			a.unnamed, _ = unnamedPorts(e)
			a.Spec.Stream = stream(e.Name, family)
			if n := len(topology.Families); n > 1 {
				a.Name += "-" + string(family)
				a.Spec.Count = part(a.Spec.Count, i, n)
				a.Spec.Concurrency = int(part(int64(a.Spec.Concurrency), i, n))
				if !a.Probe {
					a.Spec.Rate /= float64(n)
					a.Spec.Profile = shareOf(a.Spec.Profile, i, n)
				}
			}
			list = append(list, a)
		}
	}
	keepApart(list)
	spareListeners(list, Responders(topology, scenario))
	return list
}

// stream returns a number that sets the random draws of an entry apart from those of others.
func stream(name string, family scenarios.Family) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name + " " + string(family)))
	return h.Sum64()
}

// part returns the ith of n parts that make up the whole.
func part(whole int64, i, n int) int64 {
	return whole*int64(i+1)/int64(n) - whole*int64(i)/int64(n)
}

// probeLimit bounds a probe, which otherwise runs until it is stopped after the recovery.
const probeLimit = 24 * time.Hour

func spec(
	topology scenarios.Topology, family scenarios.Family, dut scenarios.Configuration,
	e scenarios.Entry, seed uint64,
) generators.Spec {
	s := generators.Spec{
		Kind:        generators.Kind(e.Generator),
		Target:      target(topology, family, dut, e),
		Ports:       e.Ports.Expand(),
		Count:       int64(e.Number()),
		Concurrency: int(e.Concurrency),
		Rate:        float64(e.Rate),
		Duration:    time.Duration(e.Length()),
		Timeout:     time.Duration(e.Timeout),
		Close:       generators.CloseMode(e.Close),
		Payload:     int(e.Payload),
		Interval:    time.Duration(e.Interval),
		Slack:       time.Duration(e.Slack),
		Arrivals:    generators.Arrivals(e.Arrivals),
		Lifetime:    Lifetime(e.Lifetime),
		Zipf:        float64(e.Sources.Weights),
		Reuse:       e.Reuse,
		Seed:        seed,
	}
	if e.Probe != "" {
		s.Kind, s.Protocol, s.Duration = generators.Probe, generators.Protocol(e.Probe), probeLimit
		s.Ports = nil
		if e.Port != 0 {
			s.Ports = []uint16{uint16(e.Port)}
		}
	}
	if e.Generator == scenarios.Hold {
		hold(&s)
	}
	if e.KeepAlive {
		s.KeepAlive = int(e.Number())
	}
	s.AtOnce, s.Crafted = int(e.AtOnce), e.Crafted
	s.Profile = profile(e)
	s.SourcePorts = joinRanges(e.SourcePorts)
	if unnamed, ok := unnamedPorts(e); ok {
		s.SourcePorts = unnamed.String()
	}
	switch {
	case crafted(e):
		n := max(1, int(e.Sources.Count))
		s.Sources = strangers(family, clientIndex(e.From), topology.Clients, n)
	case e.Sources.Count > 1:
		s.Sources = further(family, clientIndex(e.From), int(e.Sources.Count))
		s.FreeBind = true
	}
	switch {
	case e.Transport() == "icmp":
		s.Ports = nil
		s.Reply = e.Probe == ""
	case e.Generator == scenarios.UDP && !e.Silent && !e.Crafted:
		// Each datagram needs an answer: the flow is complete when all were answered.
		s.Reply, s.Exchanges = true, int(e.Packets)
	}
	s.Expect = int(e.Greeting)
	return s
}

// Lifetime returns the generators' form of a lifetime.
func Lifetime(of scenarios.Lifetime) lifetimes.Distribution {
	d := lifetimes.Distribution{
		Shape: lifetimes.Shape(of.Shape), Mean: time.Duration(of.Mean), Sigma: of.Spread,
	}
	for _, q := range of.Quantiles {
		d.Quantiles = append(d.Quantiles, time.Duration(q))
	}
	return d
}

// rampLimit bounds how long a hold may take to open connections as fast as they are accepted.
const rampLimit = 10 * time.Minute

// hold converts how long all connections stay open together, which an experiment gives, into how
// long each one stays open, which a generator needs: the first one also waits for the last to open.
// Connections with a lifetime need no conversion.
func hold(s *generators.Spec) {
	if s.Rate == 0 && s.Concurrency == 0 {
		s.Concurrency = int(s.Count)
	}
	if !s.Lifetime.None() {
		return
	}
	life := s.Duration
	if s.Rate > 0 {
		ramp := time.Duration(float64(s.Count) / s.Rate * float64(time.Second))
		life += ramp
		s.Duration = 2*ramp + s.Timeout + life // Duration also ends held connections
	} else {
		s.Duration = rampLimit
	}
	s.Lifetime = lifetimes.Of(life)
}

func joinRanges(ports scenarios.Ports) string {
	var words []string
	for _, r := range ports {
		words = append(words, r.String())
	}
	return strings.Join(words, ",")
}

// clientIndex returns 0 for the first client.
func clientIndex(from string) int { return nodeIndex(clientName(from)) }

// LoadNodes returns the clients and, behind a router, the servers.
func LoadNodes(topology scenarios.Topology) []vm.LoadNode {
	var nodes []vm.LoadNode
	for i := range topology.Clients {
		at := port(topology, ClientLink, firstHost+i)
		for _, family := range topology.Families {
			at.Local = append(at.Local, furtherRange(family, i))
		}
		nodes = append(nodes, vm.LoadNode{Name: nodeName("client", i), Port: at})
	}
	if topology.Kind == scenarios.Router {
		for i := range topology.Servers {
			at := port(topology, serverLink, firstHost+i)
			nodes = append(nodes, vm.LoadNode{Name: nodeName("server", i), Port: at})
		}
	}
	return nodes
}

// DUT is the DUT's name where the language names nodes.
const DUT = "dut"

// nodeName returns client for the first client, client2 and so on for others.
func nodeName(kind string, index int) string {
	if index == 0 {
		return kind
	}
	return fmt.Sprintf("%s%d", kind, index+1)
}

func clientName(from string) string {
	if from == "" || from == "client1" {
		return "client"
	}
	return from
}

// target returns the address that an entry goes to.
func target(
	topology scenarios.Topology, family scenarios.Family, dut scenarios.Configuration,
	e scenarios.Entry,
) string {
	if e.From == DUT && e.Target == DUT {
		if family == scenarios.IPv6 {
			return "::1"
		}
		return "127.0.0.1"
	}
	toServer := topology.Kind == scenarios.Router && e.Target != "dut" &&
		dut.NAT != scenarios.DNAT && dut.NAT != scenarios.Redirect
	if toServer {
		return address(family, serverLink, firstHost+nodeIndex(e.Target))
	}
	return address(family, ClientLink, dutHost)
}

// crafted reports whether an entry's packets come from addresses that no host owns: the kernel of
// an owner would answer what comes back with a reset.
func crafted(e scenarios.Entry) bool {
	return e.Generator.Fact().Crafted || e.Crafted
}

// nodeIndex returns 0 for server and server1, 1 for server2.
func nodeIndex(name string) int {
	n, _ := strconv.Atoi(strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyz"))
	return max(n, 1) - 1
}

// Responders returns what must answer a workload, by node: a responder for each kind of answer, and
// for each group of ports that an action chooses, since a responder stops as a whole.
func Responders(
	topology scenarios.Topology, scenario scenarios.Resolved,
) map[string][]responders.Spec {
	type program struct {
		scenarios.Program
		chosen string
	}
	byNode := map[string][]responders.Spec{}
	for node, list := range scenario.Answering(topology) {
		ports := map[program][]uint16{}
		var order []program
		for _, l := range list {
			one := program{l.Program, choosing(scenario.Actions, node, l.Port)}
			// A silent responder suffices, and serves entries that need silence too.
			if l.Answer == scenarios.AnswerAny {
				one.Answer = scenarios.AnswerSilent
			}
			if ports[one] == nil {
				order = append(order, one)
			}
			ports[one] = append(ports[one], l.Port)
		}
		for _, one := range order {
			spec := responderSpec(one.Program)
			spec.Ports = ports[one]
			byNode[node] = append(byNode[node], spec)
		}
	}
	return byNode
}

// choosing names the actions that choose a node's server at a port.
func choosing(actions []scenarios.Action, node string, port uint16) string {
	var names []string
	for _, a := range actions {
		if a.Node == node && slices.Contains(a.Ports.Expand(), port) {
			names = append(names, a.Name)
		}
	}
	return strings.Join(names, " ")
}

// fullBacklog is the accept queue of a listener that accepts nothing; the kernel lets one more in.
const fullBacklog = 16

// responderSpec returns the responder that runs a program of the target.
func responderSpec(p scenarios.Program) (spec responders.Spec) {
	if p.Transport == "udp" {
		spec.Network = responders.UDP
	}
	switch p.Answer {
	case scenarios.AnswerHTTP:
		spec.Kind, spec.Body = responders.HTTP, int(p.Body)
	case scenarios.AnswerEcho:
		spec.Kind = responders.Echo
	case scenarios.AnswerGreeting:
		spec.Kind, spec.Body = responders.Greet, int(p.Body)
	case scenarios.AnswerSilent:
		spec.Kind = responders.Silent
	case scenarios.AnswerLeak:
		spec.Kind = responders.Leak
	case scenarios.AnswerDeaf:
		// One worker: each has a queue of its own.
		spec.Kind, spec.Backlog, spec.Workers = responders.Deaf, fullBacklog, 1
	}
	if p.Delay > 0 {
		spec.Kind, spec.Delay = responders.Slow, time.Duration(p.Delay)
	}
	return spec
}

// profile returns the rate profile of an entry, or nil without one.
func profile(e scenarios.Entry) *generators.Profile {
	p := new(generators.Profile)
	switch {
	case len(e.Stages) > 0:
		for _, s := range e.Stages {
			p.Stages = append(p.Stages, pacing.Stage{
				From: float64(s.Start()), To: float64(s.Rate), Duration: time.Duration(s.Duration),
			})
		}
	case e.Burst != nil:
		p.Bursts = &pacing.Bursts{Size: int64(e.Burst.Size), Every: time.Duration(e.Burst.Every)}
	case e.Sine != nil:
		p.Sine = &pacing.Sine{
			Mean: float64(e.Sine.Mean), Amplitude: float64(e.Sine.Amplitude),
			Period: time.Duration(e.Sine.Period),
		}
	default:
		return nil
	}
	return p
}

// shareOf returns the ith of n parts of a profile, which together make the whole.
func shareOf(p *generators.Profile, i, n int) *generators.Profile {
	if p == nil {
		return nil
	}
	share, parts := new(generators.Profile), float64(n)
	if b := p.Bursts; b != nil {
		share.Bursts = &pacing.Bursts{Size: max(1, part(b.Size, i, n)), Every: b.Every}
	}
	if s := p.Sine; s != nil {
		share.Sine = &pacing.Sine{
			Mean: s.Mean / parts, Amplitude: s.Amplitude / parts, Period: s.Period,
		}
	}
	for _, s := range p.Stages {
		s.From, s.To = s.From/parts, s.To/parts
		share.Stages = append(share.Stages, s)
	}
	return share
}
