package orchestrator

import (
	"context"
	"errors"
	"fmt"

	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt/shared"
)

// refuseConnected refuses choices that contradict each other.
func refuseConnected(_ *Plan, c Choice) error {
	switch {
	case c.Parallel < 0:
		return fmt.Errorf("--parallel %d: at least 1", c.Parallel)
	case c.Parallel > 1 && len(c.Networks) > 0:
		return errors.New("--parallel keeps each trial on one host, and --network is for a trial on several")
	}
	return nil
}

// prepareConnected finds out whether the hosts can hold the trials. Nothing is made on them before the first machine.
func prepareConnected(ctx context.Context, j Job) error {
	lab, err := connectLab(ctx, j, j.shared(place{}, func(string) {}))
	if err != nil {
		return err
	}
	return errors.Join(lab.Close(), prepareKernels(ctx, j))
}

// openConnected opens the lab on the hosts, or as many labs as trials are to run at once.
func openConnected(ctx context.Context, j Job, at place) (vm.Lab, error) {
	return connectLab(ctx, j, j.shared(at, j.View.Note))
}

func connectLab(ctx context.Context, j Job, options shared.Options) (vm.Lab, error) {
	if j.Choice.Parallel > 1 {
		return shared.ConnectBeside(ctx, options, j.Choice.Parallel)
	}
	return shared.Connect(ctx, options)
}

// shared is what the plan asks of the hosts.
func (j Job) shared(at place, tell func(string)) shared.Options {
	o := shared.Options{
		URIs: j.Choice.Connect, Pool: j.Choice.Pool, Networks: j.Choice.Networks,
		Accelerator: j.Choice.Accelerator, Cache: j.Cache, Journal: at.journal, Tell: tell,
	}
	if at.journal != nil {
		o.Run = at.journal.ID()
	}
	for _, s := range j.Plan.Scenarios {
		o.DUT.VCPUs = max(o.DUT.VCPUs, s.DUT.VCPUs)
		o.DUT.MemoryBytes = max(o.DUT.MemoryBytes, int64(s.DUT.Memory))
	}
	for _, node := range wiring.LoadNodes(j.Plan.Experiment.Topology) {
		o.LoadNodes = append(o.LoadNodes, node.Name)
	}
	// Load nodes have one kernel in all scenarios: what makes the load is to be the same in all.
	kernel := at.materials.Kernels[j.Plan.Scenarios[0].DUT.Kernel]
	o.Load.Kernel, o.Load.Initramfs = kernel.Image, kernel.Initramfs
	return o
}

// ExamineHosts looks at libvirt daemons that exist.
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
