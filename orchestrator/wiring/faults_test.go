package wiring

import (
	"strings"
	"testing"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/internal/actions"
)

// TestFaultsAreAskedFor: an agent accepts every fault that wiring makes, placeholders filled in.
func TestFaultsAreAskedFor(t *testing.T) {
	topology, scenario := resolved(t, `
experiment: faults
workload: [{generator: udp, rate: 10/s, duration: 5s, silent: true}]
actions:
  - action: rules-load
    at: 0s
    rules: "*raw\n-A PREROUTING -i ${client.interface} -j CT --notrack\nCOMMIT\n"
  - {action: delete, at: 0s, state: TIME_WAIT, port: 80}
  - {action: clock-jump, at: 0s, by: -30s}
  - {action: network, at: 0s, loss: 2%, delay: 5ms, rate: 10Mbit/s, direction: to}
scenarios: {a: {}}
`)
	for i, a := range scenario.Actions {
		f, err := Fault(topology, scenario.DUT, a, "x")
		if err != nil {
			t.Fatal(err)
		}
		if a.Kind == actions.Network {
			f.Conditions = a.Conditions()
		}
		if err := faults.Validate(f); err != nil {
			t.Errorf("action %d: %v", i, err)
		}
		if i == 0 && !strings.Contains(f.Rules.IPv4, "-i eth0 ") {
			t.Errorf("the placeholder stands: %s", f.Rules.IPv4)
		}
	}
}
