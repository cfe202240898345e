package orchestrator

import (
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/orchestrator/forecast"
	"github.com/ctload/ctload/orchestrator/wiring"
)

// forecastCase returns what is known of a trial before its load: the DUT as read back, and when its
// connection tracking was loaded. Where other programs share the kernel, the time of its garbage
// collector is unknown.
func (t *trial) forecastCase(
	entries []wiring.Assignment, before tuning.State, loaded time.Time,
) forecast.Case {
	c := forecast.Case{
		Topology: t.Plan.Experiment.Topology, Scenario: t.scenario, Entries: entries, State: before,
		Client: kernels.Named(kernels.HostName), Curve: true,
	}
	if !t.shared {
		c.Age = new(time.Since(loaded) + probeLead)
	}
	return c
}
