package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/pacing"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/scenarios"
)

type generateFlags struct {
	spec   generators.Spec
	ramp   *pacing.Stage // without its duration
	format string
}

// commonFlags are the flags of every kind; at most one of profileFlags may be given.
const (
	commonFlags = profileFlags + " number duration arrivals catch-up slack timeout sources zipf" +
		" source-ports seed workers cpus namespace allow-public format"
	profileFlags = "rate ramp stages burst sine"
)

// The largest values that flags of generators accept: more than any host can do, and far from
// overflow.
const (
	mostThings  = 1 << 50
	mostThreads = 1024
)

func (f *generateFlags) declare() *pflag.FlagSet {
	flags := pflag.NewFlagSet("generate", pflag.ContinueOnError)
	s := &f.spec
	flags.VarP(countFlag(&s.Count, 1, mostThings), "number", "n",
		"how many begin, such as 5000 or 5k")
	flags.VarP(countFlag(&s.Concurrency, 1, 1<<30), "concurrency", "c",
		"how many in flight (closed loop; beside a rate, its limit)")
	flags.VarP(durationFlag(&s.Duration), "duration", "t", "how long new ones begin, such as 10s")
	flags.VarP(rateFlag(&s.Rate), "rate", "r", "how many begin each second, such as 3000/s or 3000")
	flags.Var(&flagValue{kind: "ramp", read: f.readRamp}, "ramp",
		"a rate that changes evenly over the duration, such as 0/s-5000/s")
	flags.Var(&flagValue{kind: "stages", read: f.readStages}, "stages",
		"rates and ramps one after another, such as 0/s-1000/s:10s,1000/s:1m")
	var bursts pacing.Bursts
	flags.Var(f.profileFlag("burst", "500:1s", generators.Profile{Bursts: &bursts},
		countFlag(&bursts.Size, 1, mostThings), durationFlag(&bursts.Every)), "burst",
		"number at once, and the time between two bursts, such as 500:1s")
	var sine pacing.Sine
	flags.Var(f.profileFlag("sine", "1000/s:800/s:30s", generators.Profile{Sine: &sine},
		rateFlag(&sine.Mean), rateFlag(&sine.Amplitude), durationFlag(&sine.Period)), "sine",
		"a rate that swings: mean, amplitude, period, such as 1000/s:800/s:30s")
	addWord(flags, &s.Arrivals, "arrivals", "how those of a rate lie in time (default even; "+
		"poisson: independent of each other, as those of many users)", "",
		generators.Even, generators.Poisson)
	flags.BoolVar(&s.CatchUp, "catch-up", false, "make up for missed slots, in bursts")
	flags.Var(durationFlag(&s.Slack), "slack",
		"how late a send may be (default 10ms; a burst has until the next one)")
	flags.Var(durationFlag(&s.Timeout), "timeout", "limit for each (default 10s, of a probe 1s)")
	flags.Var(countFlag(&s.SYNRetries, 1, 127), "syn-retries",
		"how often the kernel repeats a SYN (default: its tcp_syn_retries)")
	flags.VarP(portsFlag(&s.Ports, false), "ports", "p",
		"destination ports used in turn, such as 80 or 8000-8063,9000")
	flags.Var(textFlag(&s.Sources, "addresses", "10.9.0.0/16"), "sources",
		"source addresses: addresses, prefixes, ranges, separated by commas")
	flags.Var(&flagValue{kind: "number", read: f.readZipf}, "zipf",
		"weigh the sources: the k-th has a share proportional to 1/k^NUMBER, such as 1.2")
	flags.Var(&flagValue{kind: "ports", read: f.readSourcePorts}, "source-ports",
		"source ports used in turn, such as 1024-65535 (icmp: ids)")
	flags.BoolVar(&s.Crafted, "crafted", false, "send packets from any --sources, without sockets "+
		"and unanswered; only in a namespace made for them")
	flags.BoolVar(&s.FreeBind, "free-bind", false, "take source addresses that no interface has")
	flags.Var(seedFlag(&s.Seed), "seed", "order of the tuples (0: in order), "+
		"lifetimes and arrivals")
	flags.BoolVar(&s.Reuse, "reuse", false, "begin again when every tuple has been used")
	addWord(flags, &s.Close, "close", "how a connection ends (not all with every kind)", "",
		generators.CloseFIN, generators.CloseRST, generators.CloseAbandon, generators.CloseHalf)
	addWord(flags, &s.CloseBy, "close-by", "closes first", "", generators.Client, generators.Server)
	flags.VarP(countFlag(&s.KeepAlive, 1, 1<<30), "keep-alive", "k", "requests on each connection")
	flags.BoolVar(&s.CloseOnError, "close-on-error", false,
		"end a kept-alive connection after an answer of 400 or above")
	flags.Var(sizeFlag(&s.Payload), "payload", "bytes for each connection or packet, as 1KiB")
	flags.Var(sizeFlag(&s.Expect), "expect", "bytes to receive before closing, such as 100B")
	flags.Var(countFlag(&s.Exchanges, 1, 1<<20), "exchanges", "datagrams of each conversation")
	flags.Var(&flagValue{kind: "lifetime", read: f.readLifetime}, "lifetime", "how long each "+
		"stays, such as 10s, exponential(10s), lognormal(10s,1.2), or quantiles, such as 1s,5s,1m")
	flags.Var(durationFlag(&s.Interval), "interval", "time between payloads or datagrams, as 1s")
	flags.BoolVar(&s.Reply, "reply", false, "wait for an answer to each")
	addWord(flags, &s.Protocol, "protocol", "protocol (default tcp)", "",
		generators.ProtocolTCP, generators.ProtocolUDP, generators.ProtocolICMP)
	flags.Var(textFlag(&s.Interface, "interface", "eth0"), "interface",
		"interface that crafted packets leave by (default: the route's)")
	flags.Var(textFlag(&s.Gateway, "hardware address", "02:00:00:00:00:01"), "gateway",
		"hardware address that crafted packets go to (default: the next hop's)")
	flags.Var(cpusFlag(&s.CPUs), "cpus", "CPUs that the threads are pinned to, as 0,1")
	addPlace(flags, &s.Workers, &s.Namespace)
	flags.BoolVar(&s.AllowPublic, "allow-public", false,
		"permit public addresses, and crafted packets beside a default route")
	addFormat(flags, &f.format, "ab", "ab", "json")
	return flags
}

