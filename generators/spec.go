package generators

import (
	"time"

	"github.com/ctload/ctload/generators/pacing"
)

// CloseMode is how a connection ends, which decides the state that its conntrack entry is left in
// (in brackets: the state, and the seconds that a default kernel keeps it).
type CloseMode string

// The close modes.
const (
	CloseFIN     CloseMode = "fin"        // close: FIN, then the peer's FIN (TIME_WAIT, 120)
	CloseRST     CloseMode = "rst"        // RST (CLOSE, 10)
	CloseAbandon CloseMode = "abandon"    // vanish without a packet (ESTABLISHED, 432000); needs CAP_NET_ADMIN in the network namespace
	CloseHalf    CloseMode = "half-close" // FIN, the peer's direction left open (CLOSE_WAIT, 60, if the peer keeps it open)
)

// Side is one end of a connection.
type Side string

// The sides.
const (
	Client Side = "client"
	Server Side = "server"
)

// Protocol is what a probe speaks.
type Protocol string

// The protocols of a probe.
const (
	ProtocolTCP  Protocol = "tcp"  // connect and close
	ProtocolUDP  Protocol = "udp"  // a datagram and its echo
	ProtocolICMP Protocol = "icmp" // an echo request and its reply
)

// Spec is one generator's whole assignment; it travels to a node as JSON (durations in
// nanoseconds). Every load must be bounded by Count, by Duration or by the stages of its profile.
type Spec struct {
	Kind Kind `json:"kind"`

	// Target is the address of the responder, or several: a comma-separated list of addresses,
	// prefixes and ranges, as [tuples.ParseAddresses] reads it.
	Target string `json:"target"`
	// Ports are the destination ports, used in turn. None for icmp.
	Ports []uint16 `json:"ports,omitempty"`

	// Count is how many requests, connections or flows; 0: until Duration or the end of the stages.
	Count int64 `json:"count,omitempty"`
	// Concurrency is how many are in flight at once at most. It drives a closed loop; with a rate,
	// it is a limit, and 0 means none.
	Concurrency int `json:"concurrency,omitempty"`
	// Rate is how many begin each second; 0 without Profile: a closed loop for sockets, as fast as
	// possible for packets.
	Rate float64 `json:"rate,omitempty"`
	// Profile is a rate that changes, instead of Rate.
	Profile *Profile `json:"profile,omitempty"`
	// Duration is how long new ones are begun. What is in flight then may still end, or time out.
	Duration time.Duration `json:"duration,omitempty"`
	// Timeout is for each request or connection, from its actual begin; 0: DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
	// SYNRetries is how often the kernel repeats an unanswered SYN (TCP_SYNCNT; the first time after
	// 1 s, then at its own pace) before the connection fails as a timeout; 0: the kernel's tcp_syn_retries. Sockets only.
	SYNRetries int `json:"syn_retries,omitempty"`
	// CatchUp makes up for slots of the schedule that were missed, in a burst.
	CatchUp bool `json:"catch_up,omitempty"`
	// Slack is how late a send may be before its slot is given up; 0: [pacing.DefaultSlack].
	Slack time.Duration `json:"slack,omitempty"`

	// Sources are the source addresses, written as Target is; empty: the kernel chooses. Sockets
	// need addresses that are local, or FreeBind; crafted packets take any.
	Sources string `json:"sources,omitempty"`
	// Crafted makes udp of frames from any source, whoever owns its address, instead of from sockets: one
	// datagram for each flow, which is completed when the device has taken it, and no answer is awaited. It
	// takes Sources, CAP_NET_RAW and CAP_NET_ADMIN. The kinds syn, handshake and icmp are always crafted.
	Crafted bool `json:"crafted,omitempty"`
	// SourcePorts are the source ports, as "1024-65535"; empty: the kernel chooses, or for crafted
	// packets 1024-65535.
	SourcePorts string `json:"source_ports,omitempty"`
	// FreeBind lets sockets take source addresses that no interface has (IP_FREEBIND); answers come
	// back only where a local route covers them.
	FreeBind bool `json:"free_bind,omitempty"`
	// Seed orders the tuples; 0: in order.
	Seed uint64 `json:"seed,omitempty"`
	// Reuse lets crafted packets and datagrams begin again when every tuple has been used.
	// Sockets always may, since a connection that has ended frees its tuple.
	Reuse bool `json:"reuse,omitempty"`

	// Close is how a connection ends; "": fin, rst for a probe, and abandon for handshakes. A
	// handshake with fin is completed when the peer has closed as well.
	Close CloseMode `json:"close,omitempty"`
	// CloseBy is who closes first; "": the server for http, the client otherwise. When it is the
	// server's turn and it does not close within Timeout, a tcp connection fails.
	CloseBy Side `json:"close_by,omitempty"`
	// KeepAlive sends that many http requests on each connection; 0 or 1: one.
	KeepAlive int `json:"keep_alive,omitempty"`
	// Path and Host are for http; "": "/" and the target.
	Path string `json:"path,omitempty"`
	Host string `json:"host,omitempty"`
	// Payload is how many bytes tcp sends after connecting, hold sends every Interval, and udp and
	// icmp carry in each datagram.
	Payload int `json:"payload,omitempty"`
	// Expect is how many bytes tcp waits for after it has sent its payload; more than that, or a
	// close before, is a failure.
	Expect int `json:"expect,omitempty"`
	// Hold is how long each connection of hold or tcp stays open once connected; 0: tcp closes at
	// once, hold stays until Duration.
	Hold time.Duration `json:"hold,omitempty"`
	// Exchanges makes udp flows conversations of that many datagrams, Interval apart, each of which
	// must be answered; a flow becomes ASSURED when it is answered for more than 2 s.
	Exchanges int `json:"exchanges,omitempty"`
	// AtOnce sends each datagram of udp that many times, or begins that many connections of tcp from one
	// source port to as many ports, at the same moment on as many threads: what races itself through
	// the kernel. A udp flow is completed when all are answered. 0 or 1: one.
	AtOnce int `json:"at_once,omitempty"`
	// Interval is the time between keep-alive bytes of hold and between datagrams of udp.
	Interval time.Duration `json:"interval,omitempty"`
	// Reply makes icmp, syn and udp wait for an answer to each packet, up to Timeout; without it a
	// packet is completed when the kernel has taken it.
	Reply bool `json:"reply,omitempty"`
	// Protocol is what a probe speaks; "": tcp.
	Protocol Protocol `json:"protocol,omitempty"`

	// Interface is the interface that crafted packets leave by; "": the one of the route.
	Interface string `json:"interface,omitempty"`
	// Gateway is the hardware address that crafted packets go to; "": the neighbour of the route.
	Gateway string `json:"gateway,omitempty"`

	// Workers is how many threads; 0: one for each CPU, and one for a probe. Datagrams from named ports that
	// are to be answered always have one.
	Workers int `json:"workers,omitempty"`
	// CPUs pins worker i to CPUs[i mod len]; empty: not pinned.
	CPUs []int `json:"cpus,omitempty"`
	// Namespace is the file of the network namespace to work in, as /run/netns/client; "": the
	// caller's. Needs CAP_SYS_ADMIN in the user namespace that owns it.
	Namespace string `json:"namespace,omitempty"`

	// AllowPublic permits a target outside the private, loopback, link-local, documentation and
	// benchmarking ranges.
	AllowPublic bool `json:"allow_public,omitempty"`
	// InLab says that this machine is a guest of a lab, so that crafted packets may leave its
	// initial network namespace. Only an agent that is PID 1 of a guest may set it.
	InLab bool `json:"in_lab,omitempty"`
}

// Profile is a rate that changes: exactly one of its fields is set.
type Profile struct {
	Stages pacing.Stages  `json:"stages,omitempty"` // ramps and plateaus one after another
	Bursts *pacing.Bursts `json:"bursts,omitempty"`
	Sine   *pacing.Sine   `json:"sine,omitempty"`
}

// What a zero field of [Spec] stands for.
const (
	DefaultTimeout      = 10 * time.Second
	DefaultProbeTimeout = time.Second
)
