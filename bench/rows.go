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
	return []row{l.http(), l.tcp(), l.synDropped(), l.synTracked(), l.udp(), l.handshake(), l.memory(), l.pacing(1000), l.pacing(10_000), l.pacing(50_000), l.sampling()}
}

// ours returns a contender that runs a generator and takes its rate.
func (l *lab) ours(name, cpus string, spec generators.Spec) contender {
	return contender{name: name, measure: func(ctx context.Context) (float64, error) {
		out, err := l.generator(ctx, cpus, spec)
		return out.Result.Rate(), err
	}}
}

func (l *lab) http() row {
	spec := generators.Spec{Kind: generators.HTTP, Target: routerAddress, Ports: []uint16{80}, Concurrency: 100, Duration: floodTime, Workers: 1}
	like := spec
	like.CloseBy = generators.Client
	return row{
		name: "http", unit: "requests/s",
		work:  "a new connection for each request, 100 at once, nginx in another namespace, one generator core",
		setup: func(ctx context.Context) (func() error, error) { return l.nginx(ctx, targetCPU) },
		contenders: []contender{
			l.ours("ctload", generatorCPU, spec),
			{name: "ab", program: "ab", measure: func(ctx context.Context) (float64, error) { return l.ab(ctx, generatorCPU, url, 30_000) }},
			l.ours("ctload, client closes", generatorCPU, like),
			{name: "wrk", program: "wrk", measure: func(ctx context.Context) (float64, error) { return l.wrk(ctx, generatorCPU, url, 1, floodTime) }},
		},
		wants: []want{
			{ours: "ctload", best: []string{"ab"}, least: 1.5},
			{ours: "ctload, client closes", best: []string{"wrk"}, least: 1.1, remark: "(both close as soon as they have the answer)"},
			{ours: "ctload", best: []string{"wrk"}, least: 1.1, remark: "(ours waits for the server to close)"},
		},
	}
}

func (l *lab) tcp() row {
	spec := generators.Spec{Kind: generators.TCP, Target: routerAddress, Ports: []uint16{firstPort}, Concurrency: 100, Close: generators.CloseRST, Duration: floodTime}
	return row{
		name: "tcp", unit: "connections/s",
		work: "connect and reset, against an accept loop that answers those who ask, all cores",
		setup: func(ctx context.Context) (func() error, error) {
			return l.responder(ctx, "router", responders.Spec{Kind: responders.HTTP, Ports: []uint16{firstPort}})
		},
		contenders: []contender{
			l.ours("ctload", "", spec),
			{name: "ab", program: "ab", measure: func(ctx context.Context) (float64, error) { return l.ab(ctx, "", loopURL, 30_000) }},
			{name: "wrk", program: "wrk", measure: func(ctx context.Context) (float64, error) { return l.wrk(ctx, "", loopURL, 2, floodTime) }},
			{name: "h2load", program: "h2load", measure: func(ctx context.Context) (float64, error) { return l.h2load(ctx, "", loopURL, 2, 30_000) }},
		},
		wants: []want{{ours: "ctload", best: []string{"ab", "wrk", "h2load"}, least: 1.5}},
	}
}

// rules returns a setup that only loads rules, and removes them afterwards.
func (l *lab) rules(namespace, text string) func(ctx context.Context) (func() error, error) {
	return func(ctx context.Context) (func() error, error) {
		if err := l.nft(ctx, namespace, text); err != nil {
			return nil, err
		}
		return func() error { return l.nft(context.WithoutCancel(ctx), namespace, "") }, nil
	}
}

func (l *lab) synDropped() row {
	return row{
		name: "syn", unit: "packets/s",
		work:  "SYNs from many sources, the receiver drops at ingress, one core",
		setup: l.rules("router", dropAtIngress),
		contenders: []contender{
			l.flood("ctload", "", func(ctx context.Context) *exec.Cmd { return l.floodCommand(ctx, synSpec(routerAddress, 0)) }),
			l.flood("trafgen", "trafgen", func(ctx context.Context) *exec.Cmd { return l.trafgen(ctx, routerAddress) }),
			l.flood("hping3", "hping3", func(ctx context.Context) *exec.Cmd { return l.hping(ctx, routerAddress, "-S", "-p", "80") }),
		},
		wants: []want{{ours: "ctload", best: []string{"trafgen"}, least: 1.2}, {ours: "ctload", best: []string{"hping3"}, least: 4}},
	}
}

func synSpec(target string, count int64) generators.Spec {
	spec := generators.Spec{Kind: generators.SYN, Target: target, Ports: []uint16{80}, Sources: crowd, Seed: 1, Workers: 1, Count: count}
	if count == 0 {
		spec.Duration, spec.Reuse = time.Minute, true // the bench ends it
	}
	return spec
}

// floodCommand returns a generator that goes on until the bench ends it.
func (l *lab) floodCommand(ctx context.Context, spec generators.Spec) *exec.Cmd {
	return withInput(l.in(ctx, "client", generatorCPU, selfPath, "generate"), spec)
}

