package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/labtest"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm"
)

// TestOneTimeAxis sends flows at an even rate: the n-th entry is made n / rate after the start, on
// the client's clock, so that each sample of the count shows how far the two axes are apart. The
// guest's clock runs 1.4 % too fast; make test-long adds a guest with an exact clock.
func TestOneTimeAxis(t *testing.T) {
	hosttest.NeedTime(t)
	const rate = 500
	text := fmt.Sprintf(`
experiment: axis
dut:
  memory: 256MiB
  rules: |
    *filter
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    COMMIT
workload:
  - {generator: udp, rate: %d/s, duration: 9s, silent: true}
recovery: {at-least: 1s, at-most: 1s}
scenarios:
  one: {sysctl: {net.netfilter.nf_conntrack_max: 65536}, buckets: 65536}
`, rate)
	inLab(t, func(t *testing.T) {
		for _, ppm := range []int{14000, 0} {
			t.Run(fmt.Sprintf("%d ppm", ppm), func(t *testing.T) {
				labtest.Twice(t, func(try testing.TB) {
					var offsets []float64
					run := play{
						text: text,
						booted: func(ctx context.Context, dut vm.Node) error {
							out, err := dut.Agent().Exec(ctx, "", "clockrate", fmt.Sprint(ppm))
							if err == nil && out.Exit != 0 {
								err = errors.New(out.Stderr)
							}
							return err
						},
						look: func(samples []results.Sample) {
							for _, s := range samples {
								// A fast clock deviates most here.
								if s.Seconds > 4 && s.Seconds < 8.5 {
									offsets = append(offsets, s.Seconds-float64(s.Count)/rate)
								}
							}
						},
					}.until(t, func(run *results.Run) bool {
						// Where slots were given up the n-th entry was made later.
						trial := run.Scenarios[0].Trials[0]
						return !trial.Spoilt() && trial.Load.Offered == 9*rate
					})
					slices.Sort(offsets)
					if len(offsets) < 10 {
						t.Fatalf("only %d samples", len(offsets))
					}
					clock := run.Scenarios[0].Trials[0].Clock
					middle := 1000 * offsets[len(offsets)/2]
					t.Logf("%d samples are %.1f ms off, %.1f to %.1f; clock %+v", len(offsets),
						middle, 1000*offsets[0], 1000*offsets[len(offsets)-1], *clock)
					if math.Abs(middle) > 10 {
						try.Errorf("the axes are %.1f ms apart, want at most 10", middle)
					}
					if math.Abs(clock.DriftPPM-float64(ppm)) > 1000 {
						try.Errorf("drift %.0f ppm, want about %d", clock.DriftPPM, ppm)
					}
				})
			})
		}
	})
}
