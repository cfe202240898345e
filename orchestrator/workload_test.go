package orchestrator

import (
	"testing"
	"time"
)

// Held connections are opened as many at a time as the file says, or else as fast as they are accepted.
func TestHold(t *testing.T) {
	plan := planOf(t, `
experiment: held
workload:
  - {generator: hold, name: some-at-a-time, connections: 500, concurrency: 20, duration: 3s}
  - {generator: hold, name: all, connections: 500, duration: 3s, ports: 81}
  - {generator: hold, name: paced, connections: 500, rate: 100/s, duration: 3s, ports: 82}
scenarios: {a: {}}
`)
	for _, a := range assignments(plan.Experiment.Topology, plan.Scenarios[0], 1) {
		concurrency, hold := 0, 3*time.Second
		switch a.name {
		case "some-at-a-time":
			concurrency = 20
		case "all":
			concurrency = 500
		case "paced":
			hold = 8 * time.Second // the first one waits for the last
		}
		if a.spec.Concurrency != concurrency || a.spec.Hold != hold {
			t.Errorf("%s: %d at a time, held for %s; want %d, %s", a.name, a.spec.Concurrency, a.spec.Hold, concurrency, hold)
		}
	}
}
