package orchestrator

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
)

// clock translates the monotonic clock of a node into the time of this host. An emulated guest's
// clock can run 1 % too fast or too slow, so the trial compares the clocks before, during and after
// a load, and interpolates linearly between the comparisons.
type clock struct {
	mu       sync.Mutex
	readings []reading // in the order of their times
}

// reading is one comparison of the clocks.
type reading struct {
	here        time.Time     // this host's time in the middle of the exchange
	there       time.Duration // the node's clock when it answered
	uncertainty time.Duration // half the round trip, which bounds the error (as in NTP, RFC 5905)
	step        bool          // no comparison: the node's clock stood still here, or went on here
}

const (
	// clockExchanges is the least number of exchanges for one reading; the quickest one counts.
	// Where none is quick enough, more follow for up to clockLimit.
	clockExchanges = 8
	clockLimit     = 3 * time.Second
	// clockTrust is the uncertainty of an exchange that is quick enough.
	clockTrust = 3 * time.Millisecond
	// clockEvery is the time between two readings during a load. A saturated node answers late:
	// such an exchange shows nothing and is left out.
	clockEvery = 2 * time.Second
)

func exchange(ctx context.Context, client *agent.Client) (reading, error) {
	asked := time.Now()
	there, err := client.Clock(ctx)
	if err != nil {
		return reading{}, err
	}
	half := time.Since(asked) / 2
	return reading{here: asked.Add(half), there: there.Monotonic, uncertainty: half}, nil
}

// compare adds the best reading that a node without load gives.
func (c *clock) compare(ctx context.Context, client *agent.Client) error {
	best, err := bestExchange(ctx, client)
	if err != nil {
		return err
	}
	c.add(best)
	return nil
}

func bestExchange(ctx context.Context, client *agent.Client) (best reading, err error) {
	deadline := time.Now().Add(clockLimit)
	for i := 0; ; i++ {
		good := best.uncertainty <= clockTrust || !time.Now().Before(deadline)
		if i >= clockExchanges && good {
			return best, nil
		}
		r, err := exchange(ctx, client)
		if err != nil {
			return best, err
		}
		if i == 0 || r.uncertainty < best.uncertainty {
			best = r
		}
	}
}

// watch adds readings until ctx ends or the node is gone.
func (c *clock) watch(ctx context.Context, client *agent.Client) error {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := c.refresh(ctx, client); err != nil {
			return err
		}
	}
}

// refresh adds one reading if it is a good one.
func (c *clock) refresh(ctx context.Context, client *agent.Client) error {
	r, err := exchange(ctx, client)
	if err == nil && r.uncertainty <= clockTrust {
		c.add(r)
	}
	return err
}

func (c *clock) add(r reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readings = append(c.readings, r)
}

// jumped compares the clock of a node that has stood still since stood, and records how long its
// clock stood.
func (c *clock) jumped(ctx context.Context, client *agent.Client, stood time.Time) error {
	best, err := bestExchange(ctx, client)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.readings[len(c.readings)-1]
	there := min(last.there+stood.Sub(last.here), best.there)
	c.readings = append(c.readings,
		reading{here: stood, there: there, step: true},
		reading{here: best.here.Add(there - best.there), there: there, step: true},
		best)
	return nil
}

// at returns this host's time when the node's clock says there. Before the first and after the last
// reading it assumes that both clocks run alike.
func (c *clock) at(there time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.readings) - 1
	if last < 0 {
		return time.Time{}
	}
	if there <= c.readings[0].there {
		return c.readings[0].here.Add(there - c.readings[0].there)
	}
	for i := range last {
		if there <= c.readings[i+1].there {
			return between(c.readings[i], c.readings[i+1], there)
		}
	}
	return c.readings[last].here.Add(there - c.readings[last].there)
}

// between returns the point at there on the line through two readings.
func between(a, b reading, there time.Duration) time.Time {
	if b.there == a.there {
		return a.here
	}
	part := float64(there-a.there) / float64(b.there-a.there)
	return a.here.Add(time.Duration(part * float64(b.here.Sub(a.here))))
}

// summary reports how good the clock is. early is the longest time by which a figure of the node
// arrived before the time that the clock gives it. It shows what no comparison can: that the clock
// stood still between two of them.
func (c *clock) summary(early time.Duration) *results.Clock {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.readings)
	if n == 0 {
		return nil
	}
	worst := early
	stood := time.Duration(0) // while the node stood still
	for i, r := range c.readings {
		worst = max(worst, r.uncertainty)
		if r.step && i > 0 && c.readings[i-1].step {
			stood += r.here.Sub(c.readings[i-1].here)
		}
		if i > 0 && i < n-1 && !r.step && !c.readings[i-1].step && !c.readings[i+1].step {
			line := between(c.readings[i-1], c.readings[i+1], r.there)
			worst = max(worst, r.here.Sub(line).Abs())
		}
	}
	s := &results.Clock{ErrorMillis: milliseconds(worst), Readings: n}
	first, last := c.readings[0], c.readings[n-1]
	if here := last.here.Sub(first.here) - stood; here > 0 {
		s.DriftPPM = (float64(last.there-first.there)/float64(here) - 1) * 1e6
	}
	return s
}

// loadClock is the clock of a load node. A node in a namespace has this host's own. A machine has
// its own, which the trial compares with this host's as it does for the DUT: generators on several
// nodes then begin at one instant and report on one time axis.
type loadClock struct {
	clock
	ours  bool      // the node has this host's clock: nothing to translate
	epoch time.Time // the node's time of day when its monotonic clock was 0
}

// The time between the order to begin a load and its beginning: a call takes some milliseconds, and
// more to a distant or emulated node, which has a clock of its own.
const (
	nearLead  = 100 * time.Millisecond
	startLead = 500 * time.Millisecond
)

// begin reads a node's clock for the first time.
func (c *loadClock) begin(ctx context.Context, client *agent.Client) error {
	before := samplers.Monotonic()
	there, err := client.Clock(ctx)
	if err != nil {
		return err
	}
	// Another kernel's clock counts from that kernel's boot.
	c.ours = there.Monotonic >= before && there.Monotonic <= samplers.Monotonic()
	c.epoch = there.Realtime.Round(0).Add(-there.Monotonic)
	if c.ours {
		return nil
	}
	return c.compare(ctx, client)
}

// there returns the node's clock at a time of this host after the last reading.
func (c *clock) there(here time.Time) time.Duration {
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
	var reading errgroup.Group
	for name, node := range t.loads {
		c := new(loadClock)
		t.clocks[name] = c
		reading.Go(func() error { return c.begin(ctx, node.Agent()) })
	}
	return reading.Wait()
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

// lead returns how long before the load its nodes must learn when it begins.
func (t *trial) lead(entries []wiring.Assignment) time.Duration {
	for _, a := range entries {
		if c := t.clocks[a.Node]; c == nil || !c.ours {
			return startLead
		}
	}
	return nearLead
}

// instant returns when a load must begin, at a time of this host, as an instant of its node's
// clock. Where that is not this host's, it waits until the instant is near.
func (t *trial) instant(
	ctx context.Context, node string, at time.Time,
) (begin time.Duration, err error) {
	c := t.series.current()
	if own := t.clocks[node]; own != nil {
		if own.ours {
			return samplers.Monotonic() + time.Until(at), nil
		}
		c = &own.clock
	}
	if err := wait(ctx, time.Until(at)-startLead); err != nil {
		return 0, err
	}
	// With a fresh reading the node meets an instant soon after.
	if err := c.refresh(ctx, t.node(node).Agent()); err != nil {
		return 0, err
	}
	return c.there(at), nil
}