// readLifetime parses the lifetime of connections and flows.
func (f *generateFlags) readLifetime(text string) error {
	var l scenarios.Lifetime
	err := l.UnmarshalText([]byte(text))
	f.spec.Lifetime = wiring.Lifetime(l)
	return err
}

// readZipf parses the exponent of the sources' weights.
func (f *generateFlags) readZipf(text string) error {
	var w scenarios.Weights
	err := w.UnmarshalText([]byte("zipf(" + text + ")"))
	f.spec.Zipf = float64(w)
	return err
}

// readSourcePorts parses ports, which a spec keeps as text.
func (f *generateFlags) readSourcePorts(text string) error {
	f.spec.SourcePorts = text
	return portsFlag(new([]uint16), false).Set(text)
}

// read completes the spec from the target and from the flags that belong together.
func (f *generateFlags) read(cmd *cobra.Command, target string) error {
	s := &f.spec
	if err := exclusive(cmd, strings.Fields(profileFlags)...); err != nil {
		return err
	}
	if f.ramp != nil {
		if s.Duration <= 0 {
			return errors.New("--ramp needs --duration: the time in which the rate changes")
		}
		f.ramp.Duration = s.Duration
		s.Profile = &generators.Profile{Stages: pacing.Stages{*f.ramp}}
	}
	if err := f.checkEffect(cmd.Flags()); err != nil {
		return err
	}
	if s.Kind == generators.HTTP {
		return f.readURL(cmd.Context(), target)
	}
	if address, port, err := net.SplitHostPort(target); err == nil {
		switch ports := cmd.Flags().Lookup("ports"); {
		case ports == nil:
			return fmt.Errorf("%s: packets of %s go to no port: write %s", target, s.Kind, address)
		case ports.Changed:
			return fmt.Errorf("%s and --ports %s: leave one of them out", target, ports.Value)
		}
		if err := portsFlag(&s.Ports, false).Set(port); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
		target = address
	}
	s.Target = strings.Trim(target, "[]")
	return nil
}

