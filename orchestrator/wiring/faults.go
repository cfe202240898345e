package wiring

import (
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/scenarios"
)

// Fault returns an action as an agent is asked for it.
func Fault(topology scenarios.Topology, dut scenarios.Configuration, a scenarios.Action, id string) (actions.Fault, error) {
	a, err := a.Substitute(placeholders(topology))
	return a.Fault(id, dut.RulesBackend), err
}
