package main

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ctload",
		Short: "measure which conntrack configuration survives a load",
		Long: `ctload boots a virtual machine, floods it with connections, watches its kernel's
connection tracking while it does, and says which kernel configuration survives.

  ctload run table-full      the experiment to start from
  ctload doctor              what this host can do, and what it lacks

Exit status: 0 all thresholds hold; 1 a threshold or a regression failed; 2 usage or an invalid
experiment; 3 the host lacks something; 4 a trial was INVALID; 130 interrupted.`,
		Version:       thisBuild().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	group(root, runCommand(), searchCommand(), importCommand(), mergeCommand(), reportCommand(),
		compareCommand(), historyCommand(),
		scenariosCommand(),
		generateCommand(), respondCommand(), planCommand(), captureCommand(),
		explainCommand(), doctorCommand(), gcCommand(),
		vmCommand(), versionCommand())
	root.SetHelpCommand(helpCommand())
	root.InitDefaultCompletionCmd()
	completion, _, _ := root.Find([]string{"completion"})
	for _, shell := range group(completion).Commands() {
		shell.Args = takesNothing
	}
	addCompletions(root)
	return root
}

// helpCommand prints the help of a command, and refuses a word that names none.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "print the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if about != nil && about.HasSubCommands() && len(rest) > 0 {
				return unknownCommand(about, rest[0])
			}
			if err != nil {
				return err
			}
			return about.Help()
		},
	}
}

// output remembers that a write failed, also for commands that do not look: the user did not get
// the requested output.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil {
		o.err = fmt.Errorf("print to standard output: %w", err)
		return n, o.err
	}
	return n, nil
}

// run executes the command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	out := &output{Writer: stdout}
	root.SetOut(out)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if out.err != nil {
		err = &statusError{statusHost, cmp.Or(err, out.err)}
	}
	fmt.Fprint(stderr, message(err))
	return exitStatus(cmd.Context(), err)
}
