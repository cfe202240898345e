package scenarios

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// Entry is one part of the workload: a generator or a probe, from its start to its end. Exactly one
// of Generator and Probe is given.
type Entry struct {
	Generator Generator `yaml:"generator,omitempty" jsonschema_description:"what makes the load"`
	Probe     Probe     `yaml:"probe,omitempty" jsonschema_description:"a bystander that tries a connection at a steady rate, from before the load until recovery has been watched"`

	Name   string   `yaml:"name,omitempty" matrix:"no" jsonschema_description:"for reports and for overrides in scenarios; default: the kind, with -2, -3, ... appended when it is taken"`
	From   string   `yaml:"from,omitempty" matrix:"no" jsonschema_description:"the node that makes it; default client"`
	Target string   `yaml:"target,omitempty" matrix:"no" jsonschema_description:"the node that it goes to; default dut in the server topology and behind nat dnat or redirect, else server"`
	Phase  string   `yaml:"phase,omitempty" matrix:"no" jsonschema_description:"generators: the phase that it starts and ends with; its start counts from there"`
	Start  Duration `yaml:"start,omitempty" jsonschema_description:"when it starts, counted from the start of the load or of its phase; default 0"`

	Requests    Count `yaml:"requests,omitempty" jsonschema_description:"http: how many requests"`
	Connections Count `yaml:"connections,omitempty" jsonschema_description:"tcp, hold: how many connections"`
	Flows       Count `yaml:"flows,omitempty" jsonschema_description:"udp, syn, handshake, icmp: how many flows, each with its own tuple"`
	// Duration ends a generator; for hold it is how long the connections stay open once all are.
	Duration Duration `yaml:"duration,omitempty" jsonschema_description:"how long; with a number, whichever ends first. hold: how long the connections stay open"`

	Concurrency Count   `yaml:"concurrency,omitempty" jsonschema_description:"closed loop: how many at a time, the next one when one ends"`
	Rate        Rate    `yaml:"rate,omitempty" jsonschema_description:"open loop: how many new ones per second, whether earlier ones have ended or not"`
	Stages      []Stage `yaml:"stages,omitempty" jsonschema_description:"open loop: a profile of rates"`
	Burst       *Burst  `yaml:"burst,omitempty" jsonschema_description:"open loop: so many new ones at once, again and again"`
	Sine        *Sine   `yaml:"sine,omitempty" jsonschema_description:"open loop: a rate that swings around a mean"`

	Port        Port     `yaml:"port,omitempty" jsonschema_description:"probe tcp, udp: the destination port"`
	Ports       Ports    `yaml:"ports,omitempty" jsonschema_description:"destination ports used in turn, as 80 or [80, 8000-8063]; default 80"`
	Sources     Count    `yaml:"sources,omitempty" jsonschema_description:"number of source addresses used in turn; default 1"`
	SourcePorts Ports    `yaml:"source-ports,omitempty" jsonschema_description:"source ports used in turn; default: those that no other entry of the node needs"`
	Timeout     Duration `yaml:"timeout,omitempty" jsonschema_description:"when a request, connection or probe counts as failed; default 10s, for a probe 1s"`
	Close       Close    `yaml:"close,omitempty" jsonschema_description:"how a connection ends; default fin"`
	KeepAlive   bool     `yaml:"keep-alive,omitempty" jsonschema_description:"http: many requests on one connection; default false, a new connection for each"`
	Payload     Size     `yaml:"payload,omitempty" jsonschema_description:"http: the body of a response; tcp, hold: sent on each connection; udp, icmp: of each datagram"`
	Packets     Count    `yaml:"packets,omitempty" jsonschema_description:"udp that is answered: datagrams in each flow, each sent when the one before was answered; default 1"`
	AtOnce      Count    `yaml:"at-once,omitempty" jsonschema_description:"udp: each datagram is sent that many times, tcp: that many connections begin from one source port, at the same moment on as many CPUs; default 1"`
	Interval    Duration `yaml:"interval,omitempty" jsonschema_description:"hold with payload: each connection sends it again that often, and is broken when the target does not acknowledge it within timeout; default: once open, it is silent"`
	Silent      bool     `yaml:"silent,omitempty" jsonschema_description:"udp: the target does not answer; default false"`
	Crafted     bool     `yaml:"crafted,omitempty" jsonschema_description:"udp: each datagram is a frame from an address that no host owns, from no socket, and nobody takes its answer: a flood from spoofed or very many sources; default false"`
	Listener    Listener `yaml:"listener,omitempty" jsonschema_description:"what the target does at the ports: open (default), closed: nothing listens there, full: a program listens and takes nothing, so that its queue of 16 fills"`
}

