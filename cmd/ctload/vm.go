package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
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

// socketName names the listening socket of the lab that the command outside of the sandbox hands
// over to the command inside.
const socketName = "control socket"

func vmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "look around inside a lab: up, shell, down",
		Long: `Makes the lab of a scenario as a trial does, configured and with its servers
listening, and keeps it up.

  ctload vm up table-full --scenario raw-notrack     in one terminal; it stays until ctrl-C
  ctload vm shell                                    in another: a shell in the DUT
  ctload vm shell client -- ip address               a command in a node, and its exit status
  ctload vm down`,
	}
	return group(cmd, vmUpCommand(), vmShellCommand(), &cobra.Command{
		Use:   "down",
		Short: "end the lab that is up",
		Args:  takesNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			defer catchSignals(cmd)()
			socket, err := control.Socket()
			if err != nil {
				return host(err)
			}
			return host(control.Down(cmd.Context(), socket))
		},
	})
}

func vmUpCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "up EXPERIMENT",
		Short: "make the lab of a scenario, the first unless one is named, and keep it up",
		Args:  needs(1, 1, experimentArgument),
		RunE:  f.vmUp,
	}
	f.registerLab(cmd.Flags())
	_ = cmd.Flags().MarkHidden("seed") // a lab without a load does not use it
	return cmd
}

func (f *runFlags) vmUp(cmd *cobra.Command, args []string) (err error) {
	job, err := f.plan(cmd, args)
	if err == nil {
		err = equip(&job)
	}
	if err != nil {
		return err
	}
	defer catchSignals(cmd)()
	if sandbox.Inside() {
		server, err := control.Attach(sandbox.File(socketName))
		if err != nil {
			return host(err)
		}
		return stand(cmd, job, server)
	}
	if err := tryRules(cmd, job.Plan); err != nil {
		return err
	}
	socket, err := control.Socket()
	if err != nil {
		return host(err)
	}
	server, err := control.Listen(socket)
	if err != nil {
		return host(err)
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	if err := job.Prepare(cmd.Context()); err != nil {
		return interrupted(cmd, err, "interrupted before the lab was up")
	}
	if !job.Choice.Sandboxed() {
		return stand(cmd, job, server)
	}
	file, err := server.File()
	if err != nil {
		return host(err)
	}
	defer file.Close()
	return confine(cmd, job, sandbox.Handover{Files: map[string]*os.File{socketName: file}})
}

// stand keeps the lab up until ctload vm down, or an interrupt, ends it.
func stand(cmd *cobra.Command, job orchestrator.Job, server *control.Server) error {
	view := progress.New(os.Stderr)
	job.View = view
	quiet := sync.OnceValue(view.Close)
	name := job.Plan.Experiment.Name + ", " + job.Plan.Scenarios[0].Name
	about := control.About{Name: name, PID: sandbox.Caller()}
	err := job.Stand(cmd.Context(), func(ctx context.Context, nodes map[string]vm.Node) error {
		if err := quiet(); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is up; look around with: ctload vm shell [NODE] "+
			"[-- COMMAND]; end it with ctrl-C or: ctload vm down\n", name)
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
		Short: "a shell or a command in a node of the lab that is up; in the DUT without a name",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 && cmd.ArgsLenAtDash() != 0 && cmd.ArgsLenAtDash() != 1 {
				return fmt.Errorf("a command goes after --: %s %s -- %s",
					cmd.CommandPath(), args[0], args[1])
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
	defer catchSignals(cmd)()
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
	exit, err := control.Run(ctx, socket, node, command, os.Stdin, sizes,
		cmd.OutOrStdout(), cmd.ErrOrStderr())
	if err != nil && !is[*control.RefusedError](err) {
		err = host(err)
	}
	if err == nil && exit != statusOK {
		err = &statusError{status: exit}
	}
	return err
}

func terminalSize(fd int) (*agent.TerminalSize, error) {
	cols, rows, err := term.GetSize(fd)
	if err != nil {
		return nil, fmt.Errorf("ask for the size of the terminal: %w", err)
	}
	return &agent.TerminalSize{Rows: uint16(rows), Cols: uint16(cols)}, nil
}

func followSize(ctx context.Context, fd int, sizes chan<- agent.TerminalSize) {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	defer signal.Stop(changes)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-changes:
			if size, err := terminalSize(fd); err == nil {
				select {
				case <-ctx.Done():
				case sizes <- *size:
				}
			}
		}
	}
}
