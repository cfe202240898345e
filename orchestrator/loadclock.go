package orchestrator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/vm"
)

// loadClock is the clock of a load node. A node in a namespace has this host's own. A machine has
// its own, which the trial compares with this host's as it does for the DUT: generators on several
// nodes then begin at one instant and report on one time axis.
type loadClock struct {
	clock
	ours  bool      // the node has this host's clock: nothing to translate
	epoch time.Time // the node's time of day when its monotonic clock was 0
}

// startLead is how long before a load begins the nodes with clocks of their own learn the instant:
// a call takes some milliseconds, more to a distant or emulated host.
const startLead = 500 * time.Millisecond

// newLoadClock reads a node's clock for the first time.
func newLoadClock(ctx context.Context, node vm.Node) (*loadClock, error) {
	c := new(loadClock)
	before, err := monotonic()
	if err != nil {
		return nil, err
	}
	there, err := node.Agent().Clock(ctx)
	if err != nil {
		return nil, err
	}
	after, err := monotonic()
	if err != nil {
		return nil, err
	}
	// Another kernel's clock counts from that kernel's boot.
	c.ours = there.Monotonic >= before && there.Monotonic <= after
	c.epoch = there.Realtime.Round(0).Add(-there.Monotonic)
	if c.ours {
		return c, nil
	}
	return c, c.compare(ctx, node.Agent())
}

// monotonic returns this host's CLOCK_MONOTONIC.
func monotonic() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	return time.Duration(now.Nano()), nil
}

// refresh adds one reading if it is a good one, so that the node meets an instant soon after.
func (c *loadClock) refresh(ctx context.Context, client *agent.Client) error {
	r, err := exchange(ctx, client)
	if err == nil && r.uncertainty <= clockTrust {
		c.add(r)
	}
	return err
}

// there returns the node's clock at a time of this host after the last reading.
func (c *loadClock) there(here time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.readings[len(c.readings)-1]
	return last.there + here.Sub(last.here)
}

// translate converts the times of a result to this host's.
func (c *loadClock) translate(r *generators.Result) {
	if c == nil || c.ours || r.Started.IsZero() {
		return
	}
	r.Started = c.day(r.Started)
	for i := range r.Probe {
		r.Probe[i].At = c.day(r.Probe[i].At)
	}
}

// day returns this host's time of day for a time of day of the node.
func (c *loadClock) day(there time.Time) time.Time { return c.at(there.Sub(c.epoch)).Round(0) }

// readLoads reads the clocks of all load nodes concurrently, for the first time.
func (t *trial) readLoads(ctx context.Context) error {
	names := slices.Collect(maps.Keys(t.loads))
	clocks := make([]*loadClock, len(names))
	var reading errgroup.Group
	for i, name := range names {
		reading.Go(func() (err error) {
			clocks[i], err = newLoadClock(ctx, t.loads[name])
			return err
		})
	}
	err := reading.Wait()
	for i, name := range names {
		t.clocks[name] = clocks[i]
	}
	return err
}

// compareLoads reads once more the clocks that are not this host's.
func (t *trial) compareLoads(ctx context.Context) error {
	var comparing errgroup.Group
	for name, c := range t.clocks {
		if !c.ours {
			comparing.Go(func() error { return c.compare(ctx, t.loads[name].Agent()) })
		}
	}
	return comparing.Wait()
}

// elsewhere reports whether any load node has a clock of its own.
func (t *trial) elsewhere() bool {
	for _, c := range t.clocks {
		if !c.ours {
			return true
		}
	}
	return false
}

// beginAt waits until a load must begin, or until its node must learn when. begin is then an
// instant of the node's clock; 0 means at once.
func (t *trial) beginAt(ctx context.Context, node string, at time.Time) (begin time.Duration, err error) {
	c := t.clocks[node]
	if c == nil || c.ours {
		return 0, wait(ctx, time.Until(at))
	}
	if err := wait(ctx, time.Until(at)-startLead); err != nil {
		return 0, err
	}
	if err := c.refresh(ctx, t.loads[node].Agent()); err != nil {
		return 0, err
	}
	return c.there(at), nil
}
