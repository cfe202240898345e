package orchestrator

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// recovery returns how long trials of a scenario are watched after their load. The time is fixed
// where a steady state, an action or a threshold needs what it shows.
func (p *Plan) recovery(scenario int) scenarios.Recovery {
	r := p.Experiment.Recovery
	if p.recoveryIsAsked(scenario) {
		r.AtLeast = r.AtMost
	}
	return r
}

// recoveryIsAsked reports whether a scenario needs what the time after its load shows.
func (p *Plan) recoveryIsAsked(scenario int) bool {
	s := p.Scenarios[scenario]
	return len(s.Actions)+len(s.Steady) > 0 ||
		slices.ContainsFunc(p.thresholds[scenario], (*results.Threshold).OfRecovery)
}

// recoveryEvery is the time between two checks whether the watch after the load is over.
const recoveryEvery = 50 * time.Millisecond

// watchRecovery goes on sampling and probing after the load, until the DUT has settled or the time
// is over.
func (t *trial) watchRecovery(ctx context.Context) error {
	bounds := t.Plan.recovery(t.slot.Scenario)
	began := time.Now()
	var failed int64
	for _, e := range t.result.Entries {
		failed += e.Failed
	}
	w := results.Watch{
		LoadEnd: began.Sub(t.zero).Seconds(), Failed: failed,
		AtLeast: bounds.AtLeast.Seconds(), AtMost: bounds.AtMost.Seconds(),
	}
	done := func(why results.RecoveryEnd) {
		watched := time.Since(began).Seconds()
		t.result.Recovery = &results.Recovery{AtMost: w.AtMost, Watched: watched, Ended: why}
	}
	tick := time.NewTicker(recoveryEvery)
	defer tick.Stop()
	for {
		w.Now = time.Since(t.zero).Seconds()
		w.Samples, w.Bystanders = t.series.since(w.LoadEnd), t.bystanders.since(began, t.zero)
		if why, over := w.End(); over {
			done(why)
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			done(results.Interrupted)
			return context.Cause(ctx)
		}
	}
}

// bystanders gathers what the probes of a trial have seen so far.
type bystanders struct {
	mu     sync.Mutex
	byName map[string]*bystander
}

// bystander holds the observations of one probe. Times are zero until the event occurs.
type bystander struct {
	spec      generators.Spec
	last      generators.Progress
	heardLoss time.Time // when the latest report of a loss arrived
	answered  time.Time // when the last answered attempt was sent
	none      time.Time // when last every attempt had a result
}

// update takes a progress report of a probe.
func (b *bystanders) update(a wiring.Assignment, p generators.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byName == nil {
		b.byName = map[string]*bystander{}
	}
	one := b.byName[a.Name]
	if one == nil {
		one = &bystander{spec: a.Spec}
		b.byName[a.Name] = one
	}
	now := time.Now()
	if p.Failed > one.last.Failed {
		one.heardLoss = now
	}
	if p.Completed > one.last.Completed {
		one.answered = now.Add(-p.Answered)
	}
	if p.Open == 0 {
		one.none = now
	}
	one.last = p
}

// since returns what the probes have seen, on an axis with the given zero, for the end of the load.
func (b *bystanders) since(loadEnd, zero time.Time) []results.Bystander {
	b.mu.Lock()
	defer b.mu.Unlock()
	seconds := func(at time.Time) float64 {
		if at.IsZero() {
			return 0
		}
		return at.Sub(zero).Seconds()
	}
	var list []results.Bystander
	for _, one := range b.byName {
		due := time.Since(loadEnd) < one.spec.Timeout+recoveryEvery
		list = append(list, results.Bystander{
			Interval: 1 / one.spec.Rate, Timeout: one.spec.Timeout.Seconds(), Lost: one.last.Failed,
			HeardLoss: seconds(one.heardLoss), Answered: seconds(one.answered),
			Pending: !one.none.After(loadEnd) && due,
		})
	}
	return list
}
