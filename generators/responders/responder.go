// Package responders answers the packets of generators on many ports, from sockets or from crafted
// packets.
package responders

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/threads"
	"github.com/ctload/ctload/generators/tuples"
)

// Kind says how a responder treats what it receives.
type Kind string

// The kinds of responder.
const (
	// Handshake completes handshakes for addresses without an owner, without sockets, by crafted
	// packets like the generators' kind of that name. The routes must lead to this host.
	Handshake Kind = "handshake"

	HTTP   Kind = "http"   // a fixed answer to each request, HTTP/1.0 and 1.1 (tcp)
	Echo   Kind = "echo"   // returns what it receives (tcp, udp)
	Silent Kind = "silent" // reads, and neither answers nor closes first (tcp, udp)
	Slow   Kind = "slow"   // the http answer, Delay after the request (tcp), or the echo (udp)
	// Leak acts as Silent, and keeps its side open after the peer's FIN (tcp): CLOSE_WAIT.
	Leak  Kind = "leak"
	Close Kind = "close" // closes first, as soon as it has accepted (tcp)
	Greet Kind = "greet" // sends Body bytes when it has accepted, and then acts as Silent (tcp)
	Deaf  Kind = "deaf"  // listens and reads nothing, so that its queue fills (tcp, udp)
)

// Network is the transport of a responder.
type Network string

// The networks.
const (
	TCP Network = "tcp"
	UDP Network = "udp"
)

// Spec specifies one responder completely. It travels to a node as JSON.
type Spec struct {
	Kind Kind `json:"kind"`
	// Network is tcp or udp; "": tcp.
	Network Network `json:"network,omitempty"`
	// Address is the local address, or several as in [generators.Spec.Target]; "": all, IPv4 and
	// IPv6.
	Address string `json:"address,omitempty"`
	// Ports are the ports, on each address; 0 alone: a free one, see [Responder.Ports].
	Ports []uint16 `json:"ports"`
	// Backlog is the length of each accept queue; 0: DefaultBacklog. The kernel caps it at the
	// network namespace's net.core.somaxconn.
	Backlog int `json:"backlog,omitempty"`
	// Interface is the interface of a handshake responder; "": the only one besides loopback.
	Interface string `json:"interface,omitempty"`
	// InLab is [generators.Spec.InLab], for a handshake responder.
	InLab bool `json:"in_lab,omitempty"`
	// Body is the size of the http answer's body, or of the greeting, in bytes.
	Body int `json:"body,omitempty"`
	// Delay is the time that a slow responder waits before it answers.
	Delay time.Duration `json:"delay,omitempty"`
	// Idle closes tcp connections that received nothing for that long; 0: never.
	Idle time.Duration `json:"idle,omitempty"`
	// Workers is the number of threads; 0: one for each CPU.
	Workers int `json:"workers,omitempty"`
	// CPUs pins worker i to CPUs[i mod len]; empty: not pinned.
	CPUs []int `json:"cpus,omitempty"`
	// Namespace is the file of the responder's network namespace, as in
	// [generators.Spec.Namespace].
	Namespace string `json:"namespace,omitempty"`
}

// Validate reports what is wrong with the spec, without access to the machine.
func (s Spec) Validate() error {
	err := s.defaults()
	if err == nil {
		_, err = s.addresses()
	}
	if err != nil {
		return fmt.Errorf("%s responder: %w", s.Kind, err)
	}
	return nil
}

// DefaultBacklog is the length of an accept queue before the kernel's cap.
const DefaultBacklog = 65535

// Counters count what a responder has done so far.
type Counters struct {
	Accepted  int64 `json:"accepted"`  // connections
	Requests  int64 `json:"requests"`  // http requests answered, or datagrams received
	Closed    int64 `json:"closed"`    // connections that ended
	Reset     int64 `json:"reset"`     // of those, by an error, mostly the peer's RST
	Expired   int64 `json:"expired"`   // of those, because they were idle
	Received  int64 `json:"received"`  // bytes
	Sent      int64 `json:"sent"`      // bytes
	Exhausted int64 `json:"exhausted"` // times that accept found no free descriptor
	Unsent    int64 `json:"unsent"`    // answers that could not be sent back
}

