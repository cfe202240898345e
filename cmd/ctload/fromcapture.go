package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/capture/replay"
	"github.com/ctload/ctload/scenarios"
)

func fromCaptureCommand() *cobra.Command {
	o := replay.Options{Scale: 1, Faster: 1}
	cmd := &cobra.Command{
		Use:   "from-capture FILE...",
		Short: "make an experiment that fills a table as a captured one was",
		Long: `Makes an experiment of a capture, or of outputs that were saved from a host
(ctload explain tells which): a load with the arrivals, lives, ends and sources that the entries
tell of, a DUT with the host's kernel, settings and rules, a scenario of the host as it was, and
one of each change that ctload explain ranks, with thresholds from what was measured.

  ctload scenarios from-capture web1.ctcap > mine.yaml
  ctload scenarios from-capture web1.ctcap --scale 20 > mine.yaml   a twentieth of the host
  ctload run mine.yaml

The experiment goes to stdout, with comments on top that tell what it could not take over; the same
to stderr. --scale keeps fill and max/hash; --faster divides timeouts, for a first look.`,
		Args: needs(1, mostFiles, "a capture, or files with saved outputs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for flag, value := range map[string]float64{"scale": o.Scale, "faster": o.Faster} {
				if !(value >= 1 && value <= 1e6) {
					return fmt.Errorf("--%s: must be 1 to 1000000, not %g", flag, value)
				}
			}
			c, err := loadCapture(cmd, args)
			if err != nil {
				return err
			}
			o.Name = experimentName(args)
			draft, err := replay.Experiment(c, o)
			if err != nil {
				return fmt.Errorf("%s: %w", strings.Join(args, ", "), err)
			}
			text, err := draft.Text()
			if err != nil {
				return err
			}
			for _, note := range draft.Notes {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", note)
			}
			_, warnings, err := scenarios.Parse(o.Name, text)
			for _, w := range warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
			}
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	flags := cmd.Flags()
	flags.Float64Var(&o.Scale, "scale", 1,
		"divide rates, held connections, max and hash by this: fill and max/hash stay")
	flags.Float64Var(&o.Faster, "faster", 1,
		"divide timeouts and lives by this, and multiply rates")
	return cmd
}

// experimentName returns a name for an experiment of some files.
func experimentName(paths []string) string {
	const several = "captured"
	if len(paths) != 1 {
		return several
	}
	name := strings.TrimSuffix(filepath.Base(paths[0]), capture.Ending)
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, name)
	return cmp.Or(strings.Trim(name, "-"), several)
}