// checkEffect refuses flags that change nothing beside the others.
func (f *generateFlags) checkEffect(flags *pflag.FlagSet) error {
	s := &f.spec
	const paced = "a rate: --rate, --ramp, --stages, --burst or --sine"
	unpaced := s.Rate == 0 && s.Profile == nil
	datagrams := s.Protocol == generators.ProtocolUDP || s.Protocol == generators.ProtocolICMP
	for _, c := range []struct {
		flag  string
		idle  bool
		needs string
	}{
		{"timeout", s.OneWay(), "answers that are awaited: --reply"},
		{"free-bind", s.Sources == "", "--sources"},
		{"zipf", s.Sources == "", "--sources"},
		{"arrivals", unpaced, paced},
		{"catch-up", unpaced, paced},
		{"slack", unpaced, paced},
		{"close-on-error", s.KeepAlive <= 1, "--keep-alive"},
		{"syn-retries", datagrams, "--protocol tcp"},
		{"close", datagrams, "--protocol tcp"},
	} {
		if flag := flags.Lookup(c.flag); flag != nil && flag.Changed && c.idle {
			return fmt.Errorf("--%s does nothing without %s", c.flag, c.needs)
		}
	}
	return nil
}

// readURL sets the target of http load; without the flag, concurrency is 1, as ab's.
func (f *generateFlags) readURL(ctx context.Context, target string) error {
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	aim, err := generators.ParseURL(ctx, target)
	if err != nil {
		return err
	}
	s := &f.spec
	s.Target, s.Path, s.Host = aim.Target, aim.Path, aim.Host
	if len(s.Ports) == 0 {
		s.Ports = aim.Ports
	}
	if s.Concurrency == 0 && s.Rate == 0 && s.Profile == nil {
		s.Concurrency = 1
	}
	return nil
}

func (f *generateFlags) readRamp(text string) (err error) {
	f.ramp = new(pacing.Stage)
	f.ramp.From, f.ramp.To, err = readRates(text)
	return err
}

// readStages parses stages separated by commas, each a rate or a ramp and its duration.
func (f *generateFlags) readStages(text string) (err error) {
	var stages pacing.Stages
	for word := range strings.SplitSeq(text, ",") {
		rates, length, ok := strings.Cut(word, ":")
		if !ok {
			return fmt.Errorf("%q is not a stage, such as 1000/s:10s or 0/s-1000/s:10s", word)
		}
		var stage pacing.Stage
		if stage.From, stage.To, err = readRates(rates); err == nil {
			err = durationFlag(&stage.Duration).Set(length)
		}
		if err != nil {
			return err
		}
		stages = append(stages, stage)
	}
	f.spec.Profile = &generators.Profile{Stages: stages}
	return nil
}

// readRates parses "0/s-5000/s", or a single rate, which is both ends.
func readRates(text string) (from, to float64, err error) {
	first, last, isRamp := strings.Cut(text, "-")
	err = rateFlag(&from).Set(first)
	if !isRamp {
		return from, from, err
	}
	if err == nil {
		err = rateFlag(&to).Set(last)
	}
	if err != nil {
		err = fmt.Errorf("%q is not a ramp, such as 0/s-1000/s: %w", text, err)
	}
	return from, to, err
}

// profileFlag returns the value of a profile that parts, separated by colons, fill.
func (f *generateFlags) profileFlag(
	kind, example string, profile generators.Profile, parts ...*flagValue,
) *flagValue {
	return &flagValue{kind: kind, read: func(text string) error {
		words := strings.Split(text, ":")
		if len(words) != len(parts) {
			return fmt.Errorf("%q has %d of %d parts, as %s", text, len(words), len(parts), example)
		}
		for i, word := range words {
			if err := parts[i].Set(word); err != nil {
				return err
			}
		}
		f.spec.Profile = &profile
		return nil
	}}
}