// Open returns how many connections are open.
func (c Counters) Open() int64 { return c.Accepted - c.Closed }

// Responder answers on many ports until it is closed.
type Responder struct {
	spec    Spec
	ports   []uint16
	servers []server
	ended   chan error // one value from each worker
	stop    func() bool
	backlog int
	group   int32 // of the packet sockets of a handshake responder
	once    sync.Once
	errs    []error // of the ended workers
}

// server is one worker of a responder, on a thread of its own.
type server interface {
	serve() error
	rouse()
	counts() *liveCounters
	close() error
}

// liveCounters belong to one worker, the only writer. Any goroutine may read them.
type liveCounters struct {
	accepted, requests, closed, reset, expired, received, sent, exhausted, unsent atomic.Int64

	stopping atomic.Bool
	stalled  atomic.Bool
}

// base is the part that all kinds of worker have.
type base struct {
	spec  *Spec
	live  liveCounters
	poll  *sockets.Poller
	start time.Time
}

func (b *base) counts() *liveCounters { return &b.live }
func (b *base) rouse()                { b.poll.Rouse() }
func (b *base) now() time.Duration    { return time.Since(b.start) }

// Listen starts a responder and returns when all ports are open; it works until Close, or until ctx
// ends. Each of its threads has its own sockets on every port (SO_REUSEPORT): they share nothing.
func Listen(ctx context.Context, spec Spec) (*Responder, error) {
	spec.Ports = slices.Clone(spec.Ports) // Listen replaces zeros by free ports
	if err := spec.defaults(); err != nil {
		return nil, fmt.Errorf("%s responder: %w", spec.Kind, err)
	}
	addresses, err := spec.addresses()
	if err != nil {
		return nil, fmt.Errorf("%s responder: %w", spec.Kind, err)
	}
	perWorker := uint64(len(addresses) * len(spec.Ports))
	if _, err := sockets.RaiseDescriptors(1<<20 + perWorker*uint64(spec.Workers)); err != nil {
		return nil, err
	}
	r := &Responder{spec: spec, ports: spec.Ports, ended: make(chan error, spec.Workers)}
	for i := range spec.Workers {
		if err := r.start(i, addresses); err != nil {
			return nil, errors.Join(fmt.Errorf("%s responder: %w", spec.Kind, err), r.Close())
		}
	}
	r.stop = context.AfterFunc(ctx, r.end)
	return r, nil
}

func (s *Spec) defaults() error {
	s.Network = cmp.Or(s.Network, TCP)
	s.Workers = cmp.Or(s.Workers, runtime.NumCPU())
	s.Backlog = cmp.Or(s.Backlog, DefaultBacklog)
	least := min(int64(s.Backlog), int64(s.Body), int64(s.Workers), int64(s.Delay), int64(s.Idle))
	switch {
	case s.Network != TCP && s.Network != UDP:
		return fmt.Errorf("network must be tcp or udp, not %q", s.Network)
	case len(s.Ports) == 0:
		return errors.New("no port to answer on")
	case least < 0 || s.Workers > 1024:
		return errors.New("numbers must be at least 0, and workers at most 1024")
	case s.Body > 16<<20:
		return fmt.Errorf("the body must be at most 16 MiB, not %d bytes", s.Body)
	}
	switch s.Kind {
	case Echo, Silent, Deaf:
	case Slow:
		if s.Delay == 0 {
			return errors.New("slow needs a delay")
		}
	case Handshake:
		if s.Network != TCP || s.Address == "" {
			return errors.New("network must be tcp, and the addresses to answer for must be given")
		}
	case Greet:
		if s.Network != TCP || s.Body == 0 {
			return errors.New("network must be tcp, and the body of the greeting must have a size")
		}
	case HTTP, Close, Leak:
		if s.Network != TCP {
			return errors.New("network must be tcp")
		}
	default:
		const kinds = "http, echo, silent, slow, leak, close, greet, deaf, handshake"
		return fmt.Errorf("kind must be one of %s, not %q", kinds, s.Kind)
	}
	return nil
}

