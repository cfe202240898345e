package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/responders"
)

// server answers a [Client] on a node.
type server struct {
	*children
	*faults.Set
	node    faults.Node
	sampler *samplers.Sampler

	mu    sync.Mutex
	loads map[string]context.CancelFunc
	cards []string // the links that the caller has set up, in that order
}

// serve answers calls on stream until it ends, then undoes every fault and closes everything that
// the calls started.
func serve(ctx context.Context, stream io.ReadWriteCloser, c *children, node faults.Node) error {
	node.Kernel.Run = c.run
	options := samplers.Options{}
	if !node.Own {
		options.KernelLog = "none" // it is the host's, with lines of other programs
	}
	sampler, err := samplers.New(options)
	if err != nil {
		return err
	}
	s := &server{
		children: c, Set: faults.NewSet(node), node: node, sampler: sampler,
		loads: map[string]context.CancelFunc{},
	}
	server := grpc.NewServer(grpc.ForceServerCodec(codec{}),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	server.RegisterService(&service, s)
	defer context.AfterFunc(ctx, server.Stop)()
	err = server.Serve(&listener{conn: newConn(stream)})
	if errors.Is(err, io.EOF) || errors.Is(err, grpc.ErrServerStopped) {
		err = nil
	}
	server.Stop()
	return errors.Join(err, s.Set.Close(), s.sampler.Close())
}

func (s *server) hello(context.Context, nothing) (Hello, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Hello{}, fmt.Errorf("ask the kernel for its name: %w", err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return Hello{}, fmt.Errorf("ask the kernel for its memory: %w", err)
	}
	return Hello{
		Release:      unix.ByteSliceToString(name.Release[:]),
		Architecture: unix.ByteSliceToString(name.Machine[:]),
		CPUs:         runtime.NumCPU(),
		MemoryBytes:  int64(info.Totalram) * int64(info.Unit),
		Uptime:       time.Duration(info.Uptime) * time.Second,
		Shared:       !s.node.Own,
	}, nil
}

func (s *server) clock(context.Context, nothing) (Clock, error) {
	return Clock{Monotonic: samplers.Monotonic(), Realtime: time.Now()}, nil
}

func (s *server) configure(ctx context.Context, settings tuning.Settings) (nothing, error) {
	return nothing{}, s.node.Kernel.Apply(ctx, settings)
}

func (s *server) readBack(ctx context.Context, asked tuning.Settings) (tuning.State, error) {
	return s.node.Kernel.ReadBack(ctx, asked)
}

func (s *server) respond(_ context.Context, spec responders.Spec) (nothing, error) {
	return nothing{}, s.Respond(spec)
}

func (s *server) generate(
	ctx context.Context, request generateRequest, send func(loadEvent) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.loads[request.ID] = cancel
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.loads, request.ID)
		s.mu.Unlock()
	}()

	if err := waitUntil(ctx, request.Begin); err != nil {
		return send(loadEvent{Result: new(generators.Result), Error: err.Error()})
	}
	result, err := generators.Run(ctx, request.Spec, func(p generators.Progress) {
		if err := send(loadEvent{Progress: &p}); err != nil {
			cancel() // the caller has gone
		}
	})
	last := loadEvent{Result: &result}
	if err != nil {
		last.Error = err.Error()
	}
	return send(last)
}

