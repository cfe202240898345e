package orchestrator

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
)

// interrupter is a view that interrupts the run when a stage begins.
type interrupter struct {
	events.Sink
	stage     string
	interrupt context.CancelFunc
}

func (v interrupter) Take(e events.Event) {
	v.Sink.Take(e)
	if e.Kind == events.StageBegin && e.Stage.Name == v.stage {
		v.interrupt()
	}
}

// TestInterrupt_InRecovery interrupts a trial while its recovery is watched: the trial keeps its
// measurements, and the reason names the interrupted stage.
func TestInterrupt_InRecovery(t *testing.T) {
	inLab(t, func(t *testing.T) {
		r := play{text: `
experiment: interrupted
dut:
  memory: 256MiB
  rules: "*filter\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n"
workload:
  - {generator: udp, flows: 100, rate: 200/s, silent: true}
recovery: {at-least: 60s, at-most: 60s}
scenarios: {one: {}}
`}.request(t)
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		r.View = interrupter{r.View, stageRecovery, interrupt}
		run, err := Run(ctx, r)
		if !errors.Is(err, context.Canceled) || !run.Interrupted {
			t.Fatalf("%v, interrupted %v", err, run.Interrupted)
		}
		trial := run.Scenarios[0].Trials[0]
		if !slices.Contains(trial.Invalid, `interrupted in stage "recovery"`) ||
			!slices.Contains(trial.InvalidCodes, results.CodeInterrupted) {
			t.Errorf("reasons %q, codes %q", trial.Invalid, trial.InvalidCodes)
		}
		if trial.Conntrack.Peak == 0 || trial.Recovery == nil ||
			trial.Recovery.Ended != results.Interrupted {
			t.Errorf("peak %d, recovery %+v: what was measured is lost", trial.Conntrack.Peak,
				trial.Recovery)
		}
	})
}
