package orchestrator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// frames are the frames that nodes and lab have counted at one moment, since each began to count.
type frames struct {
	cards map[place]agent.Card
	ends  map[place]link.Count // the lab's ends
	// flows counts what the DUT received of each entry of [trial.countedFlows].
	flows []int64
	// moving counts the frames that passed the cards between the last two readings.
	moving int64
}

// place is a node's place on a link.
type place struct{ node, link string }

// A reading is exact when no frame was under way. It is repeated after readingPause until two in a
// row agree, at most for readingLimit: some DUTs never stop sending unanswered frames again. A DUT
// that still works off its queues, with more than a few frames between two readings, has
// drainLimit.
const (
	readingPause = 20 * time.Millisecond
	readingLimit = 500 * time.Millisecond
	drainLimit   = 5 * time.Second
	fewFrames    = 50
)

// countFrames reads the counters of all cards and of the lab's ends, where possible while no frame
// is under way.
func (t *trial) countFrames(ctx context.Context) (frames, error) {
	began := time.Now()
	last, err := t.readFrames(ctx)
	for again := true; err == nil && again; {
		if err = wait(ctx, readingPause); err != nil {
			break
		}
		before := last
		last, err = t.readFrames(ctx)
		last.moving = last.passed() - before.passed()
		if !slices.Equal(last.flows, before.flows) {
			last.flows = nil // more may come
		}
		limit := readingLimit
		if last.moving > fewFrames {
			limit = drainLimit
		}
		again = !last.equal(before) && time.Since(began) < limit
	}
	if err != nil {
		err = fmt.Errorf("count the frames: %w", err)
	}
	return last, err
}

func (f frames) equal(other frames) bool {
	return maps.Equal(f.cards, other.cards) && maps.Equal(f.ends, other.ends)
}

// passed returns how many frames have passed the cards, in any direction.
func (f frames) passed() (n int64) {
	for _, c := range f.cards {
		n += c.Sent + c.Received
	}
	return n
}

// readFrames reads all counters once.
func (t *trial) readFrames(ctx context.Context) (frames, error) {
	topology := t.Plan.Experiment.Topology
	dut := wiring.DUTPorts(topology, t.scenario.DUT)
	ports := map[string][]vm.Port{t.dut.Name(): dut}
	for _, node := range wiring.LoadNodes(topology) {
		ports[node.Name] = []vm.Port{node.Port}
	}
	counted := map[string]*[]agent.Card{}
	var reading errgroup.Group
	for name := range ports {
		list := new([]agent.Card)
		counted[name] = list
		reading.Go(func() (err error) {
			*list, err = t.node(name).Agent().Cards(ctx)
			return err
		})
	}
	f := frames{cards: map[place]agent.Card{}, ends: map[place]link.Count{}}
	if len(t.countedFlows) > 0 {
		reading.Go(func() (err error) {
			f.flows, err = t.dut.Agent().FlowCounts(ctx)
			return err
		})
	}
	if err := reading.Wait(); err != nil {
		return f, err
	}
	for name, list := range counted {
		for i, c := range (*list)[:min(len(*list), len(ports[name]))] {
			f.cards[place{name, ports[name][i].Link}] = c
		}
	}
	lab, ok := t.Lab.(vm.Counting)
	if !ok {
		return f, nil
	}
	ends, err := lab.Counts()
	for _, end := range ends {
		at := place{end.Node, end.Link}
		if _, there := f.ends[at]; !there { // another one is that of the next trial's DUT
			f.ends[at] = end
		}
	}
	return f, err
}

// countFlows makes the DUT count what it receives of the entries whose packets it can tell apart.
func (t *trial) countFlows(ctx context.Context, entries []wiring.Assignment) error {
	countable := wiring.Countable(entries)
	if len(countable) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(countable))
	lists := make([][]agent.Flows, len(names))
	for i, name := range names {
		lists[i] = countable[name]
	}
	missing, err := t.dut.Agent().CountFlows(ctx, lists)
	switch {
	case err != nil:
		return fmt.Errorf("count the packets of entries: %w", err)
	case missing != "":
		t.remark("the DUT does not count what it receives of each entry: " + missing)
	default:
		t.countedFlows = names
	}
	return nil
}

