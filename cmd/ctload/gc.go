package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/internal/printable"
	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/vm/journal"
)

func gcCommand() *cobra.Command {
	var connect []string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "remove what killed runs left behind",
		Long: `Lists and removes what killed runs left outside their sandboxes: machines, networks
and volumes of a libvirt daemon, files, changed settings of this host. A run records each thing
before it makes it. ctload gc removes only what is recorded and carries the run's id, and leaves
live runs alone.`,
		Args: takesNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			defer catchSignals(cmd)()
			nothing := true
			err := labs.Collect(cmd.Context(), connect, dryRun, func(f journal.Finding) {
				if f.State != journal.Skipped {
					nothing = false
					fmt.Fprintln(cmd.OutOrStdout(), printable.Text(foundLine(f)))
				}
			})
			if nothing && err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "no killed run has left anything")
			}
			return host(err)
		},
	}
	addConnect(cmd.Flags(), &connect,
		"remove only from the libvirt daemon with this URI; can be repeated")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "list, and remove nothing")
	return cmd
}

// foundLine describes one leftover of a run, or a run that still goes on.
func foundLine(f journal.Finding) string {
	if f.State == journal.Alive {
		return fmt.Sprintf("%-8s run %s (%s), PID %d", f.State, f.Run.ID, f.Run.Label, f.Run.PID)
	}
	if f.State == journal.Torn {
		return fmt.Sprintf("%-8s a record of run %s (%s) is cut off: %q; look at what it names",
			f.State, f.Run.ID, f.Run.Label, f.Torn)
	}
	return fmt.Sprintf("%-8s %s, of run %s (%s)", f.State, f.Entry, f.Run.ID, f.Run.Label)
}
