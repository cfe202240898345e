package generators

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kind names what a generator makes.
type Kind string

// The kinds of load.
const (
	HTTP      Kind = "http"      // requests, each on its own connection unless kept alive
	TCP       Kind = "tcp"       // connections, closed in a chosen way
	Hold      Kind = "hold"      // connections that stay open
	UDP       Kind = "udp"       // flows of datagrams, from sockets or crafted
	SYN       Kind = "syn"       // crafted SYNs, never answered
	Handshake Kind = "handshake" // crafted handshakes, without sockets
	ICMP      Kind = "icmp"      // crafted echo requests
	Probe     Kind = "probe"     // the bystander
)

// traits hold what plans and runs need to know of a kind beside its engine.
type traits struct {
	kind   Kind
	unit   string // what the results count
	engine engine // drives sockets; nil: the packets are always crafted
	crafts bool   // the packets may be crafted
	// portless reports whether the load goes to no port; nil: never
	portless func(s *Spec) bool
	// awaits reports whether the load awaits answers without Spec.Reply; nil: never
	awaits func(s *Spec) bool
	atOnce bool // several may begin at the same moment
	// defaults fills in the defaults of this kind; nil: none
	defaults func(s *Spec)
	check    func(s *Spec) error
}

// engine sets up a worker on the calling thread.
type engine func(l *load, number int) (worker, error)

// kinds lists all kinds, in the order in which messages name them.
var kinds = []traits{
	{
		kind: HTTP, unit: "requests", engine: streams, check: checkStream,
		defaults: func(s *Spec) {
			if s.KeepAlive <= 1 {
				s.CloseBy = cmp.Or(s.CloseBy, Server)
			}
		},
	},
	{kind: TCP, unit: "connections", engine: streams, atOnce: true, check: checkStream},
	{
		kind: Hold, unit: "connections", engine: streams,
		check: func(s *Spec) error {
			if s.Duration <= 0 {
				return errors.Join(checkStream(s), errors.New("hold needs a duration"))
			}
			return checkStream(s)
		},
	},
	{
		kind: UDP, unit: "flows", engine: flowsOfDatagrams, crafts: true, atOnce: true,
		awaits: func(s *Spec) bool { return s.Exchanges > 0 },
	},
	{kind: SYN, unit: "packets", crafts: true},
	{
		kind: Handshake, unit: "connections", crafts: true, awaits: always,
		defaults: func(s *Spec) { s.Close = cmp.Or(s.Close, CloseAbandon) },
	},
	{kind: ICMP, unit: "packets", crafts: true, portless: always},
	{
		kind: Probe, unit: "samples", awaits: always, check: checkProbe,
		engine: func(l *load, number int) (worker, error) {
			if l.Protocol == ProtocolTCP {
				return streams(l, number)
			}
			return flowsOfDatagrams(l, number)
		},
		portless: func(s *Spec) bool { return s.Protocol == ProtocolICMP },
		defaults: func(s *Spec) {
			s.Timeout = cmp.Or(s.Timeout, DefaultProbeTimeout)
			s.Protocol = cmp.Or(s.Protocol, ProtocolTCP)
			s.Close = cmp.Or(s.Close, CloseRST)
			s.Workers = cmp.Or(s.Workers, 1)
		},
	},
}

// traitsOf returns the traits of a kind, empty ones for an unknown kind.
func traitsOf(kind Kind) *traits {
	for i := range kinds {
		if kinds[i].kind == kind {
			return &kinds[i]
		}
	}
	return new(traits)
}

// named returns the names of the kinds that wanted accepts.
func named(wanted func(t traits) bool) []string {
	var words []string
	for _, t := range kinds {
		if wanted(t) {
			words = append(words, string(t.kind))
		}
	}
	return words
}

func always(*Spec) bool { return true }

func streams(l *load, number int) (worker, error) { return newStream(l, number) }

func flowsOfDatagrams(l *load, number int) (worker, error) { return newDatagrams(l, number) }

// checkStream refuses a load without a rate or a concurrency, and requests that cannot be sent.
func checkStream(s *Spec) error {
	var errs []error
	if s.Rate == 0 && s.Profile == nil && s.Concurrency == 0 {
		errs = append(errs, errors.New("a load needs a rate or a concurrency"))
	}
	if strings.ContainsFunc(s.Path+s.Host, func(r rune) bool { return r <= ' ' || r == 0x7f }) || s.Path[0] != '/' {
		errs = append(errs, fmt.Errorf("path %q or host %q cannot stand in a request", s.Path, s.Host))
	}
	return errors.Join(errs...)
}

// checkProbe refuses a probe without a rate or a known protocol.
func checkProbe(s *Spec) error {
	var errs []error
	if s.Rate == 0 && s.Profile == nil {
		errs = append(errs, errors.New("a probe needs a rate"))
	}
	if known := []Protocol{ProtocolTCP, ProtocolUDP, ProtocolICMP}; !slices.Contains(known, s.Protocol) {
		errs = append(errs, fmt.Errorf("protocol must be tcp, udp or icmp, not %q", s.Protocol))
	}
	return errors.Join(errs...)
}
