package orchestrator

import (
	"context"
	"errors"
	"runtime"

	"github.com/prometheus/procfs"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
)

// early is the DUT of the next trial, which boots while the trial before it ends. It joins its
// links only when its own trial begins, so that no frame of one trial reaches the DUT of another.
type early struct {
	slot   Slot
	folder *results.TrialFolder
	linked chan struct{}
	cancel context.CancelFunc
	booted chan struct{} // closed when node and err are set
	node   vm.Node
	err    error
}

// bootEarly starts to boot the DUT of the next trial. It returns nil where the lab or the host has
// no room for a second DUT.
func (q *queue) bootEarly(ctx context.Context, lab vm.Lab, now Slot) (*early, error) {
	slot, ok := q.peek()
	if !ok || !q.EarlyBoot || !q.hostHolds(now, slot) {
		return nil, nil
	}
	folder, err := q.trialFolder(slot, nil)
	if err != nil {
		return nil, err
	}
	e := &early{
		slot: slot, folder: folder, linked: make(chan struct{}), booted: make(chan struct{}),
	}
	machine := q.machine(slot, folder)
	machine.Linked = e.linked
	ctx, e.cancel = context.WithCancel(ctx)
	go func() {
		defer close(e.booted)
		e.node, e.err = lab.Boot(ctx, machine)
	}()
	return e, nil
}

// take joins the machine to its links and waits until its agent answers.
func (e *early) take(ctx context.Context) (vm.Node, error) {
	close(e.linked)
	stop := context.AfterFunc(ctx, e.cancel)
	defer stop()
	<-e.booted
	if ctx.Err() != nil {
		return e.node, context.Cause(ctx)
	}
	return e.node, e.err
}

// abandon ends a machine whose trial never begins.
func (e *early) abandon() error {
	if e == nil {
		return nil
	}
	e.cancel()
	<-e.booted
	err := e.folder.Remove()
	if e.node != nil {
		err = errors.Join(err, e.node.Close())
	}
	return err
}

// spareMemory is the memory, in bytes, that a second DUT must leave to the rest of the host.
const spareMemory = 512 << 20

// hostHolds reports whether this host has a CPU for each CPU of the DUTs of two trials, and the
// memory that the second DUT may take.
func (r Request) hostHolds(now, next Slot) bool {
	one, other := r.Plan.Scenarios[now.Scenario].DUT, r.Plan.Scenarios[next.Scenario].DUT
	return runtime.NumCPU() >= one.VCPUs+other.VCPUs &&
		availableMemory() >= int64(other.Memory)+spareMemory
}

// availableMemory returns how many bytes of this host's memory programs can still get; 0 where the
// kernel does not say.
func availableMemory() int64 {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	memory, err := proc.Meminfo()
	if err != nil || memory.MemAvailableBytes == nil {
		return 0
	}
	return int64(*memory.MemAvailableBytes)
}
