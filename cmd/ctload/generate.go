package main

import (
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
		Long: `Makes load without a lab, towards loopback, a private address, or whatever --allow-public permits. Crafted
packets (syn, handshake, icmp, udp --crafted) leave only from a network namespace that you made: ip netns exec NAME
ctload ... or --namespace FILE. Every load is bounded, by a number, a duration or stages.

How fast: -c keeps that many in flight, the next begins when one ends (closed loop); a rate begins them on an absolute
schedule whatever becomes of them (open loop): --rate, --ramp, --stages, --burst or --sine. Latency counts from
the intended time, what leaves late is reported, and slots that were missed are not made up for in bursts unless
--catch-up asks for it.

Exit status: 0; 2 usage; 3 the host lacks something; 4 the generator itself was the limit (its ports, descriptors,
conntrack table, CPU), so that the figures are not the target's; 130 interrupted, with the result so far.`,
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
	cmd := &cobra.Command{
		Use:     fmt.Sprintf("%s %s", kind.kind, kind.argument),
		Short:   kind.short,
		Long:    kind.long,
		Example: kind.example,
		Args:    needs(1, 1, kind.argument+", as in: "+strings.TrimSpace(strings.SplitN(kind.example, "\n", 2)[0])),
		RunE:    func(cmd *cobra.Command, args []string) error { return generate(cmd, args[0], &f) },
	}
	all := f.declare()
	for _, name := range append(kind.flags, commonFlags...) {
		cmd.Flags().AddFlag(all.Lookup(name))
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		unknown, ok := errors.AsType[*pflag.NotExistError](err)
		if !ok {
			return flagError(cmd, err)
		}
		known := all.Lookup(unknown.GetSpecifiedName())
		if len(unknown.GetSpecifiedName()) == 1 {
			known = all.ShorthandLookup(unknown.GetSpecifiedName())
		}
		if known != nil {
			return fmt.Errorf("--%s does not go with %s; %s --help lists what does", known.Name, kind.kind, cmd.CommandPath())
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
	if err := errors.Join(f.spec.CheckDescriptors(), checkNamespace(f.spec.Namespace)); err != nil {
		return err
	}
	show := live{w: cmd.ErrOrStderr(), terminal: terminal(cmd.ErrOrStderr())}
	result, err := generators.Run(cmd.Context(), f.spec, show.progress)
	show.end()
	interrupted := errors.Is(err, context.Canceled)
	switch {
	case errors.Is(err, sockets.ErrInitialNamespace):
		return ownNamespace(err)
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
	case len(result.Limits) > 0:
		var texts []string
		for _, limit := range result.Limits {
			texts = append(texts, limit.String())
		}
		return &statusError{status: statusInvalid, Err: fmt.Errorf("the generator was the limit: %s", strings.Join(texts, "; "))}
	}
	return nil
}

// live shows a running generator on stderr: on a terminal one line that changes, elsewhere a line
// now and then, so that a short load prints nothing at all.
type live struct {
	w        io.Writer
	terminal bool
	last     generators.Progress // the progress last shown
	shown    bool
}

// How often the line changes, and how often one is written where there is no terminal.
const (
	liveEvery     = 200 * time.Millisecond
	liveLineEvery = 10 * time.Second
)

// terminal reports whether w is a terminal that understands control sequences.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
}

// progress shows the progress that [generators.Run] reports.
func (l *live) progress(p generators.Progress) {
	since := p.Elapsed - l.last.Elapsed
	if l.terminal && since < liveEvery || !l.terminal && since < liveLineEvery {
		return
	}
	line := fmt.Sprintf("%5.1f s  %d begun, %d completed, %d failed, %d open, %.0f/s",
		p.Elapsed.Seconds(), p.Offered, p.Completed, p.Failed, p.Open, float64(p.Offered-l.last.Offered)/since.Seconds())
	if l.terminal {
		fmt.Fprintf(l.w, "\r%s\x1b[K", line)
	} else {
		fmt.Fprintln(l.w, line)
	}
	l.last, l.shown = p, true
}

// end removes the line.
func (l *live) end() {
	if l.terminal && l.shown {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}
