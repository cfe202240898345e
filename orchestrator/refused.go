package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// tryRefused runs the command lines of the scenario that have a mistake in them, and records what the
// DUT's own tools say. One that succeeds makes the trial invalid: the scenario then shows another thing
// than it says.
func (t *trial) tryRefused(ctx context.Context) error {
	for _, line := range t.scenario.DUT.Refused {
		argv := strings.Fields(line)
		if argv[0] == "iptables" || argv[0] == "ip6tables" {
			argv[0] += "-" + string(t.scenario.DUT.RulesBackend)
		}
		out, err := t.dut.Agent().Exec(ctx, "", argv...)
		if err != nil {
			return fmt.Errorf("run %q on the DUT: %w", line, err)
		}
		said, _, _ := strings.Cut(strings.TrimSpace(out.Stderr), "\n")
		t.result.Refused = append(t.result.Refused, results.Refusal{Command: line, Status: out.Exit, Said: said})
		if out.Exit == 0 {
			t.invalidate("%q was to be refused, and succeeded", line)
		}
	}
	return nil
}

// refusingTools are the programs beyond those of every guest that refuse the command lines of a plan.
func refusingTools(plan *Plan) []string {
	sysctl := func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "sysctl ") }
	if slices.ContainsFunc(plan.Scenarios, func(s scenarios.Resolved) bool { return slices.ContainsFunc(s.DUT.Refused, sysctl) }) {
		return []string{"sysctl"}
	}
	return nil
}
