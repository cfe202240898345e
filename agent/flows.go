package agent

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/ctload/ctload/generators/sockets"
)

// flowCounters count the packets of flows, one list of counters for each list of flows.
type flowCounters [][]*sockets.FlowCounter

func (f flowCounters) close() {
	for _, counters := range f {
		for _, c := range counters {
			c.Close()
		}
	}
}

// countFlows begins to count the packets that the node's links receive of lists of flows. It
// returns why it cannot; "" when it does.
func (s *server) countFlows(_ context.Context, lists [][]Flows) (missing string, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flows.close()
	s.flows = nil
	started, err := openCounters(s.cards, lists)
	if err != nil {
		started.close()
		return err.Error(), nil
	}
	s.flows = started
	return "", nil
}

func openCounters(cards []string, lists [][]Flows) (started flowCounters, _ error) {
	started = make(flowCounters, len(lists))
	for _, name := range cards {
		device, err := netlink.LinkByName(name)
		if err != nil {
			return started, fmt.Errorf("look up %s: %w", name, err)
		}
		for i, flows := range lists {
			for _, f := range flows {
				c, err := sockets.CountFlows(device.Attrs().Index, f)
				if err != nil {
					return started, fmt.Errorf("count packets on %s: %w", name, err)
				}
				started[i] = append(started[i], c)
			}
		}
	}
	return started, nil
}

// flowCounts returns the number of packets of each list of flows.
func (s *server) flowCounts(context.Context, nothing) ([]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make([]int64, len(s.flows))
	for i, counters := range s.flows {
		for _, c := range counters {
			n, err := c.Count()
			if err != nil {
				return nil, err
			}
			counts[i] += n
		}
	}
	return counts, nil
}