// Stage is a part of a rate profile.
type Stage struct {
	Duration Duration `yaml:"duration,omitempty" jsonschema_description:"how long the stage lasts"`
	Rate     Rate     `yaml:"rate,omitempty" jsonschema_description:"the rate of the stage, or the one that it ends with"`
	From     *Rate    `yaml:"from,omitempty" jsonschema_description:"the rate that the stage starts with, changing evenly; default: rate, which is then constant"`
}

// Burst is a rate profile of a number of simultaneous attempts, the first ones at the start.
type Burst struct {
	Size  Count    `yaml:"size,omitempty" jsonschema_description:"how many at once"`
	Every Duration `yaml:"every,omitempty" jsonschema_description:"from one burst to the next"`
}

// Sine is a rate profile that swings around a mean, beginning where it rises through the mean.
type Sine struct {
	Mean      Rate     `yaml:"mean,omitempty" jsonschema_description:"the mean rate"`
	Amplitude Rate     `yaml:"amplitude,omitempty" jsonschema_description:"by how much the rate swings, at most the mean"`
	Period    Duration `yaml:"period,omitempty" jsonschema_description:"how long a swing takes"`
}

// Start returns the rate that a stage begins with.
func (s Stage) Start() Rate {
	if s.From != nil {
		return *s.From
	}
	return s.Rate
}

// Kind returns what the entry does: the generator's or the probe's word.
func (e Entry) Kind() string {
	if e.Probe != "" {
		return string(e.Probe)
	}
	return string(e.Generator)
}

// Number returns how many requests, connections or flows the entry makes; 0: until its time is
// over.
func (e Entry) Number() Count { return max(e.Requests, e.Connections, e.Flows) }

// Length returns how long the entry makes load at most, not counting its start; 0: until its number
// is reached.
func (e Entry) Length() Duration {
	length := e.Duration
	for _, stage := range e.Stages {
		length += stage.Duration
	}
	return length
}

// Generator is a kind of load.
type Generator string

// The generators.
const (
	HTTP      Generator = "http"      // requests
	TCP       Generator = "tcp"       // connections opened and ended
	Hold      Generator = "hold"      // connections opened and kept
	UDP       Generator = "udp"       // flows of datagrams
	SYN       Generator = "syn"       // SYN packets, never answered
	Handshake Generator = "handshake" // whole handshakes without sockets
	ICMP      Generator = "icmp"      // echo requests
)

// Words returns the valid values.
func (Generator) Words() []string { return words(HTTP, TCP, Hold, UDP, SYN, Handshake, ICMP) }

// Probe is a kind of bystander.
type Probe string

// The probes.
const (
	ProbeTCP  Probe = "tcp"  // a connection, such as an ssh login or a health check makes
	ProbeUDP  Probe = "udp"  // a datagram and its answer
	ProbeICMP Probe = "icmp" // an echo request and its answer
)

// Words returns the valid values.
func (Probe) Words() []string { return words(ProbeTCP, ProbeUDP, ProbeICMP) }

// Close is how a connection ends, which decides the state that its entry is left in.
type Close string

// The ways to end a connection.
const (
	CloseFIN     Close = "fin"        // both sides send FIN: TIME_WAIT
	CloseRST     Close = "rst"        // the client resets: CLOSE
	CloseAbandon Close = "abandon"    // the client vanishes without a packet: ESTABLISHED stays
	CloseHalf    Close = "half-close" // one side sends FIN, the other never does: CLOSE_WAIT
)

// Words returns the valid values.
func (Close) Words() []string { return words(CloseFIN, CloseRST, CloseAbandon, CloseHalf) }

// Listener is what the target of a generator does at its ports.
type Listener string

// The listeners.
const (
	ListenerOpen   Listener = "open"   // it accepts what comes, and answers
	ListenerClosed Listener = "closed" // nothing listens: a reset, or ICMP port unreachable
	ListenerFull   Listener = "full"   // a program listens and accepts nothing: its queue fills
)

// Words returns the valid values.
func (Listener) Words() []string { return words(ListenerOpen, ListenerClosed, ListenerFull) }

// Port is a TCP or UDP port, from 1.
type Port uint16

// UnmarshalText parses a port number.
func (p *Port) UnmarshalText(text []byte) error {
	number, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil || number == 0 {
		return fmt.Errorf("%s is not a port, 1 to 65535", quote(string(text)))
	}
	*p = Port(number)
	return nil
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last Port }

