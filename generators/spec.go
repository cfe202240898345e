package generators

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/generators/pacing"
)

// CloseMode says how a connection ends, which decides the state of its conntrack entry (in
// brackets: the state, and the seconds that a default kernel keeps it).
type CloseMode string

// The close modes.
const (
	CloseFIN CloseMode = "fin" // close: FIN, then the peer's FIN (TIME_WAIT, 120)
	CloseRST CloseMode = "rst" // RST (CLOSE, 10)
	// CloseAbandon drops the socket without a packet (ESTABLISHED, 432000). It needs CAP_NET_ADMIN
	// in the network namespace.
	CloseAbandon CloseMode = "abandon"
	// CloseHalf sends FIN and leaves the peer's direction open (CLOSE_WAIT, 60, if the peer keeps
	// it open).
	CloseHalf CloseMode = "half-close"
)

// Side is one end of a connection.
type Side string

// The sides.
const (
	Client Side = "client"
	Server Side = "server"
)

// Protocol is the protocol of a probe.
type Protocol string

// The protocols of a probe.
const (
	ProtocolTCP  Protocol = "tcp"  // connect and close
	ProtocolUDP  Protocol = "udp"  // a datagram and its echo
	ProtocolICMP Protocol = "icmp" // an echo request and its reply
)

