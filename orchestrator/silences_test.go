package orchestrator

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/lifetimes"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
)

// TestSilences: a connection is silent between its keep-alive bytes, or until it ends.
func TestSilences(t *testing.T) {
	second := time.Second
	var entries []wiring.Assignment
	add := func(name string, s generators.Spec) {
		entries = append(entries, wiring.Assignment{Name: name, Spec: s})
	}
	add("pool", generators.Spec{
		Kind: generators.Hold, Duration: 20 * second, Payload: 10, Interval: 8 * second,
	})
	add("idle", generators.Spec{Kind: generators.Hold, Duration: 20 * second})
	add("mute", generators.Spec{
		Kind: generators.Hold, Duration: 20 * second, Interval: 8 * second,
	})
	add("lives", generators.Spec{
		Kind: generators.TCP, Lifetime: lifetimes.Distribution{Mean: 5 * second},
	})
	add("web", generators.Spec{Kind: generators.HTTP})
	add("talk", generators.Spec{
		Kind: generators.UDP, Exchanges: 3, Interval: 40 * second,
	})
	add("once", generators.Spec{Kind: generators.UDP, Interval: 40 * second})
	want := []results.Silence{
		{Entry: "pool", Protocol: "tcp", Seconds: 8}, {Entry: "idle", Protocol: "tcp", Seconds: 20},
		{Entry: "mute", Protocol: "tcp", Seconds: 20},
		{Entry: "lives", Protocol: "tcp", Seconds: 5},
		{Entry: "talk", Protocol: "udp", Seconds: 40},
	}
	if diff := cmp.Diff(want, silences(entries)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
