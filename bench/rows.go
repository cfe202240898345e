package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/generators/responders"
)

// The CPUs: the generator's where it has one, and the target's. On a single CPU both are the same.
const (
	generatorCPU = "0"
	targetCPU    = "1"
)

const (
	url       = "http://" + routerAddress + "/"
	loopURL   = "http://" + routerAddress + ":7000/"
	floodTime = 2 * time.Second
	entries   = 150_000 // fewer than the default nf_conntrack_max of this host
)

// rows returns the table of the project's promises.
func (l *lab) rows() []row {
	return []row{
		l.http(), l.tcp(), l.synDropped(), l.synTracked(), l.udp(), l.handshake(), l.memory(),
		l.pacing(1000), l.pacing(10_000), l.pacing(50_000), l.sampling(),
		l.capturing(), l.captureCost(),
	}
}

// ours returns a contender that runs a generator and takes its rate.
func (l *lab) ours(name, cpus string, spec generators.Spec) contender {
	return contender{"ctload" + name, "", func(ctx context.Context) (float64, error) {
		out, err := l.generator(ctx, cpus, spec)
		return out.Result.Rate(), err
	}}
}

func (l *lab) http() row {
	spec := generators.Spec{
		Kind: generators.HTTP, Target: routerAddress, Ports: []uint16{80},
		Concurrency: 100, Duration: floodTime, Workers: 1,
	}
	like := spec
	like.CloseBy = generators.Client
	early := atLeast(1.1, "ctload, client closes", "wrk")
	early.remark = "(both close as soon as they have the answer)"
	late := atLeast(1.1, "ctload", "wrk")
	late.remark = "(ours waits for the server to close)"
	return row{
		name: "http", unit: "requests/s", setup: l.nginx,
		work: "a new connection for each request, 100 at once, nginx in another namespace, " +
			"one generator core",
		contenders: []contender{
			l.ours("", generatorCPU, spec),
			{"ab", "ab", l.ab(generatorCPU, url, 30_000)},
			l.ours(", client closes", generatorCPU, like),
			{"wrk", "wrk", l.wrk(generatorCPU, url, "1")},
		},
		wants: []want{atLeast(1.5, "ctload", "ab"), early, late},
	}
}

func (l *lab) tcp() row {
	ports := []uint16{firstPort}
	return row{
		name: "tcp", unit: "connections/s",
		work:  "connect and reset, against an accept loop that answers requests, all cores",
		setup: l.responder("router", responders.Spec{Kind: responders.HTTP, Ports: ports}),
		contenders: []contender{
			l.ours("", "", generators.Spec{
				Kind: generators.TCP, Target: routerAddress, Ports: ports, Concurrency: 100,
				Close: generators.CloseRST, Duration: floodTime,
			}),
			{"ab", "ab", l.ab("", loopURL, 30_000)},
			{"wrk", "wrk", l.wrk("", loopURL, "2")},
			{"h2load", "h2load", l.h2load("", loopURL)},
		},
		wants: []want{atLeast(1.5, "ctload", "ab", "wrk", "h2load")},
	}
}

// rules returns a setup that only loads rules, and removes them afterwards.
func (l *lab) rules(namespace, text string) setup {
	return func(ctx context.Context) (func() error, error) {
		undo := func() error { return l.nft(context.WithoutCancel(ctx), namespace, "") }
		return undo, l.nft(ctx, namespace, text)
	}
}

func (l *lab) synDropped() row {
	return row{
		name: "syn", unit: "packets/s",
		work:       "SYNs from many sources, the receiver drops at ingress, one core",
		setup:      l.rules("router", dropAtIngress),
		contenders: l.floods(routerAddress, l.flood),
		wants:      []want{atLeast(1.2, "ctload", "trafgen"), atLeast(4, "ctload", "hping3")},
	}
}

