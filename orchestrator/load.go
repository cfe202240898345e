package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/events"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/libvirt"
)

// startResponders starts the programs that answer the workload.
func (t *trial) startResponders(ctx context.Context) error {
	for name := range wiring.Responders(t.Plan.Experiment.Topology, t.scenario) {
		if err := t.startServers(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// startServers starts the responders of one node.
func (t *trial) startServers(ctx context.Context, name string) error {
	for _, spec := range wiring.Responders(t.Plan.Experiment.Topology, t.scenario)[name] {
		if err := t.node(name).Agent().Respond(ctx, spec); err != nil {
			return err
		}
	}
	return nil
}

// sampling is the stream of the DUT's samples.
type sampling struct {
	cancel context.CancelFunc
	ended  chan error
}

// stop ends the stream and returns the error that it ended with.
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
		s.ended <- t.eachAgent(stream, func(dut *agent.Client) error {
			return dut.Sample(stream, interval, t.sampled)
		})
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

// sampled handles one sample of the DUT.
func (t *trial) sampled(s samplers.Sample) {
	sample := results.Sample{Count: s.Count, Max: s.Max, Buckets: s.Buckets}
	if s.Counters != nil {
		sample.Counters = *s.Counters
	}
	if s.Log != nil {
		sample.LogLines, sample.LogSupp = s.Log.Lines, s.Log.Suppressed
	}
	t.notes.take(s)
	sample = t.series.add(s.Monotonic, sample)
	t.timeline.observe(sample)
}

// sampleTaken tells of a sample whose time is known.
func (t *trial) sampleTaken(sample results.Sample) {
	t.tell(events.Event{Kind: events.SampleTaken, Sample: &sample})
}

// probing holds the bystanders and the other tasks that run until the watch over the recovery has
// ended.
type probing struct {
	group  *errgroup.Group
	cancel context.CancelFunc
}

// probeLead separates the start of the bystanders from that of the load: their state before it.
const probeLead = 500 * time.Millisecond

// startProbes starts the bystanders and the watch over the clock, and waits for probeLead.
func (t *trial) startProbes(ctx context.Context, entries []wiring.Assignment) error {
	background, cancel := context.WithCancel(ctx)
	t.probes = &probing{group: new(errgroup.Group), cancel: cancel}
	t.probes.group.Go(func() error {
		_ = t.eachAgent(background, func(dut *agent.Client) error {
			return t.series.current().watch(background, dut)
		}) // the caller that needs the DUT reports its loss
		return nil
	})
	lead := time.Duration(0)
	for i, a := range entries {
		if a.Probe {
			lead = probeLead
			load := t.take(i)
			t.probes.group.Go(func() error { return t.probe(background, a, load) })
		}
	}
	return wait(ctx, lead)
}

// wanted returns how many requests, connections or flows a load makes at most; 0 where the answers
// and the clock decide.
func wanted(entries []wiring.Assignment) int64 {
	var sum int64
	for _, a := range entries {
		if a.Probe {
			continue
		}
		n, rate := a.Spec.Count, a.MeanRate()
		if rate > 0 && a.Spec.Duration > 0 && a.Spec.Kind != generators.Hold {
			if most := int64(rate * a.Spec.Duration.Seconds()); n == 0 || most < n {
				n = most
			}
		}
		if n == 0 {
			return 0
		}
		sum += n
	}
	return sum
}

// These bound the lateness of a send where counts are valid and timings are not: where an emulated
// DUT takes the CPUs of its own generator, and for a generator inside an emulated machine.
const (
	emulatedSlack     = 100 * time.Millisecond
	emulatedLoadSlack = 5 * time.Second
)

// assignments returns the entries of the workload.
func (t *trial) assignments() []wiring.Assignment {
	entries := wiring.Assignments(t.Plan.Experiment.Topology, t.scenario, t.Plan.Seed)
	for i, a := range entries {
		if !a.Probe && a.Spec.Slack == 0 && t.Lab.About().Accelerator == libvirt.TCG {
			entries[i].Spec.Slack = emulatedSlack
			if c := t.clocks[a.Node]; c != nil && !c.ours {
				entries[i].Spec.Slack = emulatedLoadSlack
			}
		}
	}
	return entries
}

// prepare makes all generators and bystanders ready to begin, those of later entries too: what a
// generator does before its first send takes up to seconds.
func (t *trial) prepare(ctx context.Context, entries []wiring.Assignment) error {
	t.prepared = make([]*agent.Prepared, len(entries))
	for i, a := range entries { // one after the other: the first has the card's fast path
		var err error
		if t.prepared[i], err = t.node(a.Node).Agent().Prepare(ctx, a.Spec); err != nil {
			return err
		}
	}
	return nil
}

// take returns the load of an entry, for the caller to run.
func (t *trial) take(entry int) *agent.Prepared {
	load := t.prepared[entry]
	t.prepared[entry] = nil
	return load
}

// discard frees the loads that did not run.
func (t *trial) discard() {
	for i := range t.prepared {
		if load := t.take(i); load != nil {
			load.Discard()
		}
	}
}

// makeLoad lets the generators of the workload begin, each at its instant of the axis, and waits
// for them.
func (t *trial) makeLoad(ctx context.Context, entries []wiring.Assignment) error {
	want := wanted(entries)
	t.timeline.start(ctx)
	t.zero = time.Now().Add(t.lead(entries))
	t.result.Started = t.zero.Round(0)
	t.series.start(t.zero)
	close(t.timeline.begun)
	defer close(t.timeline.ended)

	living, release := t.whileNodesLive(ctx)
	defer release()
	watching, unwatch := context.WithCancel(living)
	defer unwatch()
	go t.watchLinks(watching)
	go t.tellPhases(watching)
	loads, loadCtx := errgroup.WithContext(living)
	loadResults := make([]generators.Result, len(entries))
	var others sync.WaitGroup // entries that wait for no action
	for i, a := range entries {
		if a.Probe {
			continue
		}
		ended := func() {}
		if t.timeline.joined[a.Entry.Name] == nil {
			others.Add(1)
			ended = others.Done
		}
		load := t.take(i)
		loads.Go(func() error {
			defer ended()
			var err error
			loadResults[i], err = t.generate(loadCtx, a, load, want)
			return err
		})
	}
	if total := t.scenario.Phases.Total(); total > 0 {
		// A phase may be a pause.
		over := t.zero.Add(time.Duration(total))
		loads.Go(func() error { return wait(loadCtx, time.Until(over)) })
	}
	others.Wait()
	close(t.timeline.othersEnded)
	err := loads.Wait()
	err = errors.Join(err, t.compareLoads(ctx))
	for i, a := range entries {
		t.clocks[a.Node].translate(&loadResults[i])
	}
	t.account(entries, loadResults)
	return err
}

// tellPhases tells of each phase of the load as it begins, until ctx ends.
func (t *trial) tellPhases(ctx context.Context) {
	for _, phase := range phases(t.scenario.Phases) {
		begins := t.zero.Add(time.Duration(phase.Start * float64(time.Second)))
		if wait(ctx, time.Until(begins)) != nil {
			return
		}
		t.tell(events.Event{Kind: events.PhaseBegin, Phase: &phase})
	}
}

// eachAgent calls do with the DUT's agent, and with its next one after each reset of the DUT, until
// do succeeds or the agent is gone for good.
func (t *trial) eachAgent(ctx context.Context, do func(*agent.Client) error) error {
	for {
		client := t.dut.Agent()
		if err := do(client); err == nil || !t.timeline.returned(ctx, client) {
			return err
		}
	}
}

// whileNodesLive returns a context that ends with the DUT, a load node or the lab: a load on a dead
// node, or by one, would only time out, request by request.
func (t *trial) whileNodesLive(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	lost := func(client *agent.Client) error {
		select {
		case <-client.Lost():
			return client.Gone()
		case <-ctx.Done():
			return nil
		}
	}
	go func() { cancel(t.eachAgent(ctx, lost)) }()
	for _, node := range t.loads {
		go func() { cancel(lost(node.Agent())) }()
	}
	if lab, ok := t.Lab.(vm.Mortal); ok {
		go func() {
			select {
			case <-lab.Ended():
				cancel(&vm.LostError{Reason: errLabEnded})
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}

// errLabEnded is the cause of a load's early end when its lab is gone.
var errLabEnded = errors.New("its daemon has ended")

// generate makes one entry's load on its node, where it is ready.
func (t *trial) generate(
	ctx context.Context, a wiring.Assignment, load *agent.Prepared, want int64,
) (result generators.Result, err error) {
	joined := t.timeline.joined[a.Entry.Name]
	if joined != nil {
		select {
		case <-joined:
		case <-t.timeline.othersEnded: // the action that it waits for did not occur
			load.Discard()
			return result, nil
		case <-ctx.Done():
			load.Discard()
			return result, context.Cause(ctx)
		}
	}
	late := fmt.Errorf("%s ran for more than %v", a.Name, a.Limit())
	ctx, cancel := context.WithTimeoutCause(ctx, a.Limit(), late)
	defer cancel()
	at, begin := time.Now(), time.Duration(0)
	if joined == nil {
		at = t.zero.Add(a.Start)
		if begin, err = t.instant(ctx, a.Node, at); err != nil {
			load.Discard()
			return result, err
		}
	}
	result, err = load.Run(ctx, begin, func(p generators.Progress) {
		done, failed := t.series.progress(a, p)
		t.tell(events.Event{Kind: events.LoadMoved,
			Load: &events.Load{Done: done, Failed: failed, Wanted: want}})
	})
	if a.Node == t.dut.Name() {
		result = byDUT(result, at)
	}
	return result, err
}

// byDUT adjusts the result of a load that the DUT itself made from begun on, since its clock is not
// this host's. A growing and refusing table limits any other generator; here it is the subject.
func byDUT(r generators.Result, begun time.Time) generators.Result {
	if !r.Started.IsZero() {
		r.Started = begun.Round(0)
	}
	r.Usage.ConntrackBefore, r.Usage.ConntrackPeak = -1, 0
	r.Limits = slices.DeleteFunc(r.Limits, func(limit generators.Limit) bool {
		return limit.Code == generators.LimitConntrack || limit.Code == generators.LimitNetfilter
	})
	return r
}

// probe runs a bystander until ctx ends: no probe ends by itself.
func (t *trial) probe(ctx context.Context, a wiring.Assignment, load *agent.Prepared) error {
	progress := func(p generators.Progress) {
		t.timeline.probed(a, p)
		t.bystanders.update(a, p)
		if now, known := t.series.axis(time.Now()); known {
			t.tell(events.Event{Kind: events.ProbeMoved, Probe: &events.Probe{
				Name: a.Entry.Name, Seconds: now, Sent: p.Completed + p.Failed, Lost: p.Failed,
				Millis: milliseconds(p.Answered),
			}})
		}
	}
	result, err := load.Run(ctx, 0, progress)
	if err != nil && ctx.Err() == nil {
		return err
	}
	t.clocks[a.Node].translate(&result)
	var attempts []attempt
	var pending int64
	for _, p := range result.Probe {
		if p.Cause == generators.Cancelled {
			pending++ // under way when the probe was stopped: neither answered nor lost
			continue
		}
		sample := results.ProbeSample{
			Probe:  a.Entry.Name,
			Millis: milliseconds(p.Latency), OK: p.OK, Cause: string(p.Cause),
		}
		attempts = append(attempts, attempt{p.At, sample})
	}
	t.series.addProbes(a.Entry.Name, attempts, pending, result.Total)
	return nil
}

// stopProbes ends the bystanders and stores what they saw.
func (t *trial) stopProbes() error {
	if t.probes == nil {
		return nil
	}
	t.probes.cancel()
	return t.probes.group.Wait()
}

// wait returns after d, or when ctx ends.
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

// account converts the generators' results, one for each assignment, into those of the trial's
// entries.
func (t *trial) account(list []wiring.Assignment, made []generators.Result) {
	zero := t.zero.Round(0)
	var ended time.Time
	t.made = map[string]generators.Result{}
	for i, a := range list {
		r := made[i]
		if a.Probe || r.Started.IsZero() {
			continue
		}
		t.begun = zero
		if t.timeline.joined[a.Entry.Name] == nil {
			t.skew = max(t.skew, r.Started.Add(r.Begun).Sub(zero.Add(a.Start)).Abs())
		}
		if end := r.Started.Add(r.Elapsed); end.After(ended) {
			ended = end
		}
		if a.ClosedLoop() {
			t.busy = max(t.busy, r.Usage.Busy)
		}
		all := t.made[a.Entry.Name]
		all.Merge(r)
		t.made[a.Entry.Name] = all
	}
	if !t.begun.IsZero() {
		t.result.Seconds = ended.Sub(t.begun).Seconds()
	}
	for name, r := range t.made {
		e := t.result.Entries[name]
		e.Attempts = attempts(answered(r), e.Unit, e.OneWay())
		e.Start = r.Started.Sub(t.begun).Seconds()
		t.result.Entries[name] = e
	}
	t.result.Load = t.sum(list)
}

// answered returns a result without the times for which connections were held: they are no times
// until an answer.
func answered(r generators.Result) generators.Result {
	if r.Kind == generators.Hold {
		r.Total = nil
	}
	return r
}

// sum returns the load of the entries that are not hostile, nil where they make no sum.
func (t *trial) sum(list []wiring.Assignment) *results.Load {
	summed, _ := results.Summed(t.result.Entries)
	var names []string // in the order of the workload
	var all generators.Result
	for _, a := range list {
		name := a.Entry.Name
		if slices.Contains(summed, name) && !slices.Contains(names, name) {
			names = append(names, name)
			all.Merge(answered(t.made[name]))
		}
	}
	if len(summed) == 0 {
		return nil
	}
	first := t.result.Entries[summed[0]]
	return &results.Load{
		Generator: strings.Join(names, "+"), Attempts: attempts(all, first.Unit, first.OneWay()),
	}
}
