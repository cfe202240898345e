package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/capture/explain"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/orchestrator/forecast"
	"github.com/ctload/ctload/reports"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/alerts"
	"github.com/ctload/ctload/scenarios"
)

// planFlags are the flags of ctload plan.
type planFlags struct {
	demand     results.Demand
	flows      results.Flows
	rates      []float64
	residences []string
	kernel     string
	format     string
	write      string
	verify     bool
	driver     string   // of the trials that verify
	settings   []string // of a capture
	width      widthFlags
	alerts     bool
	lead       time.Duration // of the alerts
}

// loadFlags describe a load and its machine, which an experiment gives itself.
var loadFlags = []string{
	"rate", "residence", "held", "nat-ports", "max", "buckets", "memory", "kernel", "write",
	"verify", "driver",
	"alerts", "lead",
}

func planCommand() *cobra.Command {
	var p planFlags
	cmd := &cobra.Command{
		Use:   "plan [EXPERIMENT | CAPTURE | --rate N --residence T]",
		Short: "what a load needs, simulated, as sysctl lines",
		Long: `Simulates what a load makes of the table (entries = rate x residence, and what the
kernel still counts after that), and prints the max and the number of buckets that hold it.
Several pairs of --rate and --residence are one load. With an experiment, it does so for each
scenario, and boots nothing.

  ctload plan --rate 2000 --residence time_wait            short connections, the kernel's timeout
  ctload plan --rate 2000 --residence 30s                  the same with another timeout
  ctload plan --rate 500 --residence udp --rate 50 --residence time_wait --held 100k
  ctload plan --rate 800 --residence time_wait --max 65536 --buckets 16384    a table that is set
  ctload plan --rate 900 --residence time_wait --nat-ports 64512              NAT to one address
  ctload plan --rate 5000 --residence 30s --memory 4GiB --kernel 5.10
  ctload plan --rate 500 --residence udp --write mine.yaml     an experiment that measures it
  ctload plan --rate 50 --residence udp --verify                    measure it at once
  ctload plan --rate 500 --residence udp --alerts > rules.yml  alert rules for Prometheus
  ctload plan table-full                                   a shipped experiment, or a file
  ctload plan web1.ctcap --set tcp_timeout_time_wait=30    what a setting would leave on a host`,
		Args: needs(0, 1, "one experiment or capture, or none"),
		RunE: func(cmd *cobra.Command, args []string) error {
			captured := len(args) == 1 && strings.HasSuffix(args[0], capture.Ending)
			if len(p.settings) > 0 && !captured {
				return fmt.Errorf("--set: needs a capture (%s), whose table it changes",
					capture.Ending)
			}
			if len(args) == 1 {
				for _, flag := range loadFlags {
					if cmd.Flags().Changed(flag) {
						return fmt.Errorf("--%s: the file gives that value", flag)
					}
				}
				if captured {
					return planCapture(cmd, args, p.settings, p.format, p.width.options())
				}
				plan, err := loadPlan(cmd, args[0])
				if err != nil {
					return err
				}
				list := forecast.Scenarios(
					plan.Experiment.Topology, plan.Scenarios, p.demand.Fill)
				return reports.Forecast(cmd.OutOrStdout(), p.format, list, p.width.options())
			}
			switch {
			case p.verify && p.alerts:
				return errors.New("--verify and --alerts: one of them")
			case p.verify && p.format != "table":
				return errors.New("--verify: prints tables alone; --write an experiment, and run " +
					"that")
			case cmd.Flags().Changed("driver") && !p.verify:
				return errors.New("--driver: says where --verify measures")
			}
			if err := p.read(); err != nil {
				return err
			}
			plan, err := results.MakePlan(p.demand)
			if err != nil {
				return err
			}
			text := ""
			if p.write != "" || p.verify {
				if text, err = forecast.Experiment(p.flows, plan); err != nil {
					return fmt.Errorf("an experiment that measures this: %w", err)
				}
			}
			if err := p.writeExperiment(text); err != nil {
				return err
			}
			if p.alerts {
				return p.writeAlerts(cmd, plan)
			}
			err = reports.Plan(cmd.OutOrStdout(), p.format, plan, p.width.options())
			if err == nil && p.verify {
				err = p.measure(cmd, text)
			}
			return err
		},
	}
	p.register(cmd)
	return cmd
}

