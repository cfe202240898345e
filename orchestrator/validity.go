package orchestrator

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt"
)

// evidence returns what this trial knows of how it was measured; results.Validate judges it.
// Settings are compared where they are read back (see measure), by code that knows the kernel's
// rounding.
func (t *trial) evidence() results.Evidence {
	e := results.Evidence{Console: t.faults()}
	for _, name := range slices.Sorted(maps.Keys(t.made)) {
		made := t.made[name]
		for _, limit := range made.Limits {
			reason := results.Reason{
				Code: results.GeneratorLimit(string(limit.Code)), Text: limit.String(),
			}
			if len(t.made) > 1 {
				reason.Text = name + ": " + reason.Text
			}
			e.Limits = append(e.Limits, reason)
		}
		if u := made.Usage; u.ConntrackBefore >= 0 {
			e.OwnTable = max(e.OwnTable, u.ConntrackPeak-u.ConntrackBefore)
		}
	}
	if t.result.Conntrack.Samples > 0 {
		e.Interval = 1 / float64(t.Plan.Experiment.Sampling)
	}
	for _, a := range t.assignments() {
		if !a.Probe {
			e.Slack = max(e.Slack, milliseconds(a.Spec.Slack))
		}
	}
	e.GeneratorCPU = t.busy
	switch t.Lab.About().Accelerator {
	case "":
		// Namespaces share the host's CPUs with all that it runs: what its hypervisor takes delays
		// the DUT as another program does, and pacing, samples and clocks show either.
	case libvirt.KVM:
		e.Steal, e.LostCPU = t.result.Steal, t.result.LostCPU
	default:
		e.Steal = t.result.Steal
	}
	return e
}

// faults returns the lines of the DUT's kernel log and console since the load began that report a
// fault of its kernel, each once. A dead kernel leaves only the console.
func (t *trial) faults() []string {
	lines := t.notes.read().faults
	if t.dut == nil {
		return lines
	}
	console := t.dut.Console()
	for line := range strings.Lines(console[min(t.boots, len(console)):]) {
		line = strings.TrimSpace(line)
		known := func(l string) bool { return strings.Contains(line, l) }
		if results.ConsoleFault(line) && !slices.ContainsFunc(lines, known) {
			lines = append(lines, line)
		}
	}
	if results.StarvesMemory(t.result.Actions) {
		lines = slices.DeleteFunc(lines, results.MemoryFault)
	}
	if len(lines) > mostFaults {
		lines = lines[:mostFaults]
	}
	return lines
}

// death returns the console's line by which the DUT's kernel ran out of memory under the load and
// ended; empty where it lives, and where actions may have ended it.
func (t *trial) death() string {
	if t.dut == nil || t.zero.IsZero() || len(t.scenario.Actions) > 0 {
		return ""
	}
	select {
	case <-t.dut.Agent().Lost():
		console := t.dut.Console()
		return results.DiedOfMemory(console[min(t.boots, len(console)):])
	default:
		return ""
	}
}

// mostFaults limits the faults that are named; an oops prints dozens of lines.
const mostFaults = 3

// notes gathers what the samples say about the DUT's kernel and about themselves.
type notes struct {
	mu sync.Mutex
	noted
}

// noted holds the facts of the samples so far.
type noted struct {
	faults   []string // log lines that report a fault of the kernel
	problems []string // figures that a sample could not read, a sentence each
	cpu      samplers.CPU
	starved  int64 // log lines about exhausted memory
}

func (n *notes) take(s samplers.Sample) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, line := range s.Lines {
		if line.Kind.Bad() {
			n.faults = append(n.faults, line.Message)
		}
		if line.Kind == samplers.LineAllocation || line.Kind == samplers.LineOOM {
			n.starved++
		}
	}
	for _, p := range s.Problems {
		if !slices.Contains(n.problems, p) {
			n.problems = append(n.problems, p)
		}
	}
	if s.System != nil {
		n.cpu = s.System.CPU
	}
}

// read returns what the samples have said so far.
func (n *notes) read() noted {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.noted
	now.faults, now.problems = slices.Clone(n.faults), slices.Clone(n.problems)
	return now
}

// watchHost begins to watch how the DUT's CPUs fare on their host. lost then returns the share of
// the time since in which they were ready to run but waited for a CPU of the host; 0 where the host
// does not tell.
func (t *trial) watchHost(ctx context.Context) (lost func(context.Context) float64) {
	unknown := func(context.Context) float64 { return 0 }
	node, ok := t.dut.(vm.Hosted)
	if !ok {
		return unknown
	}
	began := time.Now()
	first, err := node.Scheduled(ctx)
	if err != nil {
		return unknown
	}
	return func(ctx context.Context) float64 {
		now, err := node.Scheduled(ctx)
		passed := time.Since(began) * time.Duration(t.scenario.DUT.VCPUs)
		if err != nil || passed <= 0 {
			return 0
		}
		return min(1, float64(now.Waited-first.Waited)/float64(passed))
	}
}
