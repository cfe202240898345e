package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/orchestrator/forecast"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

func planCommand() *cobra.Command {
	var demand results.Demand
	var residence, kernel, format string
	var width widthFlags
	cmd := &cobra.Command{
		Use:   "plan [EXPERIMENT | --rate N --residence T]",
		Short: "the arithmetic alone: what a load needs, as sysctl lines",
		Long: `Predicts what a load makes of the table (Little's law: entries = rate x residence,
and what the kernel still counts after that), and prints the max and the number of buckets that
hold it. With an experiment, it does so for each scenario, and boots nothing.

  ctload plan --rate 2000 --residence time_wait            short connections, the kernel's timeout
  ctload plan --rate 2000 --residence 30s                  the same with another timeout
  ctload plan --held 100000 --rate 50 --residence 120s     connections that stay, beside new ones
  ctload plan --rate 5000 --residence 30s --memory 4GiB --kernel 5.10
  ctload plan table-full                                   a shipped experiment, or a file`,
		Args: needs(0, 1, "one experiment, or none"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				for _, flag := range []string{"rate", "residence", "held", "memory", "kernel"} {
					if cmd.Flags().Changed(flag) {
						return fmt.Errorf("--%s: the experiment gives that value", flag)
					}
				}
				plan, err := loadPlan(cmd, args[0])
				if err != nil {
					return err
				}
				list := forecast.Scenarios(plan.Experiment.Topology, plan.Scenarios, demand.Fill)
				return reports.Forecast(cmd.OutOrStdout(), format, list, width.options())
			}
			if err := readDemand(&demand, residence, kernel); err != nil {
				return err
			}
			plan, err := results.MakePlan(demand)
			if err != nil {
				return err
			}
			return reports.Plan(cmd.OutOrStdout(), format, plan, width.options())
		},
	}
	flags := cmd.Flags()
	width.register(flags)
	flags.Var(rateFlag(&demand.Rate), "rate", "new connections or flows, as 2000/s or 2000")
	flags.Var(textFlag(&residence, "duration or state", "120s or time_wait"), "residence",
		"life of an entry: its connection and the timeout after it, as 120s, or a state, as "+
			"time_wait, syn_sent, established, udp")
	flags.Var(countFlag(&demand.Held, 0, mostThings), "held", "connections that stay open")
	flags.Var(unit("share", (*scenarios.Share)(&demand.Fill)).withDefault("75%"), "fill",
		"share of max that the peak may take; the first of the usual alerts fires at 75%")
	flags.Var(sizeFlag(&demand.MemoryBytes), "memory",
		"memory of the machine, as 4GiB (default: this one's)")
	flags.Var(textFlag(&kernel, "version", "6.1"), "kernel",
		"version of the machine's kernel, as 6.1 (default: this one's)")
	addFormat(flags, &format, "table", "table", "json")
	return cmd
}

// loadPlan plans an experiment for a command that does not run it.
func loadPlan(cmd *cobra.Command, name string) (*orchestrator.Plan, error) {
	experiment, err := loadExperiment(cmd, name, nil)
	if err != nil {
		return nil, err
	}
	return orchestrator.NewPlan(experiment, 1)
}

// readDemand completes a demand from the flags that carry units, and from this machine.
func readDemand(d *results.Demand, residence, kernel string) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return host(fmt.Errorf("ask for this machine's memory: %w", err))
	}
	d.MemoryBytes = cmp.Or(d.MemoryBytes, int64(info.Totalram)*int64(info.Unit))
	var err error
	if d.Kernel, err = kernels.Parse(cmp.Or(kernel, kernels.Running())); err != nil {
		return fmt.Errorf("--kernel: %w", err)
	}
	if residence == "" {
		return nil
	}
	if d.Residence, err = forecast.ParseResidence(residence, d.Kernel); err != nil {
		return fmt.Errorf("--residence: %w", err)
	}
	return nil
}