func (l *lab) trafgen(ctx context.Context, target string) *exec.Cmd {
	config, err := l.trafgenSYN(ctx, target)
	cmd := l.in(ctx, "client", generatorCPU, "trafgen", "--dev", "link", "--conf", config, "--cpus", "1", "--no-sock-mem", "-q")
	cmd.Err = errors.Join(cmd.Err, err)
	return cmd
}

func (l *lab) hping(ctx context.Context, target string, args ...string) *exec.Cmd {
	all := slices.Concat([]string{"hping3", "--flood", "-q", "--rand-source"}, args, []string{target})
	return l.in(ctx, "client", generatorCPU, all...)
}

// flood returns a contender that sends without end; it counts the packets at the router's end of
// the link, between two readings.
func (l *lab) flood(name, program string, command func(ctx context.Context) *exec.Cmd) contender {
	return contender{name: name, program: program, measure: func(ctx context.Context) (float64, error) {
		return l.between(ctx, command(ctx), 500*time.Millisecond, floodTime, l.arrived)
	}}
}

// between starts a command, lets it warm up, and returns the growth of a counter per second.
func (l *lab) between(ctx context.Context, cmd *exec.Cmd, warmUp, during time.Duration, counter func() (float64, error)) (rate float64, err error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	started := time.Now()
	defer func() { err = errors.Join(err, end(cmd)); l.ran(cmd, started) }()
	if err := rest(ctx, warmUp); err != nil {
		return 0, err
	}
	before, err := counter()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := rest(ctx, during); err != nil {
		return 0, err
	}
	after, err := counter()
	if err != nil {
		return 0, err
	}
	if after == before {
		return 0, fmt.Errorf("%v does nothing", cmd.Args[4:])
	}
	return (after - before) / time.Since(start).Seconds(), nil
}

// arrived returns how many packets have come to the router from the client.
func (l *lab) arrived() (float64, error) {
	return number(l.in(context.Background(), "router", "", "cat", "/sys/class/net/near/statistics/rx_packets"))
}

// tracked returns how many entries the router's table has.
func (l *lab) tracked() (float64, error) {
	return number(l.in(context.Background(), "router", "", "cat", "/proc/sys/net/netfilter/nf_conntrack_count"))
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
	fill := func(name, program string, command func(ctx context.Context) *exec.Cmd) contender {
		return contender{name: name, program: program, measure: func(ctx context.Context) (float64, error) {
			if err := l.forget(ctx); err != nil {
				return 0, err
			}
			return l.filling(ctx, command(ctx))
		}}
	}
	return row{
		name: "syn-tracked", unit: "entries/s",
		work:  "SYNs from many sources through a router that tracks them: entries created, one core",
		setup: l.trackedRow,
		contenders: []contender{
			fill("ctload", "", func(ctx context.Context) *exec.Cmd { return l.floodCommand(ctx, synSpec(farAddress, 0)) }),
			fill("trafgen", "trafgen", func(ctx context.Context) *exec.Cmd { return l.trafgen(ctx, farAddress) }),
			fill("hping3", "hping3", func(ctx context.Context) *exec.Cmd { return l.hping(ctx, farAddress, "-S", "-p", "80") }),
		},
		wants: []want{{ours: "ctload", best: []string{"trafgen"}, least: 1}, {ours: "ctload", best: []string{"hping3"}, least: 1.2}},
	}
}

// filling starts a command and returns how fast the router's table fills between a tenth of the
// entries and all of them, or for as long as a flood is measured.
func (l *lab) filling(ctx context.Context, cmd *exec.Cmd) (rate float64, err error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	started := time.Now()
	defer func() { err = errors.Join(err, end(cmd)); l.ran(cmd, started) }()
	var start time.Time
	var first float64
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		n, err := l.tracked()
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
}

func (l *lab) udp() row {
	sockets := generators.Spec{Kind: generators.UDP, Target: routerAddress, Ports: portsFrom(1, 65535), Reuse: true, Duration: time.Minute, Workers: 1}
	crafted := synSpec(routerAddress, 0)
	crafted.Kind, crafted.Crafted = generators.UDP, true
	return row{
		name: "udp", unit: "flows/s",
		work:  "datagrams of new flows, dropped at ingress, one core: from sockets without privilege, and crafted with CAP_NET_RAW, which hping3 has",
		setup: l.rules("router", dropAtIngress),
		contenders: []contender{
			l.flood("ctload, unprivileged", "", func(ctx context.Context) *exec.Cmd {
				// Without a capability, as an ordinary user's process.
				return withInput(l.in(ctx, "client", generatorCPU, "setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
					selfPath, "generate"), sockets)
			}),
			l.flood("ctload, crafted", "", func(ctx context.Context) *exec.Cmd { return l.floodCommand(ctx, crafted) }),
			l.flood("hping3", "hping3", func(ctx context.Context) *exec.Cmd {
				return l.in(ctx, "client", generatorCPU, "hping3", "--udp", "--flood", "-q", "-p", "80", routerAddress)
			}),
			l.flood("hping3 --rand-source", "hping3", func(ctx context.Context) *exec.Cmd { return l.hping(ctx, routerAddress, "--udp", "-p", "80") }),
		},
		wants: []want{
			{ours: "ctload, unprivileged", best: []string{"hping3"}, least: 3},
			{ours: "ctload, crafted", best: []string{"hping3", "hping3 --rand-source"}, least: 3, remark: "(both with CAP_NET_RAW)"},
		},
	}
}

