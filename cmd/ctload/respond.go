package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/tuples"
	"github.com/ctload/ctload/scenarios"
)

// responders are the words of `ctload respond`.
var responders = []string{
	string(generators.RespondHTTP), string(generators.RespondEcho), string(generators.RespondSilent), string(generators.RespondSlow),
	string(generators.RespondClose), string(generators.RespondLeak), string(generators.RespondDeaf), string(generators.RespondHandshake),
}

func respondCommand() *cobra.Command {
	var spec generators.ResponderSpec
	var ports, body string
	cmd := &cobra.Command{
		Use:   "respond " + strings.Join(responders, "|"),
		Short: "answer generators, on many ports, until interrupted",
		Long: `Serves what the generators need at the other end, until ctrl-C, and then says what came, as JSON.

  http       a fixed answer to each request, HTTP/1.0 and 1.1, of --body bytes (tcp)
  echo       what came goes back (tcp, udp)
  silent     reads, and neither answers nor closes first (tcp, udp)
  slow       the http answer (tcp) or the echo (udp), --delay after the request
  close      closes first, as soon as it has accepted (tcp)
  leak       as silent, and never closes its side after the peer's FIN: CLOSE_WAIT (tcp)
  deaf       listens and takes nothing, so that its queue of --backlog fills (tcp, udp)
  handshake  completes crafted handshakes for --address, which no host may own, without sockets; only in a
             network namespace that you made, to which the routes lead`,
		Example: `  ctload respond http --ports 8080
  ctload respond silent --network udp --ports 9000-9063
  ctload respond handshake --namespace /run/netns/far --address 10.91.0.0/16 --ports 80`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return err
			}
			if !slices.Contains(responders, args[0]) {
				return fmt.Errorf("there is no responder %q, but %s", args[0], strings.Join(responders, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Kind = generators.ResponderKind(args[0])
			var err error
			spec.Ports = []uint16{0}
			if ports != "0" {
				if spec.Ports, err = expandPorts(ports); err != nil {
					return err
				}
			}
			var size scenarios.Size
			if body != "" {
				if err := size.UnmarshalText([]byte(body)); err != nil {
					return fmt.Errorf("--body: %w", err)
				}
			}
			spec.Body = int(size)
			return respond(cmd, spec)
		},
	}
	flags := cmd.Flags()
	flags.StringVar((*string)(&spec.Network), "network", "tcp", "tcp or udp")
	flags.StringVar(&spec.Address, "address", "127.0.0.1", "local addresses, separated by commas; \"\": all")
	flags.StringVarP(&ports, "ports", "p", "8080", "ports, as 80 or 8000-8063,9000; 0: a free one")
	flags.IntVar(&spec.Backlog, "backlog", 0, "accept queue of each port (default 65535; the kernel caps it at somaxconn)")
	flags.StringVar(&body, "body", "", "size of an http answer's body, as 10KiB")
	flags.DurationVar(&spec.Delay, "delay", 0, "how long a slow responder waits")
	flags.DurationVar(&spec.Idle, "idle", 0, "close connections on which nothing came for that long")
	flags.StringVar(&spec.Interface, "interface", "", "of a handshake responder (default: the only one besides loopback)")
	flags.IntVar(&spec.Workers, "workers", 0, "threads (default: one for each CPU)")
	flags.StringVar(&spec.Namespace, "namespace", "", "file of the network namespace to work in")
	return cmd
}

// respond answers until the command's context ends.
func respond(cmd *cobra.Command, spec generators.ResponderSpec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	responder, err := generators.Listen(cmd.Context(), spec)
	if err != nil {
		return host(err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "answering on ports %s\n", tuples.FormatPorts(responder.Ports()))
	<-cmd.Context().Done()
	if err := responder.Close(); err != nil {
		return host(err)
	}
	return json.NewEncoder(cmd.OutOrStdout()).Encode(responder.Counters())
}
