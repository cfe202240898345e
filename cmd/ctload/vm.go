package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/reports/progress"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/control"
	"github.com/ctload/ctload/vm/sandbox"
)

// socketEnv tells the command in the sandbox, where the user has another id, where the lab listens.
const socketEnv = "CTLOAD_CONTROL_SOCKET"

func vmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "look around inside a lab: up, shell, down",
		Long: `Makes the lab of a scenario as a trial does, configured and with its servers listening, and keeps it up.

  ctload vm up table-full --scenario raw-notrack     in one terminal; it stays until ctrl-C
  ctload vm shell                                    in another: a shell in the DUT
  ctload vm shell client -- ip address               a command in a node; its exit status is that of ctload
  ctload vm down`,
	}
	return group(cmd, vmUpCommand(), vmShellCommand(), vmDownCommand())
}

func vmUpCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "up EXPERIMENT",
		Short: "make the lab of an experiment's first scenario, or of the named one, and keep it up",
		Args:  needs(1, 1, experimentArgument),
		RunE:  func(cmd *cobra.Command, args []string) error { return vmUp(cmd, args[0], f) },
	}
	flags := cmd.Flags()
	flags.Var(namesFlag(&f.scenarios, "baseline"), "scenario", "the scenario (default: the first of the file)")
	flags.Var(namesFlag(&f.kernels, "debian/trixie"), "kernel", "with this kernel, as debian/trixie")
	flags.Var(seedFlag(&f.seed), "seed", "unused by a lab without a load")
	_ = flags.MarkHidden("seed")
	registerChoice(flags, &f.choice)
	return cmd
}

func vmUp(cmd *cobra.Command, name string, f runFlags) error {
	plan, err := planRun(cmd, name, &f)
	if err != nil {
		return err
	}
	job, err := labJob(plan, f.choice)
	if err != nil {
		return err
	}
	if sandbox.Inside() {
		return stand(cmd, job, os.Getenv(socketEnv))
	}
	socket, err := control.Socket()
	if err != nil {
		return host(err)
	}
	if err := job.Prepare(cmd.Context()); err != nil {
		return host(err)
	}
	if !f.choice.Sandboxed() {
		return stand(cmd, job, socket)
	}
	if err := os.Setenv(socketEnv, socket); err != nil {
		return err
	}
	return confine(cmd, f.choice, plan, "--seed", strconv.FormatUint(f.seed, 10))
}

// stand keeps the lab up until ctload vm down, or an interrupt, ends it.
func stand(cmd *cobra.Command, job orchestrator.Job, socket string) (err error) {
	server, err := control.Listen(socket)
	if err != nil {
		return host(err)
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	view := progress.New(os.Stderr)
	job.View = view
	quiet := sync.OnceValue(view.Close)
	about := control.About{Name: job.Plan.Experiment.Name + ", " + job.Plan.Scenarios[0].Name, PID: sandbox.Caller()}
	err = job.Stand(cmd.Context(), func(ctx context.Context, nodes map[string]vm.Node) error {
		if err := quiet(); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is up; look around with: ctload vm shell [NODE] [-- COMMAND]; end it with ctrl-C or: ctload vm down\n", about.Name)
		return server.Serve(ctx, about, nodes)
	})
	err = errors.Join(err, quiet())
	if cmd.Context().Err() != nil {
		return nil // ctrl-C is the usual end
	}
	return host(err)
}

func vmShellCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "shell [NODE] [-- COMMAND...]",
		Short: "a shell in a node of the lab that is up, or a command; the DUT where no node is named",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 && cmd.ArgsLenAtDash() != 0 && cmd.ArgsLenAtDash() != 1 {
				return fmt.Errorf("a command goes after --, as in: ctload vm shell %s -- %s", args[0], args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			node, argv := "dut", []string(nil)
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				args, argv = args[:at], args[at:]
			}
			if len(args) > 0 {
				node = args[0]
			}
			return vmShell(cmd, node, argv)
		},
	}
}

func vmShell(cmd *cobra.Command, node string, argv []string) error {
	socket, err := control.Socket()
	if err != nil {
		return host(err)
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	command := agent.Interaction{Argv: argv}
	sizes := make(chan agent.TerminalSize)
	in, out := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	if term.IsTerminal(in) && term.IsTerminal(out) {
		if command.Terminal, err = terminalSize(out); err != nil {
			return err
		}
		command.Environment = []string{"TERM=" + os.Getenv("TERM")}
		before, err := term.MakeRaw(in)
		if err != nil {
			return fmt.Errorf("set the terminal to raw mode: %w", err)
		}
		defer func() { _ = term.Restore(in, before) }()
		go followSize(ctx, out, sizes)
	}
	exit, err := control.Run(ctx, socket, node, command, os.Stdin, sizes, cmd.OutOrStdout(), cmd.ErrOrStderr())
	if _, refused := errors.AsType[*control.RefusedError](err); refused {
		return err
	}
	if err != nil {
		return host(err)
	}
	if exit != statusOK {
		return &statusError{status: exit}
	}
	return nil
}

func terminalSize(fd int) (*agent.TerminalSize, error) {
	cols, rows, err := term.GetSize(fd)
	if err != nil {
		return nil, fmt.Errorf("ask for the size of the terminal: %w", err)
	}
	return &agent.TerminalSize{Rows: uint16(rows), Cols: uint16(cols)}, nil
}

// followSize sends each change of the terminal's size.
func followSize(ctx context.Context, fd int, sizes chan<- agent.TerminalSize) {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	defer signal.Stop(changes)
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		}
		size, err := terminalSize(fd)
		if err != nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case sizes <- *size:
		}
	}
}

func vmDownCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "end the lab that is up",
		Args:  takesNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := control.Socket()
			if err != nil {
				return host(err)
			}
			return host(control.Down(cmd.Context(), socket))
		},
	}
}
