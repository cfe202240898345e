package samplers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"github.com/ti-mo/conntrack"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/results"
)

// Experiment finds what the kernel counts in which counter. It provokes a lost race, and with
// Chains chains that are too long, in a network namespace that it makes and leaves.
type Experiment struct {
	// Track makes the kernel track the namespace of the calling thread.
	Track func(context.Context) error
	// Chains says that the hash has so few buckets that mostFlows entries fill its chains.
	Chains bool
}

// mostFlows bounds the entries of the experiment. Chains of a hash of 512 buckets are too long from
// about 10,000 entries on.
const mostFlows = 30_000

// enoughChains is the number of refused packets that suffice.
const enoughChains = 20

// errProvokedNothing means that no counter rose.
var errProvokedNothing = errors.New("the kernel refused nothing: it does not track the namespace")

// Run performs the experiment. It needs CAP_SYS_ADMIN, and CAP_NET_ADMIN in the new namespace.
func (e Experiment) Run(ctx context.Context) (m results.CounterMeaning, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and its namespace
		m, err = e.inNamespace(ctx)
	}()
	<-done
	if err != nil {
		return m, fmt.Errorf("find what the counters count: %w", err)
	}
	return m, nil
}

func (e Experiment) inNamespace(ctx context.Context) (results.CounterMeaning, error) {
	var none results.CounterMeaning
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return none, fmt.Errorf("make a network namespace: %w", err)
	}
	if err := raiseLoopback(); err != nil {
		return none, err
	}
	if err := e.Track(ctx); err != nil {
		return none, err
	}
	race, err := countersOf(loseRace)
	if err != nil {
		return none, err
	}
	var chains *results.Counters
	if e.Chains {
		counted, err := countersOf(func() error { return fillChains(ctx) })
		if err != nil {
			return none, err
		}
		chains = &counted
	}
	m, known := results.MeaningOf(race, chains)
	if !known {
		return none, errProvokedNothing
	}
	return m, nil
}

func raiseLoopback() (err error) {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer links.Close()
	lo, err := links.LinkByName("lo")
	if err == nil {
		err = links.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// countersOf returns what the namespace's kernel counts while do runs.
func countersOf(do func() error) (c results.Counters, err error) {
	before, err := askStats(statsMessage)
	if err != nil {
		return c, err
	}
	if err := do(); err != nil {
		return c, err
	}
	after, err := askStats(statsMessage)
	if err != nil {
		return c, err
	}
	var sums accumulator
	sums.baseline(before)
	sums.add(after)
	return sums.counters(), nil
}

// The ends of the connection that loses its race.
var (
	raceFrom = netip.MustParseAddrPort("127.0.0.1:40001")
	raceTo   = netip.MustParseAddrPort("127.0.0.1:9")
)

// loseRace makes a packet lose the race for its tuple, without a second packet: an entry of another
// flow that ctnetlink makes expects its answers from where those of the packet come. The kernel
// finds that out where it finds out about a race, when it confirms the packet's entry, and drops
// the packet, since it resolves no clash of TCP (nf_ct_resolve_clash).
func loseRace() (err error) {
	conn, err := conntrack.Dial(nil)
	if err != nil {
		return fmt.Errorf("open ctnetlink: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	other := netip.MustParseAddr("192.0.2.1")
	taken := conntrack.NewFlow(unix.IPPROTO_TCP, 0, other, other, 1, 1, 60, 0)
	taken.TupleReply.IP.SourceAddress = raceTo.Addr()
	taken.TupleReply.IP.DestinationAddress = raceFrom.Addr()
	taken.TupleReply.Proto.SourcePort = raceTo.Port()
	taken.TupleReply.Proto.DestinationPort = raceFrom.Port()
	taken.ProtoInfo.TCP = &conntrack.ProtoInfoTCP{State: 1} // SYN_SENT
	if err := conn.Create(taken); err != nil {
		return fmt.Errorf("make an entry: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := unix.Bind(fd, socketAddress(raceFrom)); err != nil {
		return fmt.Errorf("bind %s: %w", raceFrom, err)
	}
	// The kernel has sent the SYN, and dropped it, when connect returns.
	err = unix.Connect(fd, socketAddress(raceTo))
	if err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("connect to %s: %w", raceTo, err)
	}
	return nil
}

// fillChains sends datagrams, each of a flow of its own, until the kernel refuses some.
func fillChains(ctx context.Context) (err error) {
	const port = 9
	var fds [2]int // a receiver, so that nothing answers with ICMP, and a sender
	for i := range fds {
		fds[i], err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a socket: %w", err)
		}
		defer func() { err = errors.Join(err, unix.Close(fds[i])) }()
	}
	if err := unix.Bind(fds[0], &unix.SockaddrInet4{Port: port}); err != nil {
		return fmt.Errorf("bind port %d: %w", port, err)
	}
	refused := 0
	for i := 0; i < mostFlows && refused < enoughChains && ctx.Err() == nil; i++ {
		address := [4]byte{127, byte(1 + i>>16), byte(i >> 8), byte(i)}
		to := &unix.SockaddrInet4{Port: port, Addr: address}
		switch err := unix.Sendto(fds[1], []byte{0}, 0, to); {
		case errors.Is(err, unix.EPERM):
			refused++
		case err != nil:
			return fmt.Errorf("send to %v: %w", to.Addr, err)
		}
	}
	return ctx.Err()
}

func socketAddress(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}