// received returns what the DUT received of entries, by name, as far as it is exact: frames of a
// DUT that has lost its counters in a reboot, or that itself drops what its card has received, tell
// nothing.
func (t *trial) received(before, after frames) map[string]int64 {
	if len(t.series.clocks) > 1 || len(after.flows) != len(t.countedFlows) {
		return nil
	}
	for at, c := range after.since(before).cards {
		if at.node == t.dut.Name() && c.ShapedReceived > 0 {
			return nil
		}
	}
	counts := map[string]int64{}
	for i, name := range t.countedFlows {
		counts[name] = after.flows[i]
	}
	return counts
}

// since returns the frames since an earlier reading.
func (f frames) since(before frames) frames {
	d := frames{
		cards: map[place]agent.Card{}, ends: map[place]link.Count{},
		moving: before.moving + f.moving,
	}
	for at, c := range f.cards {
		b := before.cards[at]
		c.Received, c.Sent = c.Received-b.Received, c.Sent-b.Sent
		c.Dropped = max(0, c.Dropped-b.Dropped) // its queue counts anew when an action replaces it
		c.ShapedSent -= b.ShapedSent
		c.ShapedReceived -= b.ShapedReceived
		d.cards[at] = c
	}
	for at, e := range f.ends {
		b := before.ends[at]
		e.ToNode, e.FromNode = e.ToNode-b.ToNode, e.FromNode-b.FromNode
		e.Dropped = max(0, e.Dropped-b.Dropped)
		e.ShapedTo, e.ShapedFrom = e.ShapedTo-b.ShapedTo, e.ShapedFrom-b.ShapedFrom
		d.ends[at] = e
	}
	return d
}

// transit balances what the nodes sent and received between two readings. It returns nil for a DUT
// that has lost its counters in a reboot.
func (t *trial) transit(before, after frames) *results.Transit {
	if len(t.series.clocks) > 1 || len(after.cards) == 0 {
		return nil
	}
	r := balance(after.since(before), t.dut.Name())
	r.Expected = r.Expected || t.losesFrames()
	return r
}

// balance adds up the frames to the DUT and from it.
func balance(f frames, dut string) *results.Transit {
	r := &results.Transit{Moving: f.moving}
	for at, c := range f.cards {
		out, in := &r.ToDUT, &r.FromDUT
		if at.node == dut {
			out, in = in, out
		}
		out.Sent += c.Sent + c.Dropped + c.ShapedSent
		in.Received += c.Received - c.ShapedReceived
		add := func(way *results.Crossing, part results.Part, frames int64) {
			way.Add(results.Place{Node: at.node, Link: at.link, Part: part, Frames: frames})
		}
		add(out, results.PartCard, c.Dropped)
		add(out, results.PartConditions, c.ShapedSent)
		add(in, results.PartConditions, c.ShapedReceived)
		end, counted := f.ends[at]
		if !counted {
			continue
		}
		r.Expected = r.Expected || end.Impaired
		if f.moving == 0 { // else the counters of card and end are not of one moment
			add(out, results.PartUplink, c.Sent-end.FromNode)
			add(in, results.PartFilter, end.ToNode-c.Received)
		}
		add(out, results.PartConditions, end.ShapedFrom)
		add(in, results.PartConditions, end.ShapedTo)
		add(in, results.PartQueue, end.Dropped)
	}
	r.ToDUT.Balance()
	r.FromDUT.Balance()
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

// watchLinks tells once, while the load runs, that its rate is more than the links carry: then the
// trial ends INVALID.
func (t *trial) watchLinks(ctx context.Context) {
	lab, ok := t.Lab.(vm.Counting)
	if !ok || t.losesFrames() {
		return
	}
	for wait(ctx, time.Second) == nil {
		ends, err := lab.Counts()
		if err != nil {
			return // the last reading reports it
		}
		var to results.Crossing
		for _, end := range ends {
			at := place{end.Node, end.Link}
			before, ours := t.framesBefore.ends[at]
			if !ours || before.End != end.End || end.Node != t.dut.Name() {
				continue
			}
			dropped := end.Dropped - before.Dropped
			to.Sent += end.ToNode - before.ToNode + dropped
			to.Add(results.Place{
				Node: end.Node, Link: end.Link, Part: results.PartQueue, Frames: dropped,
			})
		}
		if to.Significant() {
			seconds := time.Since(t.zero).Seconds()
			t.remark(fmt.Sprintf("the links carry less than the load: %s did not reach the DUT "+
				"in %s s; the trial will be INVALID", to.Words(), results.Figure(seconds)))
			return
		}
	}
}