func (l *lab) handshake() row {
	spec := generators.Spec{Kind: generators.Handshake, Target: heldTarget, Ports: portList(), Sources: crowd, Seed: 1, Count: entries}
	return row{
		name: "handshake", unit: "entries/s",
		work:  "ESTABLISHED, ASSURED entries in a router that tracks them, the same far end, all cores",
		setup: l.rules("router", trackForward),
		contenders: []contender{
			{name: "ctload", measure: func(ctx context.Context) (float64, error) {
				return l.holding(ctx, func() (float64, func() error, error) {
					out, err := l.generator(ctx, "", spec)
					return out.Result.Elapsed.Seconds(), func() error { return nil }, err
				})
			}},
			{name: "connect loop", measure: func(ctx context.Context) (float64, error) {
				return l.holding(ctx, func() (float64, func() error, error) { return l.connectLoops(ctx, heldTarget, entries) })
			}},
		},
		wants: []want{{ours: "ctload", best: []string{"connect loop"}, least: 2}},
	}
}

// heldTarget is an address of the far crowd.
const heldTarget = "10.91.0.1"

// holding measures how fast a client makes entries, with a far end without sockets and an empty
// table, and checks that all entries are there and ASSURED.
func (l *lab) holding(ctx context.Context, client func() (float64, func() error, error)) (rate float64, err error) {
	if err := l.forget(ctx); err != nil {
		return 0, err
	}
	stop, err := l.responder(ctx, "far", responders.Spec{Kind: responders.Handshake, Address: farCrowd, Ports: portList()})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	seconds, release, err := client()
	defer func() { err = errors.Join(err, release()) }()
	if err != nil {
		return 0, err
	}
	assured, err := number(l.in(ctx, "router", "", "sh", "-c", "conntrack -L -p tcp 2>/dev/null | grep ESTABLISHED | grep -c ASSURED || true"))
	if err != nil {
		return 0, err
	}
	if assured != entries {
		return 0, fmt.Errorf("%v ASSURED entries are there, %d were to be", assured, entries)
	}
	return entries / seconds, nil
}

// memory holds a million connections and measures the generator's memory for them. They go through
// the router untracked, since the table's limit is this host's.
func (l *lab) memory() row {
	const million = 1_000_000
	spec := generators.Spec{Kind: generators.Handshake, Target: farCrowd, Ports: portList(), Sources: crowd, Seed: 1, Count: million}
	return row{
		name: "memory", unit: "MB",
		work: "resident memory of a generator that holds 1,000,000 handshakes",
		setup: func(ctx context.Context) (func() error, error) {
			return l.responder(ctx, "far", responders.Spec{Kind: responders.Handshake, Address: farCrowd, Ports: portList()})
		},
		contenders: []contender{{name: "ctload", measure: func(ctx context.Context) (float64, error) {
			out, err := l.generator(ctx, "", spec)
			if err == nil && out.Result.Completed != million {
				err = fmt.Errorf("%d of %d were completed: %v", out.Result.Completed, million, out.Result.Causes)
			}
			return float64(out.PeakMemory) / 1e6, err
		}}},
		wants: []want{{ours: "ctload", most: 200}},
	}
}

func (l *lab) pacing(rate float64) row {
	count := contender{name: "off by", measure: nil}
	late := contender{name: "late p99", measure: nil}
	var last generators.Result
	spec := generators.Spec{
		Kind: generators.TCP, Target: routerAddress, Ports: portList(), Close: generators.CloseRST,
		Rate: rate, Duration: 10 * time.Second, SourcePorts: "1024-65535",
	}
	count.measure = func(ctx context.Context) (float64, error) {
		out, err := l.generator(ctx, "", spec)
		last = out.Result
		intended := rate * spec.Duration.Seconds()
		return 100 * math.Abs(float64(last.Offered)-intended) / intended, err
	}
	late.measure = func(context.Context) (float64, error) {
		return 100 * float64(last.Lateness.Quantile(.99)) / float64(pacing.LateAfter), nil
	}
	return row{
		name: fmt.Sprintf("pacing-%.0fk", rate/1000), unit: "%",
		work: fmt.Sprintf("%.0f connections a second for 10 s: off the intended count, and the p99 of lateness in percent of 1 ms", rate),
		setup: func(ctx context.Context) (func() error, error) {
			return l.responder(ctx, "router", responders.Spec{Kind: responders.Silent, Ports: portList()})
		},
		contenders: []contender{count, late}, together: true,
		wants: []want{{ours: "off by", most: .5}, {ours: "late p99", most: 100}},
	}
}
