package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/generators/responders"
	"github.com/ctload/ctload/generators/sockets"
	"github.com/ctload/ctload/generators/tuples"
	"github.com/ctload/ctload/internal/spelling"
)

var responderKinds = []string{
	string(responders.HTTP), string(responders.Echo), string(responders.Silent),
	string(responders.Slow), string(responders.Close), string(responders.Leak),
	string(responders.Greet), string(responders.Deaf), string(responders.Handshake),
}

func respondCommand() *cobra.Command {
	var spec responders.Spec
	cmd := &cobra.Command{
		Use:   "respond " + strings.Join(responderKinds, "|"),
		Short: "answer generators, on many ports, until interrupted",
		Long: `Answers generators until ctrl-C, and then prints what it counted, as JSON.

  http       a fixed answer to each request, HTTP/1.0 and 1.1, of --body bytes (tcp)
  echo       sends back what it received (tcp, udp)
  silent     reads, and neither answers nor closes first (tcp, udp)
  slow       the http answer (tcp) or the echo (udp), --delay after the request
  close      closes first, as soon as it has accepted (tcp)
  leak       as silent, and never closes its side after the peer's FIN: CLOSE_WAIT (tcp)
  greet      speaks first: sends --body bytes as soon as it has accepted, then is silent (tcp)
  deaf       listens and takes nothing, so that its queue of --backlog fills (tcp, udp)
  handshake  completes crafted handshakes for --address, which no host may own, without sockets;
             only in a network namespace that you made, to which the routes lead`,
		Example: `  ctload respond http --ports 8080
  ctload respond silent --network udp --ports 9000-9063
  ctload respond handshake --namespace /run/netns/far --address 10.91.0.0/16 --ports 80`,
		Args: func(cmd *cobra.Command, args []string) error {
			err := needs(1, 1, "one of "+strings.Join(responderKinds, ", "))(cmd, args)
			if err == nil && !slices.Contains(responderKinds, args[0]) {
				hint := spelling.Hint(args[0], responderKinds)
				err = fmt.Errorf("there is no responder %q%s", args[0], hint)
			}
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.Kind = responders.Kind(args[0])
			return respond(cmd, spec)
		},
	}
	flags := cmd.Flags()
	networks := []responders.Network{responders.TCP, responders.UDP}
	addWord(flags, &spec.Network, "network", "transport", responders.TCP, networks...)
	flags.StringVar(&spec.Address, "address", "127.0.0.1",
		"local addresses, separated by commas; \"\": all")
	flags.VarP(portsFlag(&spec.Ports, true).withDefault("8080"), "ports", "p",
		"ports, such as 80 or 8000-8063,9000; 0: a free one")
	flags.Var(countFlag(&spec.Backlog, 1, 1<<30), "backlog",
		"accept queue of each port (default 65535; the kernel caps it at somaxconn)")
	flags.Var(sizeFlag(&spec.Body), "body",
		"size of an http answer's body, or of a greeting, such as 10KiB")
	flags.Var(durationFlag(&spec.Delay), "delay", "how long a slow responder waits, such as 500ms")
	flags.Var(durationFlag(&spec.Idle), "idle", "close connections idle for this long, as 1m")
	flags.Var(textFlag(&spec.Interface, "interface", "eth0"), "interface",
		"interface of a handshake responder (default: the only one besides loopback)")
	addPlace(flags, &spec.Workers, &spec.Namespace)
	return cmd
}

// addPlace adds the flags of the threads and the network namespace of a load or a responder.
func addPlace(flags *pflag.FlagSet, workers *int, namespace *string) {
	flags.Var(countFlag(workers, 1, mostThreads), "workers", "threads (default: one for each CPU)")
	flags.Var(textFlag(namespace, "file", "/run/netns/client"), "namespace",
		"file of the network namespace to work in, as /run/netns/client")
}

// checkNamespace refuses a path that is not the file of a namespace.
func checkNamespace(path string) error {
	if path == "" {
		return nil
	}
	var at unix.Statfs_t
	if err := unix.Statfs(path, &at); err != nil || at.Type != unix.NSFS_MAGIC {
		return fmt.Errorf("--namespace: %s is no network namespace; make one with: "+
			"ip netns add NAME, whose file is /run/netns/NAME", path)
	}
	return nil
}

// ownNamespace adds to an error how to make the network namespace that crafted packets need.
func ownNamespace(err error) error {
	return fmt.Errorf("%w; make one (ip netns add NAME), join it to the target, and name it: "+
		"--namespace /run/netns/NAME", err)
}

// respond answers until the command's context ends.
func respond(cmd *cobra.Command, spec responders.Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	if err := checkNamespace(spec.Namespace); err != nil {
		return err
	}
	defer catchSignals(cmd)()
	responder, err := responders.Listen(cmd.Context(), spec)
	if errors.Is(err, sockets.ErrInitialNamespace) {
		return ownNamespace(err)
	}
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