// mostAddresses limits the addresses of a responder, since each needs a socket for each port.
const mostAddresses = 4096

func (s *Spec) addresses() ([]netip.Addr, error) {
	if s.Kind == Handshake {
		return nil, nil // it has no listening sockets
	}
	if s.Address == "" {
		return []netip.Addr{netip.IPv6Unspecified()}, nil // takes IPv4 as well
	}
	set, err := tuples.ParseAddresses(s.Address)
	if err != nil {
		return nil, err
	}
	if set.Len() > mostAddresses {
		return nil, fmt.Errorf("at most %d addresses can be listened on, not %d",
			mostAddresses, set.Len())
	}
	var list []netip.Addr
	for i := range set.Len() {
		list = append(list, set.At(i))
	}
	return list, nil
}

// start sets up worker i on a thread and lets it serve.
func (r *Responder) start(i int, addresses []netip.Addr) error {
	ready := make(chan error)
	threads.Run(r.spec.Namespace, func(err error) {
		if cpus := r.spec.CPUs; err == nil && len(cpus) > 0 {
			err = threads.Pin(cpus[i%len(cpus)])
		}
		var s server
		if err == nil {
			s, err = r.newServer(addresses)
		}
		if err != nil {
			ready <- err
			return
		}
		r.servers = append(r.servers, s)
		ready <- nil
		r.ended <- s.serve()
	})
	return <-ready
}

func (r *Responder) newServer(addresses []netip.Addr) (server, error) {
	if r.spec.Kind == Handshake {
		if err := sockets.MayCraft(r.spec.InLab); err != nil {
			return nil, err
		}
		return newHandshakeServer(&r.spec, len(r.servers), &r.group)
	}
	if r.spec.Network == UDP {
		return newDatagramServer(&r.spec, addresses, len(r.servers) == 0)
	}
	var err error
	if r.backlog, err = cappedBacklog(r.spec.Backlog); err != nil {
		return nil, err
	}
	return newStreamServer(&r.spec, addresses, len(r.servers) == 0)
}

// Ports returns the responder's ports, in the order of the spec.
func (r *Responder) Ports() []uint16 { return r.ports }

// Backlog returns the length of each accept queue: the spec's, capped by net.core.somaxconn of the
// network namespace when the responder started. It returns 0 for udp and handshake responders.
func (r *Responder) Backlog() int { return r.backlog }

// Counters returns the counts so far, over all workers.
func (r *Responder) Counters() Counters {
	var c Counters
	for _, s := range r.servers {
		live := s.counts()
		c.Closed += live.closed.Load() // before accepted, so that Open is never negative
		c.Accepted += live.accepted.Load()
		c.Requests += live.requests.Load()
		c.Reset += live.reset.Load()
		c.Expired += live.expired.Load()
		c.Received += live.received.Load()
		c.Sent += live.sent.Load()
		c.Exhausted += live.exhausted.Load()
		c.Unsent += live.unsent.Load()
	}
	return c
}

// end ends the threads and frees their resources.
func (r *Responder) end() {
	r.once.Do(func() {
		for _, s := range r.servers {
			s.counts().stopping.Store(true)
			s.rouse()
		}
		for range r.servers {
			r.errs = append(r.errs, <-r.ended)
		}
		for _, s := range r.servers {
			r.errs = append(r.errs, s.close())
		}
	})
}

// Close stops listening, closes all connections, waits until the threads have ended and returns
// their errors. Closing twice does no harm. Close is needed after the context has ended, too.
func (r *Responder) Close() error {
	if r.stop != nil {
		r.stop()
	}
	r.end()
	if err := errors.Join(r.errs...); err != nil {
		return fmt.Errorf("%s responder: %w", r.spec.Kind, err)
	}
	return nil
}

// stallPoll limits the time until a stalled worker notices Resume.
const stallPoll = 2 * time.Millisecond

