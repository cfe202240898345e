package scenarios

import (
	"fmt"
	"strings"
)

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

// GeneratorFact is a row of the table of generators.
type GeneratorFact struct {
	Generator Generator
	Transport string // tcp, udp, or icmp, which has no ports
	// Crafted says that the packets always come from addresses that no host owns.
	Crafted bool
	// Timeout is the kernel's timeout for the state that the load leaves an entry in, without the
	// prefix of its name. Where it is [timeWait], that state depends on how the connection ends.
	Timeout string
	Assured bool // the entries become ASSURED at once, if a listener answers

	keys   []string // beside those that go with all generators
	closes []Close  // how a connection may end; none where there are no connections to end
}

// timeWait is the timeout of a connection that both sides ended by FIN.
const timeWait = "tcp_timeout_time_wait"

// generators has the generators in the order of the documentation.
var generators = []GeneratorFact{
	{
		Generator: HTTP, Transport: "tcp", Timeout: timeWait, Assured: true,
		keys:   append(socketKeys, "requests", "close", "keep-alive", "answer-delay"),
		closes: []Close{CloseFIN, CloseRST},
	},
	{
		Generator: TCP, Transport: "tcp", Timeout: timeWait, Assured: true,
		keys:   append(socketKeys, "connections", "close", "at-once", "lifetime", "greeting"),
		closes: []Close{CloseFIN, CloseRST, CloseAbandon, CloseHalf},
	},
	{
		Generator: Hold, Transport: "tcp", Timeout: timeWait, Assured: true,
		keys:   append(socketKeys, "connections", "close", "interval", "lifetime", "greeting"),
		closes: []Close{CloseFIN, CloseRST, CloseAbandon, CloseHalf},
	},
	{ // a stream, and ASSURED, only after two seconds of conversation
		Generator: UDP, Transport: "udp", Timeout: "udp_timeout",
		keys: append(socketKeys, "flows", "packets", "at-once", "silent", "crafted", "interval",
			"lifetime", "reuse", "answer-delay"),
	},
	{ // a listener answers
		Generator: SYN, Transport: "tcp", Crafted: true, Timeout: "tcp_timeout_syn_recv",
		keys: append(portKeys, "flows", "reuse"),
	},
	{
		Generator: Handshake, Transport: "tcp", Crafted: true,
		Timeout: timeWait, Assured: true,
		keys:   append(portKeys, "flows", "timeout", "close", "lifetime"),
		closes: []Close{CloseFIN, CloseRST, CloseAbandon},
	},
	{
		Generator: ICMP, Transport: "icmp", Timeout: "icmp_timeout",
		keys: []string{"flows", "timeout", "payload"},
	},
}

// Fact returns the row of a generator; the zero GeneratorFact where the table has none.
func (g Generator) Fact() GeneratorFact {
	for _, fact := range generators {
		if fact.Generator == g {
			return fact
		}
	}
	return GeneratorFact{}
}

// Words returns the valid values.
func (Generator) Words() []string {
	return generatorsThat(func(GeneratorFact) bool { return true })
}

// generatorsThat returns the words of the generators that wanted accepts.
func generatorsThat(wanted func(GeneratorFact) bool) (list []string) {
	for _, fact := range generators {
		if wanted(fact) {
			list = append(list, string(fact.Generator))
		}
	}
	return list
}

// unmade are protocols whose packets ctload does not make, by the word for them.
var unmade = map[string]string{
	"sctp": "SCTP", "dccp": "DCCP", "gre": "GRE", "esp": "ESP", "ah": "AH", "ipsec": "IPsec",
	"ipip": "IP in IP", "igmp": "IGMP", "udplite": "UDP-Lite", "vxlan": "VXLAN",
}

// overUDP are protocols that look to connection tracking as flows of datagrams do.
var overUDP = map[string]string{
	"quic": "QUIC", "rtp": "RTP", "syslog": "syslog", "statsd": "statsd", "dns": "DNS",
}

func (g Generator) unsaid(word string) string {
	if name, ok := overUDP[word]; ok {
		return fmt.Sprintf("%s is datagrams for connection tracking: generator: udp, with "+
			"interval and packets or lifetime for flows that go on, or with reuse: true for few "+
			"tuples", name)
	}
	if name, ok := unmade[word]; ok {
		return fmt.Sprintf("ctload makes no %s packets: its generators are %s, over TCP, UDP and "+
			"ICMP", name, strings.Join(g.Words(), ", "))
	}
	if strings.HasPrefix(word, "fragment") {
		return noFragments
	}
	return ""
}

func (p Probe) unsaid(word string) string {
	if name, ok := unmade[word]; ok {
		return fmt.Sprintf("ctload makes no %s packets: its probes are %s", name,
			strings.Join(p.Words(), ", "))
	}
	return ""
}

const noFragments = "ctload makes no fragments: each datagram is one packet, with a payload that " +
	"fits into a frame of 1500 bytes"

func (Entry) unsaid(key string) string {
	if strings.HasPrefix(key, "fragment") || key == "mtu" {
		return noFragments
	}
	return ""
}

// Transport returns the protocol of an entry's packets, whatever the address family: tcp, udp or
// icmp.
func (e Entry) Transport() string {
	if e.Probe != "" {
		return string(e.Probe)
	}
	return e.Generator.Fact().Transport
}
