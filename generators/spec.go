package generators

import (
	"time"

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

	// Count limits the requests, connections, flows or packets; 0: until Duration or the end of
	// the stages.
	Count int64 `json:"count,omitempty"`
	// Concurrency limits how many are in flight at once. It drives a closed loop. With a rate it is
	// only a limit, and 0 means none.
	Concurrency int `json:"concurrency,omitempty"`
	// Rate is how many begin each second; 0 without Profile: a closed loop for sockets, as fast as
	// possible for packets.
	Rate float64 `json:"rate,omitempty"`
	// Profile is a changing rate, used instead of Rate.
	Profile *Profile `json:"profile,omitempty"`
	// Duration limits how long new ones begin. Those in flight then may still end or time out.
	Duration time.Duration `json:"duration,omitempty"`
	// Timeout applies to each request or connection, from its actual begin; 0: DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
	// SYNRetries is how often the kernel repeats an unanswered SYN (TCP_SYNCNT; the first time
	// after 1 s, then at its own pace) before the connection fails as a timeout; 0: the kernel's
	// tcp_syn_retries. Sockets only.
	SYNRetries int `json:"syn_retries,omitempty"`
	// CatchUp sends the missed slots of the schedule later, in a burst.
	CatchUp bool `json:"catch_up,omitempty"`
	// Slack is how late a send may be before its slot is given up; 0: [pacing.DefaultSlack].
	Slack time.Duration `json:"slack,omitempty"`

	// Sources are the source addresses, written as Target is; empty: the kernel chooses. Sockets
	// need local addresses, or FreeBind; crafted packets take any.
	Sources string `json:"sources,omitempty"`
	// Crafted makes udp from frames instead of sockets, with any source address. Each flow is one
	// datagram, completed when the device has taken it; no answer is awaited. It needs Sources,
	// CAP_NET_RAW and CAP_NET_ADMIN. The kinds syn, handshake and icmp are always crafted.
	Crafted bool `json:"crafted,omitempty"`
	// SourcePorts are the source ports, as "1024-65535"; empty: the kernel chooses, or for crafted
	// packets 1024-65535.
	SourcePorts string `json:"source_ports,omitempty"`
	// FreeBind lets sockets take source addresses that no interface has (IP_FREEBIND). Answers come
	// back only where a local route covers these.
	FreeBind bool `json:"free_bind,omitempty"`
	// Seed orders the tuples; 0: in order.
	Seed uint64 `json:"seed,omitempty"`
	// Reuse lets crafted packets and datagrams begin again when every tuple has been used. TCP
	// sockets always may, since an ended connection frees its tuple.
	Reuse bool `json:"reuse,omitempty"`

	// Close says how a connection ends; "": fin, rst for a probe, and abandon for handshakes. A
	// handshake with fin completes when the peer has closed as well.
	Close CloseMode `json:"close,omitempty"`
	// CloseBy is the side that closes first; "": the server for http without keep-alive, the client
	// otherwise. When the server has to close and does not within Timeout, a tcp connection fails.
	CloseBy Side `json:"close_by,omitempty"`
	// KeepAlive sends that many http requests on each connection; 0 or 1: one.
	KeepAlive int `json:"keep_alive,omitempty"`
	// Path and Host are for http; "": "/" and the target.
	Path string `json:"path,omitempty"`
	Host string `json:"host,omitempty"`
	// Payload is how many bytes tcp sends after connecting, hold sends every Interval, and udp and
	// icmp carry in each datagram.
	Payload int `json:"payload,omitempty"`
	// Expect is how many bytes tcp awaits after it has sent its payload. More bytes, or an earlier
	// close, are a failure.
	Expect int `json:"expect,omitempty"`
	// Hold is how long each connection of hold or tcp stays open once connected; 0: tcp closes at
	// once, hold stays until Duration.
	Hold time.Duration `json:"hold,omitempty"`
	// Exchanges makes udp flows conversations of that many datagrams, Interval apart, each of which
	// must be answered. A flow becomes ASSURED when it is answered for more than 2 s.
	Exchanges int `json:"exchanges,omitempty"`
	// AtOnce sends each datagram of udp that many times, or begins that many connections of tcp
	// from one source port to as many ports, at the same moment on as many threads, so that they
	// race through the kernel. A udp flow completes when all are answered. 0 or 1: one.
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

	// AllowPublic permits a target outside the private, loopback, link-local, documentation and
	// benchmarking ranges.
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

// The defaults of zero fields of [Spec].
const (
	DefaultTimeout      = 10 * time.Second
	DefaultProbeTimeout = time.Second
)
