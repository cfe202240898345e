package wiring

import (
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/scenarios"
)

// Fault returns the form of an action that an agent understands.
func Fault(topology scenarios.Topology, dut scenarios.Configuration, a scenarios.Action, id string) (actions.Fault, error) {
	a, err := a.Substitute(placeholders(topology))
	return a.Fault(id, dut.RulesBackend), err
}
