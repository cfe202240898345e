package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

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
	loads map[string]preparedLoad
	cards []string // the links that the caller has set up, in that order
	flows flowCounters
}

// serve answers calls on stream until it ends, then undoes every fault and closes everything that
// the calls started.
func serve(ctx context.Context, stream io.ReadWriteCloser, c *children, node faults.Node) error {
	if node.Kernel.Run == nil {
		node.Kernel.Run = c.run
	}
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
		loads: map[string]preparedLoad{},
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
	s.flows.close()
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

// preparedLoad is a generator that a caller can let begin, once, and stop.
type preparedLoad struct {
	begin chan time.Duration // CLOCK_MONOTONIC
	stop  context.CancelFunc
}

func (s *server) generate(
	ctx context.Context, request generateRequest, send func(loadEvent) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	prepared := preparedLoad{begin: make(chan time.Duration, 1), stop: cancel}
	s.mu.Lock()
	s.loads[request.ID] = prepared
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.loads, request.ID)
		s.mu.Unlock()
	}()

	result, err := run(ctx, request.Spec, prepared.begin, func(event loadEvent) {
		if err := send(event); err != nil {
			cancel() // the caller has gone
		}
	})
	last := loadEvent{Result: &result}
	if err != nil {
		last.Error = err.Error()
	}
	return send(last)
}

// run prepares a generator, and runs it from the instant that begin gives.
func run(
	ctx context.Context, spec generators.Spec, begin <-chan time.Duration, send func(loadEvent),
) (generators.Result, error) {
	load, err := generators.Prepare(spec)
	if err != nil {
		return generators.Result{}, err
	}
	send(loadEvent{Ready: true})
	select {
	case at := <-begin:
		instant := time.Now().Add(at - samplers.Monotonic())
		return load.Run(ctx, instant, func(p generators.Progress) { send(loadEvent{Progress: &p}) })
	case <-ctx.Done():
		return generators.Result{}, errors.Join(context.Cause(ctx), load.Close())
	}
}

// load returns a prepared or running load.
func (s *server) load(id string) (preparedLoad, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	load, ok := s.loads[id]
	if !ok {
		return load, fmt.Errorf("load %s: it is not running", id)
	}
	return load, nil
}

// begin lets a prepared load begin at an instant.
func (s *server) begin(_ context.Context, request beginRequest) (nothing, error) {
	load, err := s.load(request.ID)
	if err != nil {
		return nothing{}, err
	}
	select {
	case load.begin <- request.At:
		return nothing{}, nil
	default:
		return nothing{}, fmt.Errorf("load %s: it has begun", request.ID)
	}
}

// stop ends a generator early; its stream then carries the result so far.
func (s *server) stop(_ context.Context, id string) (nothing, error) {
	load, err := s.load(id)
	if err == nil {
		load.stop()
	}
	return nothing{}, err
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
	return s.sampler.FullSample(ctx)
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
