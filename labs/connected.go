package labs

import (
	"context"
	"errors"
	"fmt"

	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt/shared"
)

// refuseConnected refuses choices that contradict each other.
func refuseConnected(o Order) error {
	switch c := o.Choice; {
	case c.Parallel < 0:
		return fmt.Errorf("--parallel %d: at least 1", c.Parallel)
	case c.Parallel > 1 && len(c.Networks) > 0:
		return errors.New("--parallel keeps each trial on one host, and --network is for a trial on several")
	}
	return nil
}

// prepareConnected checks that the hosts can hold the trials. It makes nothing on them.
func prepareConnected(ctx context.Context, o Order) error {
	lab, err := connectLab(ctx, o, o.shared(func(string) {}))
	if err != nil {
		return err
	}
	return errors.Join(lab.Close(), prepareKernels(ctx, o))
}

// openConnected opens the lab on the hosts, or one lab for each concurrent trial.
func openConnected(ctx context.Context, s *Site) (vm.Lab, error) {
	options := s.shared(s.Note)
	options.Journal, options.Run = s.journal, s.journal.ID()
	// Load nodes have one kernel in all scenarios, so that the same code makes the load in all.
	kernel := s.Materials.Kernels[s.Scenarios[0].DUT.Kernel]
	options.Load.Kernel, options.Load.Initramfs = kernel.Image, kernel.Initramfs
	return connectLab(ctx, s.Order, options)
}

func connectLab(ctx context.Context, o Order, options shared.Options) (vm.Lab, error) {
	if o.Choice.Parallel > 1 {
		return shared.ConnectBeside(ctx, options, o.Choice.Parallel)
	}
	return shared.Connect(ctx, options)
}

// shared returns what the order asks of the hosts.
func (o Order) shared(tell func(string)) shared.Options {
	options := shared.Options{
		URIs: o.Choice.Connect, Pool: o.Choice.Pool, Networks: o.Choice.Networks,
		Accelerator: o.Choice.Accelerator, Cache: o.Cache, Tell: tell,
	}
	for _, s := range o.Scenarios {
		options.DUT.VCPUs = max(options.DUT.VCPUs, s.DUT.VCPUs)
		options.DUT.MemoryBytes = max(options.DUT.MemoryBytes, int64(s.DUT.Memory))
	}
	for _, node := range wiring.LoadNodes(o.Experiment.Topology) {
		options.LoadNodes = append(options.LoadNodes, node.Name)
	}
	return options
}

// ExamineHosts examines existing libvirt daemons.
func ExamineHosts(ctx context.Context, uris []string) []Finding {
	var findings []Finding
	for _, uri := range uris {
		f := Finding{What: uri, Level: Good}
		facts, err := shared.Examine(ctx, uri)
		if err != nil {
			findings = append(findings, missing(f, err))
			continue
		}
		f.Detail = facts.String()
		findings = append(findings, f)
		if facts.KVM != "" {
			findings = append(findings, Finding{What: uri, Level: Slow, Detail: facts.KVM + "; guests are emulated (TCG), which is much slower"})
		}
		if facts.Warning != "" {
			findings = append(findings, Finding{What: uri, Level: Slow, Detail: facts.Warning, Fix: facts.Fix})
		}
	}
	return findings
}