// Stall stops all work of the responder until Resume, with its sockets open, like a process that
// hangs. The kernel still completes handshakes and receives data until its queues are full.
func (r *Responder) Stall() { r.setStalled(true) }

// Resume ends a stall. The workers then handle what came meanwhile.
func (r *Responder) Resume() { r.setStalled(false) }

func (r *Responder) setStalled(stalled bool) {
	for _, s := range r.servers {
		s.counts().stalled.Store(stalled)
	}
}

// stall blocks a worker while its responder is stalled, unless that ends. It polls: stalls are
// rare, and a running worker only checks a flag.
func (l *liveCounters) stall() {
	if !l.stalled.Load() {
		return
	}
	poll := time.NewTicker(stallPoll)
	defer poll.Stop()
	for l.stalled.Load() && !l.stopping.Load() {
		<-poll.C
	}
}

// openListener opens a listening socket. Each worker thread may open a shared one on the same
// address. An unspecified IPv6 address takes IPv4 as well; a host without IPv6 uses that of IPv4.
func openListener(network Network, at netip.AddrPort, backlog int, shared bool) (int32, error) {
	kind, number := unix.SOCK_STREAM, unix.IPPROTO_TCP
	if network == UDP {
		kind, number = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	}
	fd, errno := sockets.Open(sockets.Family(at.Addr()), kind, number)
	if errno == unix.EAFNOSUPPORT && at.Addr() == netip.IPv6Unspecified() {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
		fd, errno = sockets.Open(unix.AF_INET, kind, number)
	}
	if errno != 0 {
		return -1, fmt.Errorf("opening a %s socket: %w", network, errno)
	}
	if network == TCP {
		// A connection in TIME_WAIT must not block the port.
		errno = sockets.SetOption(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if shared {
		errno = cmp.Or(errno, sockets.SetOption(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	}
	if at.Addr() == netip.IPv6Unspecified() {
		errno = cmp.Or(errno, sockets.SetOption(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0))
	}
	var local sockets.Address
	local.Set(at)
	errno = cmp.Or(errno, sockets.Bind(fd, &local))
	if errno == 0 && network == TCP {
		_, _, errno = unix.RawSyscall(unix.SYS_LISTEN, uintptr(fd), uintptr(backlog), 0)
	}
	if errno != 0 {
		sockets.Close(fd)
		return -1, fmt.Errorf("listening on %s: %w", at, errno)
	}
	return fd, nil
}

// listeners opens all sockets of a worker. It replaces a port of 0 in spec.Ports by the one that
// the kernel chose, for the other workers to share. first says that no other worker has opened
// them.
func listeners(spec *Spec, addresses []netip.Addr, first bool) (fds []int32, err error) {
	defer func() {
		if err != nil {
			for _, fd := range fds {
				sockets.Close(fd)
			}
		}
	}()
	for p, port := range spec.Ports {
		for _, address := range addresses {
			at := netip.AddrPortFrom(address, spec.Ports[p])
			if first && spec.Workers > 1 && at.Port() != 0 {
				// SO_REUSEPORT would let two responders share a port unnoticed.
				fd, err := openListener(spec.Network, at, spec.Backlog, false)
				if err != nil {
					return fds, err
				}
				sockets.Close(fd)
			}
			fd, err := openListener(spec.Network, at, spec.Backlog, spec.Workers > 1)
			if err != nil {
				return fds, err
			}
			fds = append(fds, fd)
			if port == 0 && spec.Ports[p] == 0 {
				var errno unix.Errno
				if spec.Ports[p], errno = sockets.LocalPort(fd); errno != 0 {
					return fds, fmt.Errorf("reading a socket's address: %w", errno)
				}
			}
		}
	}
	return fds, nil
}

// cappedBacklog returns a backlog as the calling thread's network namespace caps it.
func cappedBacklog(backlog int) (int, error) {
	text, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	most, numberErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err = cmp.Or(err, numberErr); err != nil {
		return 0, fmt.Errorf("reading the cap of accept queues: %w", err)
	}
	return min(backlog, most), nil
}
