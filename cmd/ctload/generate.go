package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/sockets"
)

func generateCommand() *cobra.Command {
	parent := &cobra.Command{
		Use:   "generate KIND",
		Short: "the generators alone, ab-style",
		Long: `Makes load without a lab, towards loopback, a private address, or what --allow-public
permits. Crafted packets (syn, handshake, icmp, udp --crafted) leave only from a network namespace
that you made: ip netns exec NAME ctload ... or --namespace FILE. Every load is bounded, by a
number, a duration or stages.

How fast: -c keeps that many in flight, the next begins when one ends (closed loop); a rate begins
them on an absolute schedule whatever becomes of them (open loop): --rate, --ramp, --stages, --burst
or --sine. Latency counts from the intended time, what leaves late is reported, and --catch-up
alone makes up for missed slots, in bursts.

Exit status: 0; 2 usage; 3 the host lacks something; 4 the generator was the limit (its ports,
descriptors, conntrack table, CPU), so that the figures are not the target's; 130 interrupted.`,
		Example: `  ctload respond http --ports 8080 &
  ctload generate http -c 1000 -n 5000 http://127.0.0.1:8080/`,
	}
	for _, kind := range kinds {
		parent.AddCommand(generateKind(kind))
	}
	return group(parent)
}

func generateKind(kind kindHelp) *cobra.Command {
	f := generateFlags{spec: generators.Spec{Kind: kind.kind}}
	argument := cmp.Or(kind.argument, "ADDRESS[:PORT]")
	example, _, _ := strings.Cut(strings.TrimSpace(kind.example), "\n")
	cmd := &cobra.Command{
		Use:   fmt.Sprintf("%s %s", kind.kind, argument),
		Short: kind.short, Long: kind.long, Example: kind.example,
		Args: needs(1, 1, argument+", as in: "+example),
		RunE: func(cmd *cobra.Command, args []string) error { return generate(cmd, args[0], &f) },
	}
	all := f.declare()
	for name := range strings.FieldsSeq(kind.flags + " " + commonFlags) {
		cmd.Flags().AddFlag(all.Lookup(name))
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
			name := unknown.GetSpecifiedName()
			known := all.Lookup(name)
			if len(name) == 1 {
				known = all.ShorthandLookup(name)
			}
			if known != nil {
				return fmt.Errorf("--%s does not go with %s; %s --help lists what does",
					known.Name, kind.kind, cmd.CommandPath())
			}
		}
		return flagError(cmd, err)
	})
	return cmd
}

func generate(cmd *cobra.Command, target string, f *generateFlags) error {
	if err := f.read(cmd, target); err != nil {
		return err
	}
	if err := f.spec.Validate(); err != nil {
		return fmt.Errorf("%s: %w", f.spec.Kind, err)
	}
	err := errors.Join(f.spec.CheckDescriptors(), checkNamespace(f.spec.Namespace))
	if err != nil {
		return err
	}
	defer catchSignals(cmd)()
	show := live{w: cmd.ErrOrStderr(), terminal: terminal(cmd.ErrOrStderr())}
	result, err := generators.Run(cmd.Context(), f.spec, show.progress)
	show.end()
	interrupted := errors.Is(err, context.Canceled)
	switch {
	case errors.Is(err, sockets.ErrInitialNamespace):
		return ownNamespace(err)
	case errors.Is(err, sockets.ErrUplink):
		return fmt.Errorf("%w; give it routes to the lab alone, or say --allow-public", err)
	case err != nil && !interrupted:
		return host(err)
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
	case len(result.Limits) == 0:
		return nil
	}
	var limits []string
	for _, limit := range result.Limits {
		limits = append(limits, limit.String())
	}
	err = errors.New("the generator was the limit: " + strings.Join(limits, "; "))
	return &statusError{status: statusInvalid, Err: err}
}

// live shows a running generator on stderr: on a terminal one line that changes, elsewhere a line
// now and then, so that a short load prints nothing at all.
type live struct {
	w        io.Writer
	terminal bool
	last     generators.Progress // the progress last shown
}

// terminal reports whether w is a terminal that understands control sequences.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
}

func (l *live) progress(p generators.Progress) {
	since, every := p.Elapsed-l.last.Elapsed, 10*time.Second
	if l.terminal {
		every = 200 * time.Millisecond
	}
	if since < every {
		return
	}
	rate := float64(p.Offered-l.last.Offered) / since.Seconds()
	line := fmt.Sprintf("%5.1f s  %d begun, %d completed, %d failed, %d open, %.0f/s",
		p.Elapsed.Seconds(), p.Offered, p.Completed, p.Failed, p.Open, rate)
	if l.terminal {
		fmt.Fprintf(l.w, "\r%s\x1b[K", line)
	} else {
		fmt.Fprintln(l.w, line)
	}
	l.last = p
}

func (l *live) end() {
	if l.terminal && l.last.Elapsed > 0 {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}