// floods returns the contenders that send SYNs without end, each measured by how.
func (l *lab) floods(target string, how func(command) measurement) []contender {
	return []contender{
		{"ctload", "", how(l.endless(synSpec(target)))},
		{"trafgen", "trafgen", how(l.trafgen(target))},
		{"hping3", "hping3", how(l.hping("--rand-source", "-S", "-p", "80", target))},
	}
}

// synSpec returns SYNs for a minute, which the bench ends early.
func synSpec(target string) generators.Spec {
	return generators.Spec{
		Kind: generators.SYN, Target: target, Ports: []uint16{80}, Sources: crowd, Seed: 1,
		Workers: 1, Duration: time.Minute, Reuse: true,
	}
}

// endless returns a generator of a spec that the bench ends.
func (l *lab) endless(spec generators.Spec, prefix ...string) command {
	return func(ctx context.Context) *exec.Cmd {
		program := slices.Concat(prefix, []string{selfPath, "generate"})
		return withInput(l.in(ctx, "client", generatorCPU, program...), spec)
	}
}

func (l *lab) trafgen(target string) command {
	return func(ctx context.Context) *exec.Cmd {
		config, err := l.trafgenSYN(ctx, target)
		cmd := l.in(ctx, "client", generatorCPU,
			"trafgen", "--dev", "link", "--conf", config, "--cpus", "1", "--no-sock-mem", "-q")
		cmd.Err = errors.Join(cmd.Err, err)
		return cmd
	}
}

func (l *lab) hping(args ...string) command {
	all := slices.Concat([]string{"hping3", "--flood", "-q"}, args)
	return func(ctx context.Context) *exec.Cmd { return l.in(ctx, "client", generatorCPU, all...) }
}

// while returns what watch measures while a command runs, and ends the command.
func (l *lab) while(cmd *exec.Cmd, watch func() (float64, error)) (figure float64, err error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	started := time.Now()
	defer func() { err = errors.Join(err, end(cmd)); l.ran(cmd, started) }()
	return watch()
}

// flood returns a measurement of a command that sends without end: the packets per second at the
// router's end of the link, after half a second.
func (l *lab) flood(tool command) measurement {
	return func(ctx context.Context) (float64, error) {
		cmd := tool(ctx)
		return l.while(cmd, func() (float64, error) {
			errs := []error{rest(ctx, 500*time.Millisecond)}
			before, beforeErr := l.arrived(ctx)
			start := time.Now()
			errs = append(errs, beforeErr, rest(ctx, floodTime))
			after, err := l.arrived(ctx)
			if err := errors.Join(append(errs, err)...); err != nil {
				return 0, err
			}
			if after == before {
				return 0, fmt.Errorf("%v does nothing", cmd.Args[4:])
			}
			return (after - before) / time.Since(start).Seconds(), nil
		})
	}
}

// arrived returns how many packets have come to the router from the client.
func (l *lab) arrived(ctx context.Context) (float64, error) {
	return l.number(ctx, "cat", "/sys/class/net/near/statistics/rx_packets")
}

// number runs a command in the router's namespace and returns the number that it prints.
func (l *lab) number(ctx context.Context, args ...string) (float64, error) {
	return number(l.in(ctx, "router", "", args...))
}

