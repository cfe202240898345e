package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/scenarios"
)

// generateFlags are the flags of `ctload generate`, in the units that people write.
type generateFlags struct {
	spec                generators.Spec
	ports, rate, format string
}

func generateCommand() *cobra.Command {
	parent := &cobra.Command{
		Use:   "generate",
		Short: "the generators alone, ab-style",
		Long: `Makes load without a lab, towards loopback, a private address, or whatever --allow-public permits. Crafted
packets (syn, handshake, icmp) leave only from a network namespace that you made: ip netns exec NAME ctload ...
or --namespace FILE. Every load is bounded, by -n, --duration or both.

  ctload generate http -c 1000 -n 5000 http://127.0.0.1:8080/`,
	}
	for _, kind := range []struct {
		kind  generators.Kind
		short string
	}{
		{generators.HTTP, "requests, a new connection each unless --keep-alive"},
		{generators.TCP, "connections, closed in a chosen way"},
		{generators.Hold, "connections that are opened and kept"},
		{generators.UDP, "new flows, or conversations that are answered"},
		{generators.SYN, "half-open connections from any source"},
		{generators.Handshake, "full handshakes from addresses that no host owns"},
		{generators.ICMP, "echo requests with varying ids"},
		{generators.Probe, "a steady tcp, udp or icmp bystander"},
	} {
		parent.AddCommand(generateKind(kind.kind, kind.short))
	}
	return parent
}

func generateKind(kind generators.Kind, short string) *cobra.Command {
	f := generateFlags{spec: generators.Spec{Kind: kind}}
	use := string(kind) + " TARGET"
	if kind == generators.HTTP {
		use = "http URL"
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return generate(cmd, args[0], &f) },
	}
	flags := cmd.Flags()
	s := &f.spec
	flags.Int64VarP(&s.Count, "number", "n", 0, "how many requests, connections or flows")
	flags.IntVarP(&s.Concurrency, "concurrency", "c", 0, "how many at a time (closed loop)")
	flags.StringVarP(&f.rate, "rate", "r", "", "how many begin each second, as 3000/s (open loop)")
	flags.DurationVarP(&s.Duration, "duration", "t", 0, "how long new ones begin, as 10s")
	flags.DurationVar(&s.Timeout, "timeout", 0, "for each request or connection (default 10s, probe 1s)")
	flags.StringVarP(&f.ports, "ports", "p", "", "destination ports used in turn, as 80 or 8000-8063,9000")
	flags.StringVar(&s.Sources, "sources", "", "source addresses: addresses, prefixes, ranges, separated by commas")
	flags.StringVar(&s.SourcePorts, "source-ports", "", "source ports used in turn, as 1024-65535 (default: the kernel's choice)")
	flags.BoolVar(&s.FreeBind, "free-bind", false, "take source addresses that no interface has")
	flags.Uint64Var(&s.Seed, "seed", 0, "order of the tuples; 0: in order")
	flags.BoolVar(&s.Reuse, "reuse", false, "begin again when every tuple has been used")
	flags.BoolVar(&s.CatchUp, "catch-up", false, "make up for missed slots of the schedule, in bursts")
	flags.StringVar((*string)(&s.Close), "close", "", "how a connection ends: fin, rst, abandon, half-close")
	flags.StringVar((*string)(&s.CloseBy), "close-by", "", "who closes first: client or server")
	flags.IntVarP(&s.KeepAlive, "keep-alive", "k", 0, "requests on each connection")
	flags.IntVar(&s.Payload, "payload", 0, "bytes sent on each connection or in each datagram")
	flags.IntVar(&s.Exchanges, "exchanges", 0, "datagrams of a udp conversation, each to be answered")
	flags.DurationVar(&s.Hold, "hold", 0, "how long each connection stays open")
	flags.DurationVar(&s.Interval, "interval", 0, "between keep-alive bytes of hold, and datagrams of udp")
	flags.BoolVar(&s.Reply, "reply", false, "wait for an answer to each packet")
	flags.StringVar((*string)(&s.Protocol), "protocol", "", "of a probe: tcp, udp, icmp")
	flags.StringVar(&s.Interface, "interface", "", "that crafted packets leave by (default: the route's)")
	flags.IntVar(&s.Workers, "workers", 0, "threads (default: one for each CPU)")
	flags.StringVar(&s.Namespace, "namespace", "", "file of the network namespace to work in")
	flags.BoolVar(&s.AllowPublic, "allow-public", false, "permit a target outside private, loopback and test ranges")
	flags.StringVar(&f.format, "format", "ab", "ab or json")
	return cmd
}

func generate(cmd *cobra.Command, target string, f *generateFlags) error {
	if f.format != "ab" && f.format != "json" {
		return fmt.Errorf("--format %s: it is ab or json", f.format)
	}
	if err := f.aim(target); err != nil {
		return err
	}
	result, err := generators.Run(cmd.Context(), f.spec, nil)
	interrupted := errors.Is(err, context.Canceled)
	if err != nil && !interrupted {
		return err
	}
	if f.format == "json" {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		err = encoder.Encode(result)
	} else {
		err = generators.WriteAB(cmd.OutOrStdout(), result)
	}
	switch {
	case err != nil:
		return host(err)
	case interrupted:
		return &statusError{status: statusInterrupted}
	case len(result.Limits) > 0:
		return &statusError{status: statusInvalid, Err: fmt.Errorf("the generator was the limit: %s", strings.Join(result.Limits, "; "))}
	}
	return nil
}

// aim reads the target, the ports and the rate.
func (f *generateFlags) aim(target string) error {
	s := &f.spec
	if f.rate != "" {
		var rate scenarios.Rate
		if err := rate.UnmarshalText([]byte(f.rate)); err != nil {
			return fmt.Errorf("--rate: %w", err)
		}
		s.Rate = float64(rate)
	}
	if s.Kind == generators.HTTP {
		if err := aimURL(s, target); err != nil {
			return err
		}
	} else if host, port, err := net.SplitHostPort(target); err == nil && f.ports == "" {
		target, f.ports = host, port
		s.Target = target
	} else {
		s.Target = strings.Trim(target, "[]")
	}
	if f.ports == "" {
		return nil
	}
	var err error
	s.Ports, err = expandPorts(f.ports)
	return err
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

func aimURL(s *generators.Spec, target string) error {
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	if u.Scheme != "http" {
		return fmt.Errorf("%s: only http is made, not %s", target, u.Scheme)
	}
	addresses, err := net.LookupHost(u.Hostname())
	if err != nil {
		return host(err)
	}
	s.Target, s.Host, s.Path = addresses[0], u.Host, u.RequestURI()
	s.Ports = []uint16{80}
	if u.Port() != "" {
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil {
			return fmt.Errorf("port %s: %w", u.Port(), err)
		}
		s.Ports = []uint16{uint16(port)}
	}
	if s.Concurrency == 0 && s.Rate == 0 {
		s.Concurrency = 1
	}
	return nil
}