// waitUntil waits for an instant of CLOCK_MONOTONIC.
func waitUntil(ctx context.Context, instant time.Duration) error {
	timer := time.NewTimer(instant - samplers.Monotonic())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop ends a generator early; its stream then carries the result so far.
func (s *server) stop(_ context.Context, id string) (nothing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cancel, ok := s.loads[id]
	if !ok {
		return nothing{}, fmt.Errorf("stop load %s: it is not running", id)
	}
	cancel()
	return nothing{}, nil
}

// sample makes now the baseline and samples until the caller stops receiving.
func (s *server) sample(
	ctx context.Context, interval time.Duration, send func(samplers.Sample) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.sampler.Mark()
	return s.sampler.Run(ctx, interval, func(sample samplers.Sample) {
		if err := send(sample); err != nil {
			cancel(err)
		}
	})
}

// watchDrops returns why the node does not count dropped packets by the kernel's reason; empty when
// it does.
func (s *server) watchDrops(context.Context, nothing) (missing string, _ error) {
	if !s.node.Own {
		return "the kernel is the host's, which counts the drops of all together", nil
	}
	err := s.sampler.WatchDrops()
	debug.FreeOSMemory() // the kernel's types are large, and a guest is small
	if err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// finalSample returns a whole sample, with the figures that sampling reads less often.
func (s *server) finalSample(ctx context.Context, _ nothing) (samplers.Sample, error) {
	sample, err := s.sampler.FullSample(ctx)
	if err != nil {
		return sample, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, link := range sample.System.Links {
		sample.System.Links[i].Card = 1 + slices.Index(s.cards, link.Name)
	}
	return sample, nil
}

func (s *server) dump(ctx context.Context, _ nothing) (Table, error) {
	// Before the walk, which may load a module.
	memory, err := s.sampler.ReadMemory()
	hidden := !s.node.Own && errors.Is(err, fs.ErrPermission) // from all users but the host's root
	if err != nil && !errors.Is(err, samplers.ErrNoSlab) && !hidden {
		return Table{}, err
	}
	composition, err := s.sampler.Dump(ctx)
	return Table{Composition: composition, Memory: memory}, err
}

func (s *server) kernelLog(context.Context, nothing) (KernelLog, error) {
	records, dropped, err := s.sampler.TakeLog()
	return KernelLog{Records: records, Dropped: dropped}, err
}

func (s *server) readFile(_ context.Context, path string) (string, error) {
	text, err := os.ReadFile(path)
	return string(text), err
}

// exitStatus writes an error to the node's console and returns the agent's exit status.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "ctload agent:", err)
	return 1
}

// network brings the loopback and the node's link up and gives the link its addresses.
func (s *server) network(ctx context.Context, request Network) (nothing, error) {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return nothing{}, fmt.Errorf("look up lo: %w", err)
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return nothing{}, fmt.Errorf("bring lo up: %w", err)
	}
	link, err := s.card(ctx, request.MAC)
	if err != nil {
		return nothing{}, err
	}
	s.mu.Lock()
	if name := link.Attrs().Name; !slices.Contains(s.cards, name) {
		s.cards = append(s.cards, name)
	}
	s.mu.Unlock()
	for _, cidr := range request.Addresses {
		address, err := netlink.ParseAddr(cidr)
		if err != nil {
			return nothing{}, fmt.Errorf("address %q: %w", cidr, err)
		}
		// The link is private: no other node could have the address, and the check costs a second.
		if address.IP.To4() == nil {
			address.Flags |= unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, address); err != nil {
			return nothing{}, fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, cidr, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nothing{}, fmt.Errorf("bring %s up: %w", link.Attrs().Name, err)
	}
	for _, r := range request.Routes {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(r.Via)}
		if err := addRoute(route, r.To); err != nil {
			return nothing{}, fmt.Errorf("route %s by way of %s: %w", r.To, r.Via, err)
		}
	}
	for _, network := range request.Local {
		// The kernel answers ARP and neighbour solicitations on other links for local addresses.
		route := &netlink.Route{
			LinkIndex: loopback.Attrs().Index, Type: unix.RTN_LOCAL,
			Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
		}
		if err := addRoute(route, network); err != nil {
			return nothing{}, fmt.Errorf("make %s local: %w", network, err)
		}
	}
	return nothing{}, nil
}

func addRoute(route *netlink.Route, to string) error {
	_, network, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	route.Dst = network
	return netlink.RouteReplace(route)
}

// card returns the network card with the given hardware address, or the only one. A guest of
// ctload's own loads the driver of its cards only now, so that it answers sooner.
func (s *server) card(ctx context.Context, mac string) (netlink.Link, error) {
	cards, err := faults.Cards(mac)
	if err != nil && s.node.Own && s.node.Kernel.LoadModule != nil {
		if err := s.node.Kernel.LoadModule(ctx, "virtio_net"); err != nil {
			return nil, err
		}
		cards, err = faults.Cards(mac)
	}
	if err != nil {
		return nil, fmt.Errorf("%w (its virtio_net module may be missing)", err)
	}
	return cards[0], nil
}
