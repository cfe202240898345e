package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/scenarios"
)

func respondCommand() *cobra.Command {
	var spec generators.ResponderSpec
	var ports, body string
	cmd := &cobra.Command{
		Use:   "respond http|echo|silent|slow|close",
		Short: "answer generators, on many ports, until interrupted",
		Long: `Serves what the generators need at the other end, until ctrl-C, and then says what came.

  ctload respond http --ports 8080 --address 127.0.0.1
  ctload respond silent --network udp --ports 9000-9063`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{"http", "echo", "silent", "slow", "close"},
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Kind = generators.ResponderKind(args[0])
			var err error
			if spec.Ports, err = expandPorts(ports); err != nil {
				return err
			}
			var size scenarios.Size
			if body != "" {
				if err := size.UnmarshalText([]byte(body)); err != nil {
					return fmt.Errorf("--body: %w", err)
				}
			}
			spec.Body = int(size)
			responder, err := generators.Listen(cmd.Context(), spec)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "answering on ports %v\n", responder.Ports())
			<-cmd.Context().Done()
			if err := responder.Close(); err != nil {
				return host(err)
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(responder.Counters())
		},
	}
	flags := cmd.Flags()
	flags.StringVar((*string)(&spec.Network), "network", "tcp", "tcp or udp")
	flags.StringVar(&spec.Address, "address", "127.0.0.1", "local addresses, separated by commas; \"\": all")
	flags.StringVarP(&ports, "ports", "p", "8080", "ports, as 80 or 8000-8063,9000")
	flags.IntVar(&spec.Backlog, "backlog", 0, "accept queue of each port (default 65535; the kernel caps it at somaxconn)")
	flags.StringVar(&body, "body", "", "size of an http answer's body, as 10KiB")
	flags.DurationVar(&spec.Delay, "delay", 0, "how long a slow responder waits")
	flags.IntVar(&spec.Workers, "workers", 0, "threads (default: one for each CPU)")
	flags.StringVar(&spec.Namespace, "namespace", "", "file of the network namespace to work in")
	return cmd
}
