package orchestrator

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/scenarios"
)

const withActions = `
experiment: acts
topology: router
phases: {fill: 5s, rest: 10s}
workload:
  - {generator: udp, rate: 100/s, phase: fill, crafted: true}
  - {generator: tcp, name: second, connections: 10, rate: 5/s}
  - {probe: tcp, port: 22, rate: 10/s}
steady: [probe.loss == 0]
actions:
  - {action: link-down, link: dut/server, at: 1s, phase: rest, for: 500ms, every: 2s, times: 3}
  - {action: sysctl, name: raise, fix: true, sysctl: {net.netfilter.nf_conntrack_max: 65536},
     when: first drop, after: 10s}
  - {action: flush, at: 2s, phase: recovery}
scenarios: {a: {}}
`

func TestTimeLine(t *testing.T) {
	var got []string
	for _, p := range planned(t, withActions).TimeLine()[0].Points {
		mark := "  "
		if p.Action {
			mark = "* "
		}
		got = append(got, p.When+mark+p.What)
	}
	want := []string{
		"-0.50 s  probe: tcp from client to server at 10/s, until the end",
		"0 s  udp: crafted udp from client to server at 100/s, for 5s",
		"0 s  second: tcp from client to server at 5/s, 10 of them",
		"0 s  phase fill",
		"5.00 s  phase rest",
		"6.00 s* link-down: down (dut/server), for 500ms, 3 times, every 2s",
		"first drop + 10s* raise: nf_conntrack_max = 65536 (dut), a fix, until the end",
		"15.0 s  the load is over; recovery watched for 5.00 s",
		"17.0 s* flush: all entries removed (dut)",
		"20.0 s  what still holds is taken back; collected",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestConditionsAreChecked: a condition that names nothing of the time line is an error of the
// experiment, at its place.
func TestConditionsAreChecked(t *testing.T) {
	for _, tc := range []struct{ from, to, want string }{
		{"first drop", "conntrack.cuont > 5", `experiment.yaml:13:12: condition ` +
			`"conntrack.cuont > 5", line 1, column 11: the time line has no field ` +
			`"conntrack.cuont"; did you mean "conntrack.count"?`},
		{"first drop", "first dropp", `line 1, column 7: nothing of the time line that comes ` +
			`first is called "dropp"; did you mean "drop"?`},
		{"probe.loss == 0", "probe.loss", `expected bool`},
	} {
		file := filepath.Join(t.TempDir(), "experiment.yaml")
		if err := os.WriteFile(file, []byte(strings.Replace(withActions, tc.from, tc.to, 1)),
			0o600); err != nil {
			t.Fatal(err)
		}
		experiment, _, err := scenarios.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewPlan(experiment, 1)
		var invalid *scenarios.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v; want %q", tc.to, err, tc.want)
		}
	}
}
