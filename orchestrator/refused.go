package orchestrator

import (
	"context"
	"fmt"
	"strings"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// executor runs a command on a node; see [agent.Client.Exec].
type executor interface {
	Exec(ctx context.Context, stdin string, argv ...string) (agent.Output, error)
}

// refusals runs the faulty command lines of a scenario and returns what the DUT's own tools say to
// each.
func refusals(ctx context.Context, dut executor, c scenarios.Configuration) ([]results.Refusal, error) {
	var list []results.Refusal
	for _, line := range c.Refused {
		argv := strings.Fields(line)
		if argv[0] == "iptables" || argv[0] == "ip6tables" {
			argv[0] += "-" + string(c.RulesBackend)
		}
		out, err := dut.Exec(ctx, "", argv...)
		if err != nil {
			return list, fmt.Errorf("run %q on the DUT: %w", line, err)
		}
		said, _, _ := strings.Cut(strings.TrimSpace(out.Stderr), "\n")
		list = append(list, results.Refusal{Command: line, Status: out.Exit, Said: said})
	}
	return list, nil
}