// Spec specifies one generator completely. It travels to a node as JSON (durations in nanoseconds).
// Count, Duration or the stages of Profile must bound every load.
type Spec struct {
	Kind Kind `json:"kind"`

	// Target is the address of the responder, or several: a comma-separated list of addresses,
	// prefixes and ranges, as [tuples.ParseAddresses] reads it.
	Target string `json:"target"`
	// Ports are the destination ports, used in turn. None for icmp.
	Ports []uint16 `json:"ports,omitempty"`

	// Count limits the requests, connections, flows or packets, missed slots of the schedule
	// included; 0: until Duration or the end of the stages.
	Count int64 `json:"count,omitempty"`
	// Concurrency limits how many are in flight at once. It drives a closed loop. With a rate it is
	// only a limit, and 0 means none.
	Concurrency int `json:"concurrency,omitempty"`
	// Rate counts those that begin each second; 0 without Profile: a closed loop for sockets, as
	// fast as possible for packets.
	Rate float64 `json:"rate,omitempty"`
	// Profile is a changing rate, used instead of Rate.
	Profile *Profile `json:"profile,omitempty"`
	// Arrivals says how sends lie in an open loop; "": even.
	Arrivals Arrivals `json:"arrivals,omitempty"`
	// Duration limits how long new ones begin. Those in flight then may still end or time out.
	Duration time.Duration `json:"duration,omitempty"`
	// Timeout applies to each request or connection, from its actual begin; 0: DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
	// SYNRetries limits the kernel's repeats of an unanswered SYN (TCP_SYNCNT; first after 1 s)
	// before the connection fails as a timeout; 0: its tcp_syn_retries. Sockets only.
	SYNRetries int `json:"syn_retries,omitempty"`
	// CatchUp sends the missed slots of the schedule later, in a burst.
	CatchUp bool `json:"catch_up,omitempty"`
	// Slack bounds the delay of a send: a later one gives up its slot; 0: [pacing.DefaultSlack].
	// The slots of a burst wait until the next burst, fewer than 20 that wait together for a
	// second.
	Slack time.Duration `json:"slack,omitempty"`

	// Sources are the source addresses, written as Target is; empty: the kernel chooses. Sockets
	// need local addresses, or FreeBind; crafted packets take any.
	Sources string `json:"sources,omitempty"`
	// Zipf weighs the sources: the k-th of them, from 1, gets a share proportional to k^-Zipf, so
	// that the first ones are top talkers; 0: all get the same.
	Zipf float64 `json:"zipf,omitempty"`
	// Crafted makes udp from frames instead of sockets, from any source address. Each flow is one
	// datagram, complete when the device has it, without an answer. It needs Sources, CAP_NET_RAW
	// and CAP_NET_ADMIN. The kinds syn, handshake and icmp are always crafted.
	Crafted bool `json:"crafted,omitempty"`
	// SourcePorts are the source ports, as "1024-65535"; empty: the kernel chooses, or for crafted
	// packets 1024-65535.
	SourcePorts string `json:"source_ports,omitempty"`
	// FreeBind lets sockets take source addresses that no interface has (IP_FREEBIND). Answers come
	// back only where a local route covers these.
	FreeBind bool `json:"free_bind,omitempty"`
	// Seed orders the tuples; 0: in order. It also decides Lifetime and Arrivals.
	Seed uint64 `json:"seed,omitempty"`
	// Stream sets the random draws of a load apart from those of others with the same Seed.
	Stream uint64 `json:"stream,omitempty"`
	// Reuse lets crafted packets and datagrams begin again when every tuple has been used. TCP
	// sockets always may, since an ended connection frees its tuple.
	Reuse bool `json:"reuse,omitempty"`

	// Close says how a connection ends; "": fin, rst for a probe, and abandon for handshakes. A
	// handshake with fin completes when the peer has closed as well.
	Close CloseMode `json:"close,omitempty"`
	// CloseBy is the side that closes first; "": the server for http without keep-alive that closes
	// by FIN, the client otherwise. When the server has to close and does not within Timeout, a tcp
	// connection fails.
	CloseBy Side `json:"close_by,omitempty"`
	// KeepAlive sends that many http requests on each connection; 0 or 1: one.
	KeepAlive int `json:"keep_alive,omitempty"`
	// CloseOnError ends a kept-alive http connection after an answer of 400 or above.
	CloseOnError bool `json:"close_on_error,omitempty"`
	// Path and Host are for http; "": "/" and the target.
	Path string `json:"path,omitempty"`
	Host string `json:"host,omitempty"`
	// Payload is the number of bytes that tcp sends after connecting, that hold sends every
	// Interval, and that udp and icmp carry in each datagram.
	Payload int `json:"payload,omitempty"`
	// Expect is the number of bytes that tcp awaits after it has sent its payload. More bytes, or
	// an earlier close, are a failure.
	Expect int `json:"expect,omitempty"`
	// Lifetime is the time that each connection of hold, tcp or handshake stays open once
	// connected, and that each flow of udp sends datagrams, Interval apart and at its end; none:
	// hold stays until Duration, others end at once. Beyond Duration, which ends hold, lives go on.
	Lifetime lifetimes.Distribution `json:"lifetime,omitzero"`
	// Exchanges makes udp flows conversations of that many datagrams, Interval apart, each of which
	// must be answered. A flow becomes ASSURED when it is answered for more than 2 s.
	Exchanges int `json:"exchanges,omitempty"`
	// AtOnce sends each datagram of udp that many times, or begins that many connections of tcp
	// from one source port to as many ports, at the same moment on as many threads, so that they
	// race in the kernel. A udp flow completes when all are answered. 0 or 1: one.
	AtOnce int `json:"at_once,omitempty"`
	// Interval is the time between keep-alive bytes of hold and between datagrams of udp.
	Interval time.Duration `json:"interval,omitempty"`
	// Reply makes icmp, syn and udp await an answer to each packet, up to Timeout. Without it a
	// packet completes when the kernel has taken it.
	Reply bool `json:"reply,omitempty"`
	// Protocol is the protocol of a probe; "": tcp.
	Protocol Protocol `json:"protocol,omitempty"`

	// Interface is the interface by which crafted packets leave; "": that of the route.
	Interface string `json:"interface,omitempty"`
	// Gateway is the hardware address to which crafted packets go; "": the neighbour of the route.
	Gateway string `json:"gateway,omitempty"`

	// Workers is the number of threads; 0: one for each CPU, and one for a probe. Datagrams from
	// named ports that await answers always have one.
	Workers int `json:"workers,omitempty"`
	// CPUs pins worker i to CPUs[i mod len]; empty: not pinned.
	CPUs []int `json:"cpus,omitempty"`
	// Namespace is the file of the network namespace that makes the load, as /run/netns/client; "":
	// the caller's. It needs CAP_SYS_ADMIN in the user namespace that owns it.
	Namespace string `json:"namespace,omitempty"`

	// AllowPublic permits targets and sources that the Internet routes, and crafted packets in a
	// network namespace with a default route.
	AllowPublic bool `json:"allow_public,omitempty"`
	// InLab says that this machine is a guest of a lab, so that crafted packets may leave its
	// initial network namespace. Only an agent that is PID 1 of a guest may set it.
	InLab bool `json:"in_lab,omitempty"`
}

// Profile is a changing rate. Exactly one of its fields is set.
type Profile struct {
	Stages pacing.Stages  `json:"stages,omitempty"` // ramps and plateaus in sequence
	Bursts *pacing.Bursts `json:"bursts,omitempty"`
	Sine   *pacing.Sine   `json:"sine,omitempty"`
}

// Arrivals says how the sends of an open loop lie within its rate.
type Arrivals string

// The arrivals.
const (
	Even    Arrivals = "even"    // each at its exact time
	Poisson Arrivals = "poisson" // independent of each other, as those of many users are
)

