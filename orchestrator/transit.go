package orchestrator

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// frames are the frames that load nodes and lab have counted at one moment.
type frames struct {
	cards map[string]samplers.LinkLoss // of the load nodes, by node, since the first reading
	drops []link.Drops                 // since the lab made the links
}

// countFrames reads the counters of the load nodes' cards and of the lab's ends.
func (t *trial) countFrames(ctx context.Context) (frames, error) {
	f := frames{cards: map[string]samplers.LinkLoss{}}
	nodes := wiring.LoadNodes(t.Plan.Experiment.Topology)
	samples := make([]samplers.Sample, len(nodes))
	var reading errgroup.Group
	for i, node := range nodes {
		reading.Go(func() (err error) {
			samples[i], err = t.loads[node.Name].Agent().FinalSample(ctx)
			return err
		})
	}
	if err := reading.Wait(); err != nil {
		return f, fmt.Errorf("count the load's frames: %w", err)
	}
	for i, node := range nodes {
		for _, card := range cards(samples[i]) {
			f.cards[node.Name] = card
		}
	}
	lab, ok := t.Lab.(vm.Counting)
	if !ok {
		return f, nil
	}
	var err error
	f.drops, err = lab.Drops()
	return f, err
}

// cards returns the counters of a node's links that belong to the lab.
func cards(s samplers.Sample) []samplers.LinkLoss {
	var list []samplers.LinkLoss
	if s.System == nil {
		return nil
	}
	for _, l := range s.System.Links {
		if l.Card > 0 {
			list = append(list, l)
		}
	}
	return list
}

// transit balances what the nodes sent and received between two readings. dut is the DUT's last
// sample, whose counters began at about the first reading. It returns nil for a DUT that has lost
// its counters in a reboot.
func (t *trial) transit(before, after frames, dut samplers.Sample) *results.Transit {
	if len(t.series.clocks) > 1 || len(cards(dut)) == 0 {
		return nil
	}
	r := &results.Transit{Expected: t.losesFrames()}
	to, from := &r.ToDUT, &r.FromDUT
	for node, card := range after.cards {
		begun := before.cards[node]
		dropped := card.TxDropped + card.QdiscDropped - begun.TxDropped - begun.QdiscDropped
		to.Sent += card.TxPackets - begun.TxPackets + dropped
		to.Add(node, dropped)
		from.Received += card.RxPackets - begun.RxPackets
	}
	for _, card := range cards(dut) {
		dropped := card.TxDropped + card.QdiscDropped
		from.Sent += card.TxPackets + dropped
		from.Add(wiring.DUT, dropped)
		to.Received += card.RxPackets
	}
	for i, end := range after.drops {
		r.Expected = r.Expected || end.Shaped
		if i < len(before.drops) { // the nodes of a trial stay on their links
			end.ToNode -= before.drops[i].ToNode
			end.FromNode -= before.drops[i].FromNode
		}
		place := end.Node + "/" + end.Link
		here, back := to, from
		if end.Node != wiring.DUT {
			here, back = from, to
		}
		here.Add(place, end.ToNode)
		back.Add(place, end.FromNode)
	}
	to.Missing = to.Sent - to.Received - to.Dropped
	from.Missing = from.Sent - from.Received - from.Dropped
	return r
}

// losesFrames reports whether an action makes links or nodes lose frames on purpose.
func (t *trial) losesFrames() bool {
	kinds := []actions.Kind{
		actions.Network, actions.LinkDown, actions.Partition, actions.Pause, actions.Reset,
		actions.CPUThrottle, actions.MemoryPressure,
	}
	return slices.ContainsFunc(t.scenario.Actions, func(a scenarios.Action) bool {
		return slices.Contains(kinds, a.Kind)
	})
}