func (p *planFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Var(namesFlag(&p.settings, "tcp_timeout_time_wait=30"), "set",
		"with a capture: what a setting would leave; several also together")
	p.width.register(flags)
	rate := &flagValue{kind: "rate", read: func(text string) error {
		var rate scenarios.Rate
		err := rate.UnmarshalText([]byte(text))
		p.rates = append(p.rates, float64(rate))
		return err
	}}
	flags.Var(rate, "rate",
		"new connections or flows, such as 2000/s or 2000; once for each --residence")
	var last string
	residence := textFlag(&last, "duration or state", "120s or time_wait")
	flags.Var(residence.repeatable(&p.residences), "residence",
		"life of an entry: its connection and the timeout after it, such as 120s, or a state, as "+
			"time_wait, syn_sent, established, udp")
	flags.Var(countFlag(&p.flows.Held, 0, mostThings), "held", "connections that stay open")
	flags.Var(countFlag(&p.flows.NATPorts, 1, mostThings), "nat-ports",
		"source ports that NAT has for the load: 64512 for each of its addresses and destinations")
	flags.Var(countFlag(&p.demand.Given.Max, 1, mostThings), "max",
		"nf_conntrack_max of the machine (default: its kernel's own)")
	flags.Var(countFlag(&p.demand.Given.Buckets, 1, mostThings), "buckets",
		"nf_conntrack_buckets of the machine (default: its kernel's own)")
	flags.Var(unit("share", (*scenarios.Share)(&p.demand.Fill)).withDefault("75%"), "fill",
		"share of max that the peak may take; the first of the usual alerts fires at 75%")
	flags.Var(sizeFlag(&p.demand.MemoryBytes), "memory",
		"memory of the machine, as 4GiB (default: this one's)")
	flags.Var(textFlag(&p.kernel, "version", "6.1"), "kernel",
		"version of the machine's kernel, such as 6.1 (default: this one's)")
	flags.Var(textFlag(&p.write, "file", "mine.yaml"), "write",
		"write an experiment that measures this load, scaled to a lab, into a new file")
	flags.BoolVar(&p.verify, "verify", false, "run the experiment of --write at once: exit status "+
		"1 where the table refuses or evicts an entry")
	addWord(flags, &p.driver, "driver", "where --verify measures", labs.Drivers()[0],
		labs.Drivers()...)
	flags.BoolVar(&p.alerts, "alerts", false,
		"print alert rules for Prometheus instead: for the table of --max, or the one that the "+
			"load needs")
	flags.Var(durationFlag(&p.lead).withDefault("10m"), "lead",
		"with --alerts: how long before the table is full the alert must fire")
	addFormat(flags, &p.format, "table", "table", "json")
}

// writeAlerts prints alert rules for the load, and the table that was given or that it needs.
func (p *planFlags) writeAlerts(cmd *cobra.Command, plan results.Plan) error {
	if cmd.Flags().Changed("format") {
		return errors.New("--alerts and --format: rules have one format")
	}
	n := alerts.Need{
		Load: p.flows.Words(), Max: plan.Size.Max, Prediction: plan.AtSize, Lead: p.lead,
	}
	if plan.Given != nil {
		n.Max, n.Prediction = plan.Given.Max, *plan.AtGiven
	}
	_, err := fmt.Fprint(cmd.OutOrStdout(), alerts.Rules(n))
	return err
}

// planCapture writes what settings would leave in the table of a capture, or what each change that
// suggests itself would.
func planCapture(
	cmd *cobra.Command, files, settings []string, format string, o reports.Options,
) error {
	options, err := whatIf(settings)
	if err != nil {
		return fmt.Errorf("--set: %w", err)
	}
	options.Only = len(settings) > 0
	c, err := loadCapture(cmd, files)
	if err != nil {
		return err
	}
	return reports.WhatIf(cmd.OutOrStdout(), format, explain.Explain(c, options), o)
}

// loadPlan plans an experiment for a command that does not run it.
func loadPlan(cmd *cobra.Command, name string) (*orchestrator.Plan, error) {
	experiment, err := loadExperiment(cmd, name, nil)
	if err != nil {
		return nil, err
	}
	return orchestrator.NewPlan(experiment, 1)
}

// read completes a demand from the flags that carry units, and from this machine.
func (p *planFlags) read() error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return host(fmt.Errorf("ask for this machine's memory: %w", err))
	}
	d := &p.demand
	d.MemoryBytes = cmp.Or(d.MemoryBytes, int64(info.Totalram)*int64(info.Unit))
	var err error
	if d.Kernel, err = kernels.Parse(cmp.Or(p.kernel, kernels.Running())); err != nil {
		return fmt.Errorf("--kernel: %w", err)
	}
	if rates, residences := len(p.rates), len(p.residences); rates != residences {
		return fmt.Errorf("each --rate needs a --residence: there are %d and %d",
			rates, residences)
	}
	for i, rate := range p.rates {
		residence, state, err := forecast.ParseResidence(p.residences[i], d.Kernel)
		if err != nil {
			return fmt.Errorf("--residence: %w", err)
		}
		pair := results.Pair{Rate: rate, Residence: residence, State: state}
		p.flows.Pairs = append(p.flows.Pairs, pair)
	}
	d.Offer = p.flows
	return p.flows.Validate()
}

// writeExperiment writes the text of an experiment into a new file, where one is asked for.
func (p *planFlags) writeExperiment(text string) error {
	if p.write == "" {
		return nil
	}
	file, err := os.OpenFile(p.write, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("--write: %w", err)
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

// measure runs an experiment as ctload run does, which takes this process's place: its output, its
// signals and its exit status are those of the command. It returns only where that fails.
func (p *planFlags) measure(cmd *cobra.Command, text string) error {
	for line := range strings.Lines(text) {
		if note, ok := strings.CutPrefix(line, "# "); ok {
			fmt.Fprint(cmd.ErrOrStderr(), note)
		}
	}
	file, err := unix.MemfdCreate("experiment", unix.MFD_CLOEXEC)
	if err == nil {
		_, err = unix.Pwrite(file, []byte(text), 0)
	}
	if err == nil {
		err = unix.Dup3(file, int(os.Stdin.Fd()), 0)
	}
	if err == nil {
		err = unix.Exec("/proc/self/exe", []string{os.Args[0], "run", "-", "--driver", p.driver},
			os.Environ())
	}
	return host(fmt.Errorf("start ctload run: %w", err))
}