// The defaults of zero fields of [Spec].
const (
	DefaultTimeout      = 10 * time.Second
	DefaultProbeTimeout = time.Second
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

// traits hold what plans and runs need to know of a kind. A nil function does nothing, or reports
// false.
type traits struct {
	kind     Kind
	unit     string              // what the results count
	engine   engine              // drives sockets; nil: the packets are always crafted
	crafts   bool                // the packets may be crafted
	flows    bool                // of datagrams: a named source port serves each target once
	atOnce   bool                // several may begin at the same moment
	lives    bool                // they may have a lifetime
	portless func(s *Spec) bool  // reports whether the load goes to no port
	awaits   func(s *Spec) bool  // reports whether it awaits answers without Spec.Reply
	defaults func(s *Spec)       // fills in the defaults of this kind
	check    func(s *Spec) error // refuses what the kind cannot do
}

// engine sets up a worker on the calling thread.
type engine func(l *load, number int) (worker, error)

// kinds lists all kinds, in the order in which messages name them.
var kinds = []traits{
	{kind: HTTP, unit: "requests", engine: streams, check: checkStream, defaults: func(s *Spec) {
		if s.KeepAlive <= 1 && (s.Close == "" || s.Close == CloseFIN) {
			s.CloseBy = cmp.Or(s.CloseBy, Server)
		}
	}},
	{
		kind: TCP, unit: "connections", engine: streams, atOnce: true, lives: true,
		check: checkStream,
	},
	{kind: Hold, unit: "connections", engine: streams, lives: true, check: func(s *Spec) error {
		return errors.Join(checkStream(s), refuse(s.Duration <= 0, "hold needs a duration"),
			refuse((s.Payload > 0) != (s.Interval > 0), "payload and interval of hold go "+
				"together: each connection sends the payload at each interval"))
	}},
	{
		kind: UDP, unit: "flows", engine: flowsOfDatagrams, flows: true, crafts: true, atOnce: true,
		lives: true, check: checkFlows, awaits: func(s *Spec) bool { return s.Exchanges > 0 },
	},
	{kind: SYN, unit: "packets", crafts: true},
	{
		kind: Handshake, unit: "connections", crafts: true, awaits: always, lives: true,
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
	i := slices.IndexFunc(kinds, func(t traits) bool { return t.kind == kind })
	if i < 0 {
		return new(traits)
	}
	return &kinds[i]
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
	unprintable := func(r rune) bool { return r <= ' ' || r == 0x7f }
	return errors.Join(
		refuse(s.Rate == 0 && s.Profile == nil && s.Concurrency == 0,
			"a load needs a rate or a concurrency"),
		refuse(strings.ContainsFunc(s.Path+s.Host, unprintable) || s.Path[0] != '/',
			"path %q or host %q cannot stand in a request", s.Path, s.Host))
}

// checkFlows refuses flows whose lifetime has no datagrams, and weights for ports that the kernel
// chooses.
func checkFlows(s *Spec) error {
	return errors.Join(
		refuse(!s.Lifetime.None() && s.Interval == 0,
			"the lifetime of a udp flow needs an interval, at which it sends datagrams"),
		refuse(s.Interval > 0 && s.Lifetime.None() && s.Exchanges <= 1,
			"an interval of udp needs exchanges or a lifetime"),
		refuse(!s.Lifetime.None() && s.Exchanges > 1,
			"exchanges and lifetime exclude each other: both say how long a flow goes on"),
		refuse(s.Zipf > 0 && s.SourcePorts == "" && !s.Crafted,
			"zipf needs source ports for udp: each flow of a source is on another one"))
}

// checkProbe refuses a probe without a rate or a known protocol.
func checkProbe(s *Spec) error {
	known := slices.Contains([]Protocol{ProtocolTCP, ProtocolUDP, ProtocolICMP}, s.Protocol)
	return errors.Join(
		refuse(s.Rate == 0 && s.Profile == nil, "a probe needs a rate"),
		refuse(!known, "protocol must be tcp, udp or icmp, not %q", s.Protocol))
}

// ParseURL returns a spec for http load on a URL: http://HOST[:PORT][/PATH]. It resolves a host
// name and takes the first address. The caller fills in the rest of the spec.
func ParseURL(ctx context.Context, text string) (Spec, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return Spec{}, fmt.Errorf("%q is not a URL of the form http://HOST[:PORT][/PATH], "+
			"such as http://10.0.0.2:8080/", text)
	}
	port := uint64(80)
	if u.Port() != "" {
		if port, err = strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
			return Spec{}, fmt.Errorf("URL %q: the port must be 1 to 65535, not %q", text, u.Port())
		}
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return Spec{}, fmt.Errorf("URL %q: %w", text, err)
	}
	return Spec{
		Kind: HTTP, Target: addresses[0].Unmap().String(), Ports: []uint16{uint16(port)},
		Path: u.RequestURI(), Host: u.Host,
	}, nil
}