// UnmarshalText parses "80" or "8000-8063".
func (r *PortRange) UnmarshalText(text []byte) error {
	first, last, isRange := strings.Cut(string(text), "-")
	if err := r.First.UnmarshalText([]byte(first)); err != nil {
		return fmt.Errorf("%s is not a port or a range of ports, as 80 or 8000-8063", quote(string(text)))
	}
	r.Last = r.First
	if isRange {
		if err := r.Last.UnmarshalText([]byte(last)); err != nil || r.Last < r.First {
			return fmt.Errorf("%s is not a range of ports, as 8000-8063", quote(string(text)))
		}
	}
	return nil
}

// String returns "80" or "8000-8063".
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// MarshalText returns String.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Ports are ports in the order in which they are used. In a file they are one port or range, or a
// list of them.
type Ports []PortRange

// Expand returns every port, in order.
func (p Ports) Expand() []uint16 {
	var all []uint16
	for _, r := range p {
		for port := int(r.First); port <= int(r.Last); port++ {
			all = append(all, uint16(port))
		}
	}
	return all
}

// Phase is a named part of the load's time.
type Phase struct {
	Name   string
	Length Duration // more than 0
}

// Phases divide the load's time, one after another from its start. In a file they are names with
// lengths, in order. A generator of a phase starts and ends with it; a probe goes on through all.
type Phases []Phase

// Start returns when a phase begins, counted from the start of the load; false for an unknown name.
func (all Phases) Start(name string) (Duration, bool) {
	var start Duration
	for _, phase := range all {
		if phase.Name == name {
			return start, true
		}
		start += phase.Length
	}
	return 0, false
}

// Total returns the length of all phases together. The load lasts at least that long: phases in
// which nothing begins are pauses.
func (all Phases) Total() Duration {
	var total Duration
	for _, phase := range all {
		total += phase.Length
	}
	return total
}

func (all Phases) length(name string) Duration {
	if i := slices.IndexFunc(all, func(p Phase) bool { return p.Name == name }); i >= 0 {
		return all[i].Length
	}
	return 0
}

func (all Phases) names() []string {
	var names []string
	for _, phase := range all {
		names = append(names, phase.Name)
	}
	return names
}

// Begins returns when an entry of the workload starts, counted from the start of the load: its
// start, after the phases before its own.
func (r Resolved) Begins(e Entry) Duration {
	start, _ := r.Phases.Start(e.Phase)
	return start + e.Start
}

// decodeNode reads phases: names with lengths.
func (all *Phases) decodeNode(p *problems, n *node) {
	if n.kind != mapping {
		p.errorf(n.at, "phases must be names with lengths, as fill: 10s, not %s", n.what())
		return
	}
	for _, e := range n.entries {
		if e.value.taken {
			continue
		}
		phase := Phase{Name: e.key}
		checkName(p, e.at, "a phase", e.key)
		decodeValue(p, e.value, reflect.ValueOf(&phase.Length).Elem())
		if at := e.value.at; e.value.kind == null {
			p.errorf(e.at, "the phase %s has no length, as 10s", quote(e.key))
		} else if phase.Length <= 0 && !p.failed(at) {
			p.errorf(at, "the length of a phase must be more than 0s")
		}
		*all = append(*all, phase)
	}
}

// tree returns the input of decodeNode; nil without phases.
func (all Phases) tree() *node {
	if len(all) == 0 {
		return nil
	}
	n := &node{kind: mapping}
	for _, phase := range all {
		n.add(phase.Name, text(phase.Length.String()))
	}
	return n
}

// checkPhase checks an entry against its phase.
func checkPhase(p *problems, n *node, e *Entry, phases Phases) {
	at := n.get("phase")
	if at == nil || at.kind != scalar || p.failed(at.at) {
		return
	}
	length := phases.length(e.Phase)
	switch names := phases.names(); {
	case len(phases) == 0:
		p.errorf(at.at, "there are no phases; they are a key of the file, names with lengths: phases: {%s: 10s}", e.Phase)
		return
	case !slices.Contains(names, e.Phase):
		p.errorf(at.at, "there is no phase %s%s", quote(e.Phase), spelling.Hint(e.Phase, names))
		return
	case length <= 0: // reported where the phases are read
		return
	}
	if e.Start >= length {
		p.errorf(n.place("start"), "it starts %s into the phase %s, which lasts %s", e.Start, quote(e.Phase), length)
		return
	}
	for _, key := range []string{"duration", "stages"} {
		if value := n.get(key); value != nil && e.Generator != Hold && e.Start+e.Length() > length {
			p.errorf(value.at, "it begins connections for longer than the phase %s goes on: %s of %s are left", quote(e.Phase), length-e.Start, length)
		}
	}
}
