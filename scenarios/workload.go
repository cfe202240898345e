package scenarios

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/ctload/ctload/internal/spelling"
)

// Entry is one part of the workload: a generator or a probe, from its start to its end. Exactly one
// of Generator and Probe is given.
type Entry struct {
	Generator Generator `yaml:"generator"`
	Probe     Probe     `yaml:"probe"`

	Name   string   `yaml:"name" matrix:"no"`
	From   string   `yaml:"from" matrix:"no"`
	Target string   `yaml:"target" matrix:"no"`
	Phase  string   `yaml:"phase" matrix:"no"`
	Role   Role     `yaml:"role" matrix:"no"`
	Start  Duration `yaml:"start"`

	Requests    Count `yaml:"requests"`
	Connections Count `yaml:"connections"`
	Flows       Count `yaml:"flows"`
	// Duration ends a generator; for hold it is the time that the connections stay open once all
	// are.
	Duration Duration `yaml:"duration"`

	Concurrency Count   `yaml:"concurrency"`
	Rate        Rate    `yaml:"rate"`
	Stages      []Stage `yaml:"stages"`
	Burst       *Burst  `yaml:"burst"`
	Sine        *Sine   `yaml:"sine"`

	Arrivals Arrivals `yaml:"arrivals"`
	Slack    Duration `yaml:"slack"`

	Port        Port     `yaml:"port"`
	Ports       Ports    `yaml:"ports"`
	Sources     Sources  `yaml:"sources"`
	SourcePorts Ports    `yaml:"source-ports"`
	Reuse       bool     `yaml:"reuse"`
	Timeout     Duration `yaml:"timeout"`
	Close       Close    `yaml:"close"`
	KeepAlive   bool     `yaml:"keep-alive"`
	Payload     Size     `yaml:"payload"`
	Packets     Count    `yaml:"packets"`
	AtOnce      Count    `yaml:"at-once"`
	Interval    Duration `yaml:"interval"`
	Lifetime    Lifetime `yaml:"lifetime" matrix:"no"`
	Silent      bool     `yaml:"silent"`
	Crafted     bool     `yaml:"crafted"`
	Listener    Listener `yaml:"listener"`
	AnswerDelay Duration `yaml:"answer-delay"`
	Greeting    Size     `yaml:"greeting"`
}

// Stage is a part of a rate profile.
type Stage struct {
	Duration Duration `yaml:"duration"`
	Rate     Rate     `yaml:"rate"`
	From     *Rate    `yaml:"from"`
}

// Burst is a rate profile of a number of simultaneous attempts, the first ones at the start.
type Burst struct {
	Size  Count    `yaml:"size"`
	Every Duration `yaml:"every"`
}

// Sine is a rate profile that swings around a mean, beginning where it rises through the mean.
type Sine struct {
	Mean      Rate     `yaml:"mean"`
	Amplitude Rate     `yaml:"amplitude"`
	Period    Duration `yaml:"period"`
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
	return cmp.Or(string(e.Probe), string(e.Generator))
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

// Role tells whose side a generator takes; the zero Role is a user's.
type Role string

// Hostile is an attacker's role: what fails of it is no failure of the scenario.
const Hostile Role = "hostile"

// Words returns the valid values.
func (Role) Words() []string { return words(Hostile) }

// Close is a way to end a connection. It decides the last state of the connection's entry.
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

// Listener describes the behaviour of a generator's target at its ports.
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
	first, last, isRange := bytes.Cut(text, []byte("-"))
	if !isRange {
		last = first
	}
	err := cmp.Or(r.First.UnmarshalText(first), r.Last.UnmarshalText(last))
	if err != nil || r.Last < r.First {
		word := quote(string(text))
		return fmt.Errorf("%s is not a port or a range of ports, such as 80 or 8000-8063", word)
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
	i := slices.Index(all.names(), name)
	return all[:max(i, 0)].Total(), i >= 0
}

// Total returns the length of all phases together. The load lasts at least that long: phases in
// which nothing begins are pauses.
func (all Phases) Total() (total Duration) {
	for _, phase := range all {
		total += phase.Length
	}
	return total
}

func (all Phases) length(name string) Duration {
	for _, phase := range all {
		if phase.Name == name {
			return phase.Length
		}
	}
	return 0
}

func (all Phases) names() (names []string) {
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

func (all *Phases) decodeNode(p *problems, n *node) {
	if n.kind != mapping {
		p.errorf(n.at, "phases must be names with lengths, such as fill: 10s, not %s", n.what())
		return
	}
	for _, e := range n.entries {
		if e.value.taken {
			continue
		}
		phase := Phase{Name: e.key}
		checkName(p, e.at, "a phase", e.key)
		decode(p, e.value, &phase.Length)
		if e.value.kind == null {
			p.errorf(e.at, "the phase %s has no length, such as 10s", quote(e.key))
		} else {
			p.require(phase.Length > 0, e.value.at, "the length of a phase must be more than 0s")
		}
		*all = append(*all, phase)
	}
}

// tree returns the input of decodeNode.
func (all Phases) tree() *node {
	n := &node{kind: mapping}
	for _, phase := range all {
		n.add(phase.Name, text(phase.Length.String()))
	}
	return n
}

func checkPhase(p *problems, n *node, e *Entry, phases Phases) {
	at := n.scalar("phase")
	if at == nil || p.failed(at.at) {
		return
	}
	length := phases.length(e.Phase)
	switch names := phases.names(); {
	case len(phases) == 0:
		p.errorf(at.at, "there are no phases; they are a key of the file, names with lengths: "+
			"phases: {%s: 10s}", e.Phase)
	case !slices.Contains(names, e.Phase):
		p.errorf(at.at, "there is no phase %s%s", quote(e.Phase), spelling.Hint(e.Phase, names))
	case length <= 0: // reported where the phases are read
	case e.Start >= length:
		p.errorf(n.place("start"), "it starts %s into the phase %s, which lasts %s",
			e.Start, quote(e.Phase), length)
	case e.Generator != Hold && e.Start+e.Length() > length:
		for _, key := range []string{"duration", "stages"} {
			p.refuse(n.has(key), n.place(key), "it begins connections for longer than the phase "+
				"%s lasts: %s of %s are left", quote(e.Phase), length-e.Start, length)
		}
	}
}
