package orchestrator

import (
	"context"
	"errors"
	"maps"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/vm"
)

// lookingTools are programs of the host that a guest gets for a user who inspects it, as far as the
// host has them.
var lookingTools = []string{
	"?bash", "?sh", "?ls", "?cat", "?cp", "?mv", "?rm", "?mkdir", "?head", "?tail", "?grep", "?sed", "?sort", "?wc", "?watch", "?sleep",
	"?true", "?env", "?stty", "?ps", "?kill", "?uname", "?date", "?dmesg", "?sysctl", "?lsmod", "?free", "?df", "?mount",
	"?ip", "?ss", "?tc", "?nstat", "?ping", "?tcpdump", "?ethtool", "?ipset",
}

// Stand makes the lab of the plan's first scenario as a trial does, up to where the load would
// begin: nodes booted, the DUT configured, responders listening. It passes the nodes, by name, to
// use, and ends all of it when use returns. The context of use ends with the DUT.
func (j Job) Stand(ctx context.Context, use func(ctx context.Context, nodes map[string]vm.Node) error) (err error) {
	r, leave, err := j.open(ctx, lookingTools)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	first := Slot{Scenario: 0, Number: 1}
	r.View.Trial(1, 1, r.Plan.Name(first))
	t, err := newTrial(r, first, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.destroy(), t.series.close()) }()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"boot", t.boot}, {"configure", t.configure}, {"read back", t.tellDifferences}} {
		t.begin(step.name)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	nodes := maps.Clone(t.loads)
	nodes[t.dut.Name()] = t.dut
	living, release := t.whileDUTLives(ctx)
	defer release()
	return use(living, nodes)
}

// tellDifferences reports where the DUT's settings differ from the requested ones.
func (t *trial) tellDifferences(ctx context.Context) error {
	state, err := t.dut.Agent().ReadBack(ctx, t.settings)
	if err != nil {
		return err
	}
	for _, difference := range tuning.Differences(t.settings, state) {
		t.View.Note("the DUT is not as asked for: " + difference)
	}
	return nil
}
