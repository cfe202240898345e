package orchestrator

import (
	"context"
	"time"

	"github.com/ctload/ctload/vm"
)

// hostWatch compares the host scheduler's figures for the DUT's CPUs at two moments.
type hostWatch struct {
	trial *trial
	node  vm.Hosted // nil where the host does not tell
	began time.Time
	first vm.Scheduled
}

// watchHost begins to watch how the DUT's CPUs fare on their host. A host that does not tell is no
// error.
func (t *trial) watchHost(ctx context.Context) hostWatch {
	w := hostWatch{trial: t, began: time.Now()}
	node, ok := t.dut.(vm.Hosted)
	if !ok {
		return w
	}
	var err error
	if w.first, err = node.Scheduled(ctx); err == nil {
		w.node = node
	}
	return w
}

// lost returns the share of the time since then in which the DUT's CPUs were ready to run but
// waited for a CPU of the host; 0 where it is not known.
func (w hostWatch) lost(ctx context.Context) float64 {
	if w.node == nil {
		return 0
	}
	now, err := w.node.Scheduled(ctx)
	cpus := time.Duration(w.trial.scenario.DUT.VCPUs)
	passed := time.Since(w.began) * cpus
	if err != nil || passed <= 0 {
		return 0
	}
	return min(1, float64(now.Waited-w.first.Waited)/float64(passed))
}