func number(cmd *exec.Cmd) (float64, error) {
	out, err := output(cmd)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

// trackedRow sets up rows that fill the router's table.
func (l *lab) trackedRow(ctx context.Context) (func() error, error) {
	undo, err := l.rules("router", trackForward)(ctx)
	if err != nil {
		return nil, err
	}
	undoFar, err := l.rules("far", dropAtFar)(ctx)
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	return func() error { return errors.Join(undoFar(), undo()) }, nil
}

// forget empties the router's table.
func (l *lab) forget(ctx context.Context) error {
	_, err := output(l.in(ctx, "router", "", "conntrack", "-F"))
	return err
}

func (l *lab) synTracked() row {
	return row{
		name: "syn-tracked", unit: "entries/s",
		work: "SYNs from many sources through a router that tracks them: entries created, " +
			"one core",
		setup:      l.trackedRow,
		contenders: l.floods(farAddress, l.filling),
		wants:      []want{atLeast(1, "ctload", "trafgen"), atLeast(1.2, "ctload", "hping3")},
	}
}

// filling returns a measurement of how fast a command fills the router's empty table between a
// tenth of the entries and all of them, or for as long as a flood is measured.
func (l *lab) filling(tool command) measurement {
	return func(ctx context.Context) (float64, error) {
		if err := l.forget(ctx); err != nil {
			return 0, err
		}
		cmd := tool(ctx)
		return l.while(cmd, func() (float64, error) {
			var start time.Time
			var first float64
			for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
				n, err := l.number(ctx, "cat", "/proc/sys/net/netfilter/nf_conntrack_count")
				if err != nil {
					return 0, err
				}
				switch {
				case start.IsZero() && n >= entries/10:
					start, first = time.Now(), n
				case !start.IsZero() && (n >= entries || time.Since(start) > floodTime):
					return (n - first) / time.Since(start).Seconds(), nil
				}
				if err := rest(ctx, 20*time.Millisecond); err != nil {
					return 0, err
				}
			}
			return 0, fmt.Errorf("%v does not fill the table", cmd.Args[4:])
		})
	}
}

