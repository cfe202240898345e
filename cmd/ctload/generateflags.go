package main

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/scenarios"
)

// generateFlags are the flags of `ctload generate`, in the units that people write.
type generateFlags struct {
	spec           generators.Spec
	ports, payload string
	profile        profileText
	format         string
}

// commonFlags are those of every kind, and profileFlags those of them of which one at most is given.
var (
	commonFlags = []string{"number", "duration", "rate", "ramp", "stages", "burst", "sine", "catch-up", "slack", "timeout",
		"sources", "source-ports", "seed", "workers", "cpus", "namespace", "allow-public", "format"}
	profileFlags = []string{"rate", "ramp", "stages", "burst", "sine"}
)

// declare makes the flags of all kinds.
func (f *generateFlags) declare() *pflag.FlagSet {
	flags := pflag.NewFlagSet("generate", pflag.ContinueOnError)
	s := &f.spec
	flags.Int64VarP(&s.Count, "number", "n", 0, "how many requests, connections, flows or packets")
	flags.IntVarP(&s.Concurrency, "concurrency", "c", 0, "how many in flight (closed loop; beside a rate, its limit)")
	flags.DurationVarP(&s.Duration, "duration", "t", 0, "how long new ones begin, as 10s")
	flags.StringVarP(&f.profile.rate, "rate", "r", "", "how many begin each second, as 3000/s")
	flags.StringVar(&f.profile.ramp, "ramp", "", "a rate that changes evenly over the duration, as 0/s-5000/s")
	flags.StringVar(&f.profile.stages, "stages", "", "rates and ramps one after another, as 0/s-1000/s:10s,1000/s:1m")
	flags.StringVar(&f.profile.burst, "burst", "", "so many at once, again and again, as 500:1s")
	flags.StringVar(&f.profile.sine, "sine", "", "a rate that swings: mean, by how much, period, as 1000/s:800/s:30s")
	flags.BoolVar(&s.CatchUp, "catch-up", false, "make up for missed slots of the schedule, in bursts")
	flags.DurationVar(&s.Slack, "slack", 0, "how late a send may be before its slot is given up (default 10ms)")
	flags.DurationVar(&s.Timeout, "timeout", 0, "for each request, connection or answer (default 10s, probe 1s)")
	flags.IntVar(&s.SYNRetries, "syn-retries", 0, "how often the kernel repeats a SYN (default: its tcp_syn_retries)")
	flags.StringVarP(&f.ports, "ports", "p", "", "destination ports used in turn, as 80 or 8000-8063,9000")
	flags.StringVar(&s.Sources, "sources", "", "source addresses: addresses, prefixes, ranges, separated by commas")
	flags.StringVar(&s.SourcePorts, "source-ports", "", "source ports used in turn, as 1024-65535 (icmp: ids)")
	flags.BoolVar(&s.Crafted, "crafted", false, "packets from any --sources, from no socket and unanswered; only in a namespace made for them")
	flags.BoolVar(&s.FreeBind, "free-bind", false, "take source addresses that no interface has")
	flags.Uint64Var(&s.Seed, "seed", 0, "order of the tuples; 0: in order")
	flags.BoolVar(&s.Reuse, "reuse", false, "begin again when every tuple has been used")
	flags.StringVar((*string)(&s.Close), "close", "", "how a connection ends: fin, rst, abandon, half-close (not all with every kind)")
	flags.StringVar((*string)(&s.CloseBy), "close-by", "", "who closes first: client or server")
	flags.IntVarP(&s.KeepAlive, "keep-alive", "k", 0, "requests on each connection")
	flags.StringVar(&f.payload, "payload", "", "what is sent on each connection, or in each datagram or packet, as 100B or 1KiB")
	flags.IntVar(&s.Expect, "expect", 0, "bytes to wait for before closing")
	flags.IntVar(&s.Exchanges, "exchanges", 0, "datagrams of a conversation, each sent when the one before was answered")
	flags.DurationVar(&s.Hold, "hold", 0, "how long each connection stays open")
	flags.DurationVar(&s.Interval, "interval", 0, "between the payloads of a held connection, or the datagrams of a conversation")
	flags.BoolVar(&s.Reply, "reply", false, "wait for an answer to each")
	flags.StringVar((*string)(&s.Protocol), "protocol", "", "tcp, udp or icmp (default tcp)")
	flags.StringVar(&s.Interface, "interface", "", "that crafted packets leave by (default: the route's)")
	flags.StringVar(&s.Gateway, "gateway", "", "hardware address that crafted packets go to (default: the next hop's)")
	flags.IntVar(&s.Workers, "workers", 0, "threads (default: one for each CPU)")
	flags.IntSliceVar(&s.CPUs, "cpus", nil, "CPUs that the threads are pinned to, as 0,1")
	flags.StringVar(&s.Namespace, "namespace", "", "file of the network namespace to work in, as /run/netns/client")
	flags.BoolVar(&s.AllowPublic, "allow-public", false, "permit a target outside private, loopback and test ranges")
	flags.StringVar(&f.format, "format", "ab", "ab or json")
	return flags
}

// read completes the spec from the target and from the flags that carry units.
func (f *generateFlags) read(ctx context.Context, target string) error {
	s := &f.spec
	if err := f.profile.read(s); err != nil {
		return err
	}
	if f.payload != "" {
		var size scenarios.Size
		if err := size.UnmarshalText([]byte(f.payload)); err != nil {
			return fmt.Errorf("--payload: %w", err)
		}
		s.Payload = int(size)
	}
	if s.Kind == generators.HTTP {
		return f.readURL(ctx, target)
	}
	if host, port, err := net.SplitHostPort(target); err == nil {
		if f.ports != "" {
			return fmt.Errorf("both %s and --ports %s say where to", target, f.ports)
		}
		target, f.ports = host, port
	}
	s.Target = strings.Trim(target, "[]")
	if f.ports == "" {
		return nil
	}
	var err error
	s.Ports, err = expandPorts(f.ports)
	return err
}

// readURL aims http load; a concurrency that nobody gave is 1, as ab's.
func (f *generateFlags) readURL(ctx context.Context, target string) error {
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	aim, err := generators.ParseURL(ctx, target)
	if err != nil {
		return err
	}
	s := &f.spec
	s.Target, s.Ports, s.Path, s.Host = aim.Target, aim.Ports, aim.Path, aim.Host
	if f.ports != "" {
		if s.Ports, err = expandPorts(f.ports); err != nil {
			return err
		}
	}
	if s.Concurrency == 0 && s.Rate == 0 && s.Profile == nil {
		s.Concurrency = 1
	}
	return nil
}

// expandPorts reads ports and ranges separated by commas.
func expandPorts(text string) ([]uint16, error) {
	var ports []uint16
	for word := range strings.SplitSeq(text, ",") {
		var r scenarios.PortRange
		if err := r.UnmarshalText([]byte(word)); err != nil {
			return nil, fmt.Errorf("--ports: %w", err)
		}
		ports = append(ports, scenarios.Ports{r}.Expand()...)
	}
	return ports, nil
}
