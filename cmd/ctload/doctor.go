package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/labs"
)

func doctorCommand() *cobra.Command {
	var connect []string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "print what this host can do, what it lacks, and the command that installs it",
		Args:  takesNothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, _ := cacheFolder() // without one the examination says what to do
			defer catchSignals(cmd)()
			findings := labs.ExamineHosts(cmd.Context(), connect)
			if len(connect) == 0 {
				findings = labs.Examine(cmd.Context(), cache)
			}
			var lacking error
			for _, f := range findings {
				fmt.Fprintf(cmd.OutOrStdout(), "%-8s %-26s %s\n", f.Level, f.What, f.Detail)
				if f.Fix != "" {
					fix := strings.ReplaceAll("fix: "+f.Fix, "\n", "\n         ")
					fmt.Fprintf(cmd.OutOrStdout(), "         %s\n", fix)
				}
				if f.Level == labs.Missing {
					lacking = &statusError{status: statusHost}
				}
			}
			return lacking
		},
	}
	addConnect(cmd.Flags(), &connect,
		"look at the libvirt daemon with this URI instead of this host; can be repeated")
	return cmd
}
