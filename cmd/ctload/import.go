package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/scenarios"
)

func importCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE...",
		Short: "make an experiment of your own rules, sysctls and modules",
		Long: `Makes an experiment of the files of a host: iptables-save and ip6tables-save (with
or without counters), command lines of iptables, nft scripts and nft list ruleset, ipset save,
ipvsadm -S, sysctl.d and sysctl -a, modprobe.d. The content of a file tells which it is.

  ctload import /etc/iptables/rules.v4 /etc/sysctl.d/99-conntrack.conf > mine.yaml
  ctload run mine.yaml

The experiment goes to stdout; what is left out, and which interfaces it gives the DUT, to stderr.`,
		Args: needs(1, 100, "files of rules, sysctls or modules"),
		RunE: func(cmd *cobra.Command, args []string) error {
			made, err := scenarios.Import(args)
			if err != nil {
				return err
			}
			for _, note := range made.Notes {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", note)
			}
			_, warnings, err := scenarios.Parse("imported", made.Text)
			for _, w := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
			}
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(made.Text)
			return err
		},
	}
}
