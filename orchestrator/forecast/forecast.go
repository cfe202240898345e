// Package forecast predicts what a load does to the table: from an experiment alone, or from the
// settings that the kernel of a trial reports.
package forecast

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/occupancy"
	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// moduleAge is about how long a fresh guest's nf_conntrack has been loaded when its load begins.
const moduleAge = 3 * time.Second

// Scenarios returns the prediction for a trial of each scenario; see [Scenario].
func Scenarios(
	topology scenarios.Topology, list []scenarios.Resolved, fill float64,
) (forecasts []results.Forecast) {
	for _, s := range list {
		forecasts = append(forecasts, Scenario(topology, s, fill))
	}
	return forecasts
}

// Scenario predicts a trial of a scenario from the experiment alone: it takes the kernel's defaults
// from the version that the kernel's name stands for and from the memory that the kernel will see.
// fill is the share of max that a load may take at its peak in the proposed table.
func Scenario(topology scenarios.Topology, s scenarios.Resolved, fill float64) results.Forecast {
	version := kernels.Named(s.DUT.Kernel)
	memory := kernels.VisibleMemory(int64(s.DUT.Memory))
	c := assumedCase(topology, s)
	f := results.Forecast{
		Scenario: s.Name, Kernel: version.String(),
		Table: kernels.Size{Max: c.State.Max, Buckets: c.State.Buckets},
	}
	f.Tracked = newPrediction(c).tracks()
	if !f.Tracked {
		return f
	}
	f.Prediction = *Predict(c)
	if f.Prediction.Overflow == 0 && f.Fill() <= fill {
		return f
	}
	made, err := results.MakePlan(results.Demand{
		Offer: offer{c}, Fill: fill, Kernel: version, MemoryBytes: memory,
	})
	if err != nil {
		f.Reason = err.Error()
		return f
	}
	f.Plan = &made
	return f
}

// assumedCase returns a trial of a scenario, as the experiment alone tells it.
func assumedCase(topology scenarios.Topology, s scenarios.Resolved) Case {
	version, memory := kernels.Named(s.DUT.Kernel), kernels.VisibleMemory(int64(s.DUT.Memory))
	return Case{
		Topology: topology, Scenario: s, Entries: wiring.Assignments(topology, s, 1),
		State: assumedState(s.DUT, version, memory), Age: new(moduleAge),
		Client: kernels.Named(kernels.HostName),
	}
}

// Overflows reports whether the load of a scenario is likely to find its table full.
func Overflows(topology scenarios.Topology, s scenarios.Resolved) bool {
	p := newPrediction(assumedCase(topology, s))
	return p.tracks() && occupancy.At(p.input(paces[len(paces)/2]), 60).Overflow >= 1
}

// offer is the load of a case, for a plan.
type offer struct{ c Case }

// Predict implements [results.Offer].
func (o offer) Predict(size kernels.Size) results.Prediction {
	c := o.c
	c.State.Max, c.State.Buckets = size.Max, size.Buckets
	return *Predict(c)
}

// Shorter implements [results.Offer]: an experiment names its timeouts itself.
func (offer) Shorter(float64) results.Offer { return nil }

// Words implements [results.Offer].
func (o offer) Words() string { return "the flows of " + o.c.Scenario.Name }

// assumedState returns what a kernel of that version will report once a scenario has been applied.
func assumedState(dut scenarios.Configuration, version kernels.Version, memory int64) tuning.State {
	size := kernels.DefaultSize(version, memory)
	state := tuning.State{
		Max: size.Max, Buckets: size.Buckets, BucketMultiple: 512,
		Timeouts: kernels.Timeouts(version),
	}
	for _, module := range kernels.Loading(dut.Modules.Load) {
		if size, ok := kernels.LoadedSize(module); ok {
			state.Max, state.Buckets = size.Max, size.Buckets
		}
	}
	if dut.Buckets > 0 {
		state.Buckets = kernels.RoundBuckets(int64(dut.Buckets), state.BucketMultiple)
	}
	for _, setting := range dut.Sysctl {
		n, err := strconv.ParseInt(setting.Value, 10, 64)
		if err != nil {
			continue
		}
		key, _ := kernels.Key(setting.Key)
		switch key {
		case kernels.KeyMax:
			state.Max = n
		case kernels.KeyBuckets:
			state.Buckets = kernels.RoundBuckets(n, state.BucketMultiple)
		default:
			if _, known := state.Timeouts[key]; known {
				state.Timeouts[key] = n
			}
		}
	}
	for family, answer := range map[scenarios.Family]*tuning.Answer{
		scenarios.IPv4: &state.Tracking.IPv4, scenarios.IPv6: &state.Tracking.IPv6,
	} {
		if *answer = tuning.No; dut.Tracks(family) || version.TracksUnasked() {
			*answer = tuning.Yes
		}
	}
	return state
}

// ParseResidence parses the life of an entry in seconds: a duration with its unit, or the state in
// which the load leaves the entry, such as time_wait or udp, which stands for that timeout's
// default in a kernel of version v and is returned too.
func ParseResidence(text string, v kernels.Version) (seconds float64, state string, err error) {
	var d scenarios.Duration
	durationErr := d.UnmarshalText([]byte(text))
	if durationErr == nil {
		return d.Seconds(), "", nil
	}
	if text == "" || text[0] >= '0' && text[0] <= '9' || text[0] == '-' {
		return 0, "", durationErr
	}
	states := kernels.States(v)
	if n, ok := states[text]; ok {
		return float64(n), text, nil
	}
	hint := spelling.Hint(text, slices.Sorted(maps.Keys(states)))
	return 0, "", fmt.Errorf("%q is neither a duration, such as 120s, nor a state%s", text, hint)
}
