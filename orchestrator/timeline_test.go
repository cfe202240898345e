package orchestrator

import (
	"errors"
	"strings"
	"testing"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/scenarios"
)

// TestTimelineTake: no action gets what another one owns, wholly or in part, before that one is
// over.
func TestTimelineTake(t *testing.T) {
	l := &timeline{owners: map[string]string{}}
	release, err := l.reserve([]string{"dut/client", "dut/server"}, "parted")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.reserve([]string{"client/client", "dut/server"}, "slow"); err == nil ||
		!strings.Contains(err.Error(), "parted still has dut/server") {
		t.Errorf("taken twice: %v", err)
	}
	other, err := l.reserve([]string{"client/client"}, "slow")
	if err != nil {
		t.Errorf("of what was refused something is taken: %v", err)
	}
	release()
	if _, err := l.reserve([]string{"dut/server"}, "later"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	other()
}

// TestActionsTellRunsApart: runs whose experiments differ only in their actions are not compared;
// the place of actions in the file makes no difference.
func TestActionsTellRunsApart(t *testing.T) {
	const text = `
experiment: apart
workload: [{generator: udp, rate: 10/s, duration: 5s, silent: true}]
actions:
  - {action: network, loss: 0%, when: first drop, after: 1s}
  - {action: flush, at: 2s}
scenarios: {a: {}}
`
	run := func(text string) *results.Run {
		e, _, err := scenarios.Parse("apart.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		plan, err := NewPlan(e, 1)
		if err != nil {
			t.Fatal(err)
		}
		run := plan.Expected()
		run.Scenarios[0].Trials = []results.Trial{{Number: 1}}
		return run
	}
	names, last := []string{"last", "this"}, run(text)
	if _, err := compare.Runs(names, []*results.Run{last, run("# moved\n\n" + text)}); err != nil {
		t.Errorf("the same actions: %v", err)
	}
	for _, change := range [][2]string{{"at: 2s", "at: 3s"}, {"after: 1s", "after: 2s"},
		{"first drop", "first loss"}, {"loss: 0%", "loss: 1%"}, {"flush", "rules-remove"},
		{"  - {action: flush, at: 2s}\n", ""}} {
		_, err := compare.Runs(names, []*results.Run{last,
			run(strings.Replace(text, change[0], change[1], 1))})
		if _, unlike := errors.AsType[*compare.UnlikeError](err); !unlike ||
			!strings.Contains(err.Error(), "actions of a") {
			t.Errorf("%q for %q: %v", change[1], change[0], err)
		}
	}
}
