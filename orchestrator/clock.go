package orchestrator

import (
	"context"
	"time"

	"github.com/ctload/ctload/agent"
)

// clock translates the monotonic clock of a node into the time of this host.
type clock struct {
	zero        time.Time     // this host's time when the node's monotonic clock was 0
	uncertainty time.Duration // half the round trip of the exchange that it was read in
}

// clockExchanges is how often the clocks are compared; the quickest exchange is believed (as NTP does,
// RFC 5905: the error is at most half the round trip).
const clockExchanges = 8

func readClock(ctx context.Context, client *agent.Client) (clock, error) {
	var best clock
	for i := range clockExchanges {
		asked := time.Now()
		there, err := client.Clock(ctx)
		if err != nil {
			return clock{}, err
		}
		trip := time.Since(asked)
		if i == 0 || trip/2 < best.uncertainty {
			best = clock{zero: asked.Add(trip/2 - there.Monotonic), uncertainty: trip / 2}
		}
	}
	return best, nil
}

func (c clock) at(monotonic time.Duration) time.Time { return c.zero.Add(monotonic) }