func (l *lab) udp() row {
	sockets := generators.Spec{
		Kind: generators.UDP, Target: routerAddress, Ports: portsFrom(1, 65535), Reuse: true,
		Duration: time.Minute, Workers: 1,
	}
	crafted := synSpec(routerAddress)
	crafted.Kind, crafted.Crafted = generators.UDP, true
	// Without a capability, as an ordinary user's process.
	unprivileged := l.endless(sockets,
		"setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
	random := l.hping("--rand-source", "--udp", "-p", "80", routerAddress)
	privileged := atLeast(3, "ctload, crafted", "hping3", "hping3 --rand-source")
	privileged.remark = "(both with CAP_NET_RAW)"
	return row{
		name: "udp", unit: "flows/s",
		work: "datagrams of new flows, dropped at ingress, one core: from sockets without " +
			"privilege, and crafted with CAP_NET_RAW, which hping3 has",
		setup: l.rules("router", dropAtIngress),
		contenders: []contender{
			{"ctload, unprivileged", "", l.flood(unprivileged)},
			{"ctload, crafted", "", l.flood(l.endless(crafted))},
			{"hping3", "hping3", l.flood(l.hping("--udp", "-p", "80", routerAddress))},
			{"hping3 --rand-source", "hping3", l.flood(random)},
		},
		wants: []want{atLeast(3, "ctload, unprivileged", "hping3"), privileged},
	}
}

func (l *lab) handshake() row {
	const target = "10.91.0.1" // in farCrowd
	return row{
		name: "handshake", unit: "entries/s",
		work: "ESTABLISHED, ASSURED entries in a router that tracks them, the same far end, " +
			"all cores",
		setup: l.rules("router", trackForward),
		contenders: []contender{
			{"ctload", "", l.holding(func(ctx context.Context) (held, error) {
				out, err := l.generator(ctx, "", handshakes(target, entries))
				return held{seconds: out.Result.Elapsed.Seconds()}, err
			})},
			{"connect loop", "", l.holding(func(ctx context.Context) (held, error) {
				return l.connectLoops(ctx, target, entries)
			})},
		},
		wants: []want{atLeast(2, "ctload", "connect loop")},
	}
}

func handshakes(target string, count int64) generators.Spec {
	return generators.Spec{
		Kind: generators.Handshake, Target: target, Ports: portList(), Sources: crowd, Seed: 1,
		Count: count,
	}
}

// farEnd starts a far end without sockets, which completes handshakes.
func (l *lab) farEnd(ctx context.Context) (func() error, error) {
	return l.responder("far", responders.Spec{
		Kind: responders.Handshake, Address: farCrowd, Ports: portList(),
	})(ctx)
}

// held are connections that a client has made.
type held struct {
	seconds float64 // from the first connect to the last
	release func() error
}

// holding returns a measurement of how fast a client makes entries in an empty table, with a far
// end without sockets. It checks that all entries are there and ASSURED.
func (l *lab) holding(client func(context.Context) (held, error)) measurement {
	return func(ctx context.Context) (rate float64, err error) {
		if err := l.forget(ctx); err != nil {
			return 0, err
		}
		stop, err := l.farEnd(ctx)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		connections, err := client(ctx)
		if connections.release != nil {
			defer func() { err = errors.Join(err, connections.release()) }()
		}
		if err != nil {
			return 0, err
		}
		assured, err := l.number(ctx, "sh", "-c",
			"conntrack -L -p tcp 2>/dev/null | grep ESTABLISHED | grep -c ASSURED || true")
		if err == nil && assured != entries {
			err = fmt.Errorf("%v entries are ASSURED, want %d", assured, entries)
		}
		return entries / connections.seconds, err
	}
}

// memory holds a million connections and measures the generator's memory for them. They go through
// the router untracked, since the table's limit is this host's.
func (l *lab) memory() row {
	const million = 1_000_000
	holds := func(name string, life lifetimes.Distribution) contender {
		return contender{name, "", func(ctx context.Context) (float64, error) {
			spec := handshakes(farCrowd, million)
			if spec.Lifetime = life; !life.None() {
				spec.Close = generators.CloseRST
			}
			out, err := l.generator(ctx, "", spec)
			if n := out.Result.Completed; err == nil && n != million {
				err = fmt.Errorf("%d of %d were completed: %v", n, million, out.Result.Causes)
			}
			return float64(out.PeakMemory) / 1e6, err
		}}
	}
	lives := lifetimes.Distribution{
		Shape: lifetimes.Quantiles, Quantiles: []time.Duration{15 * time.Second, 25 * time.Second},
	}
	return row{
		name: "memory", unit: "MB", setup: l.farEnd,
		work: "resident memory of a generator that holds 1,000,000 handshakes, for good and " +
			"with lives of 15 to 25 s",
		contenders: []contender{
			holds("ctload", lifetimes.Distribution{}), holds("ctload, with lives", lives),
		},
		wants: []want{
			{ours: "ctload", most: 200}, {ours: "ctload, with lives", most: 60},
		},
	}
}

func (l *lab) pacing(rate float64) row {
	var last generators.Result
	spec := generators.Spec{
		Kind: generators.TCP, Target: routerAddress, Ports: portList(), SourcePorts: "1024-65535",
		Close: generators.CloseRST, Rate: rate, Duration: 10 * time.Second,
	}
	silent := responders.Spec{Kind: responders.Silent, Ports: portList()}
	count := func(ctx context.Context) (float64, error) {
		out, err := l.generator(ctx, "", spec)
		last = out.Result
		intended := rate * spec.Duration.Seconds()
		return 100 * math.Abs(float64(last.Offered)-intended) / intended, err
	}
	late := func(context.Context) (float64, error) {
		return 100 * float64(last.Lateness.Quantile(.99)) / float64(pacing.LateAfter), nil
	}
	return row{
		name: fmt.Sprintf("pacing-%.0fk", rate/1000), unit: "%",
		work: fmt.Sprintf("%.0f connections a second for 10 s: "+
			"off the intended count, and the p99 of lateness in percent of 1 ms", rate),
		setup:      l.responder("router", silent),
		contenders: []contender{{"off by", "", count}, {"late p99", "", late}},
		together:   true,
		wants:      []want{{ours: "off by", most: .5}, {ours: "late p99", most: 100}},
	}
}
