package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/vm/libvirt"
)

// startResponders starts what the workload needs an answer from.
func (t *trial) startResponders(ctx context.Context) error {
	for name, specs := range responderSpecs(t.Plan.Experiment.Topology, t.scenario) {
		node := t.dut
		if name != t.dut.Name() {
			node = t.loads[name]
		}
		for _, spec := range specs {
			if err := node.Agent().Respond(ctx, spec); err != nil {
				return err
			}
		}
	}
	return nil
}

// sampling is the stream of the DUT's samples.
type sampling struct {
	cancel context.CancelFunc
	ended  chan error
}

// stop ends the stream and says how it ended.
func (s *sampling) stop() error {
	s.cancel()
	return <-s.ended
}

// startSampling begins to sample the DUT and returns with the first sample: the baseline.
func (t *trial) startSampling(ctx context.Context) (*sampling, error) {
	stream, cancel := context.WithCancel(ctx)
	s := &sampling{cancel: cancel, ended: make(chan error, 1)}
	interval := time.Duration(float64(time.Second) / float64(t.Plan.Experiment.Sampling))
	go func() {
		s.ended <- t.dut.Agent().Sample(stream, interval, t.sampled)
	}()
	select {
	case <-t.series.first:
		return s, nil
	case err := <-s.ended:
		cancel()
		if err == nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
}

// sampled takes one sample of the DUT.
func (t *trial) sampled(s samplers.Sample) {
	sample := results.Sample{Count: s.Count, Max: s.Max, Buckets: s.Buckets}
	if s.Counters != nil {
		sample.Counters = *s.Counters
	}
	if s.Log != nil {
		sample.LogLines, sample.LogSupp = s.Log.Lines, s.Log.Suppressed
	}
	t.notes.take(s)
	t.View.Table(t.series.add(t.clock.at(s.Monotonic), sample))
}

// running is a load that was started and not yet waited for.
type running struct {
	group  *errgroup.Group
	cancel context.CancelFunc
}

// makeLoad starts the probes and the generators of the workload together and waits for the
// generators; the probes go on.
func (t *trial) makeLoad(ctx context.Context, entries []assignment) error {
	var want int64
	for i, a := range entries {
		if !a.probe {
			want += a.spec.Count
		}
		if t.Lab.About().Accelerator == libvirt.TCG {
			entries[i].spec.Slack = emulatedSlack
		}
	}
	zero := time.Now()
	t.series.start(zero)

	probing, cancel := context.WithCancel(ctx)
	t.probes = &running{group: new(errgroup.Group), cancel: cancel}
	living, release := t.whileDUTLives(ctx)
	defer release()
	loads, loadCtx := errgroup.WithContext(living)
	made := make([]generators.Result, len(entries))
	for i, a := range entries {
		if a.probe {
			t.probes.group.Go(func() error { return t.probe(probing, a, zero) })
			continue
		}
		loads.Go(func() error {
			var err error
			made[i], err = t.generate(loadCtx, a, want)
			return err
		})
	}
	err := loads.Wait()
	t.account(entries, made, zero)
	return err
}

// errDUTLost is why a load ends early when its DUT is gone.
var errDUTLost = errors.New("the DUT's agent is gone")

// whileDUTLives ends with the DUT: a load on a dead one would only time out, request by request.
func (t *trial) whileDUTLives(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	released := make(chan struct{})
	go func() {
		select {
		case <-t.dut.Agent().Lost():
			cancel(errDUTLost)
		case <-released:
		}
	}()
	return ctx, func() { close(released); cancel(nil) }
}

// generate makes one entry's load on its node.
func (t *trial) generate(ctx context.Context, a assignment, want int64) (generators.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.limit(), fmt.Errorf("%s did not end within %v", a.name, a.limit()))
	defer cancel()
	if err := wait(ctx, a.start); err != nil {
		return generators.Result{}, err
	}
	return t.loads[a.node].Agent().Generate(ctx, a.spec, func(p generators.Progress) {
		done, failed := t.series.progress(a.name, p)
		t.View.Load(done, failed, want)
	})
}

// probe runs a bystander until ctx ends, which is how every probe ends.
func (t *trial) probe(ctx context.Context, a assignment, zero time.Time) error {
	if err := wait(ctx, a.start); err != nil {
		return nil
	}
	result, err := t.loads[a.node].Agent().Generate(ctx, a.spec, nil)
	if err != nil && ctx.Err() == nil {
		return err
	}
	var attempts []results.ProbeSample
	for _, p := range result.Probe {
		if p.Cause == generators.Cancelled {
			continue // under way when the probe was stopped: neither answered nor lost
		}
		attempts = append(attempts, results.ProbeSample{
			Seconds: p.At.Sub(zero).Seconds(), Millis: milliseconds(p.Latency), OK: p.OK, Cause: string(p.Cause),
		})
	}
	t.series.addProbes(attempts, result.Total)
	return nil
}

// stopProbes ends the bystanders and takes what they saw.
func (t *trial) stopProbes() error {
	if t.probes == nil {
		return nil
	}
	t.probes.cancel()
	return t.probes.group.Wait()
}

// watchRecovery goes on sampling and probing after the load.
func (t *trial) watchRecovery(ctx context.Context) error {
	return wait(ctx, time.Duration(t.Plan.Experiment.Recovery))
}

// wait passes the time, unless ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// account puts what the generators did into the trial's result.
func (t *trial) account(entries []assignment, made []generators.Result, zero time.Time) {
	var sum generators.Result
	var names []string
	for i, a := range entries {
		r := made[i]
		if a.probe || r.Started.IsZero() {
			continue
		}
		t.result.Seconds = max(t.result.Seconds, r.Started.Add(r.Elapsed).Sub(zero).Seconds())
		names = append(names, a.name)
		sum.Merge(r)
	}
	t.result.Load = load(names, sum)
	t.made = sum
}
