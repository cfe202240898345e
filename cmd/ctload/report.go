package main

import (
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ctload/ctload/reports"
)

func reportCommand() *cobra.Command {
	var format, out string
	var wide bool
	cmd := &cobra.Command{
		Use:   "report RUN",
		Short: "print a run again, in any format",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := reports.Check(format); err != nil {
				return err
			}
			run, folder, err := loadRun(args[0])
			if err != nil {
				return err
			}
			options := reportOptions(wide)
			options.Series = folder
			if out == "" {
				return reports.Render(cmd.OutOrStdout(), format, run, options)
			}
			file, err := os.Create(out)
			if err != nil {
				return err
			}
			return errors.Join(reports.Render(file, format, run, reports.Options{Wide: wide, Series: folder}), file.Close())
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "one of "+strings.Join(reports.Formats(), ", "))
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to this file instead of stdout")
	cmd.Flags().BoolVar(&wide, "wide", false, "print all columns, however wide")
	return cmd
}

// reportOptions fit the terminal that stdout is, if it is one.
func reportOptions(wide bool) reports.Options {
	options := reports.Options{Wide: wide}
	fd := int(os.Stdout.Fd())
	if term.IsTerminal(fd) {
		if width, _, err := term.GetSize(fd); err == nil {
			options.Width = width
		}
		options.Color = os.Getenv("NO_COLOR") == ""
	}
	return options
}
