package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators/latency"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/orchestrator/forecast"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/vm"
)

// collectLimit bounds the reading of a DUT after the load. A saturated DUT needs a while.
const collectLimit = 60 * time.Second

// Files of the trial's folder.
const (
	fileTable  = "table.json"  // the table's content after the load
	fileSystem = "system.json" // the DUT kernel's other counters: CPU time, memory, network
	// fileCrossCheck holds the cross-checks: before the load, right before the last sample, and
	// after that sample, when stray packets may have been counted.
	fileCrossCheck = "witness.json"
)

// collect takes the last figures, reads back the settings, which may have changed since the load
// began, and saves what only the DUT knows. It goes on when the caller's context has ended, so that
// an interrupt loses no measurement.
func (t *trial) collect(before tuning.State, first CrossCheck) error {
	ctx, cancel := context.WithTimeout(context.Background(), collectLimit)
	defer cancel()
	t.timeline.rest()
	dut := t.dut.Agent()
	nearly := t.crossCheck(ctx, false)
	frames, uncounted := t.countFrames(ctx)
	last, err := dut.FinalSample(ctx)
	if err == nil {
		t.sampled(last)
		err = t.series.current().compare(ctx, dut)
	}
	if err == nil {
		err = uncounted
	}
	t.summarise()
	err = errors.Join(err, t.timeline.stop())
	made := map[string]any{"entries": t.made}
	err = errors.Join(err, t.folder.SaveJSON(results.FileHistograms, made))
	if err != nil {
		return t.died(err)
	}

	after, err := dut.ReadBack(ctx, t.settings)
	if err != nil {
		return t.died(err)
	}
	for _, change := range tuning.Changes(before, after) {
		if len(t.result.Actions) > 0 && change.Kind == tuning.ModuleCame {
			continue // an action needed it: a module stays
		}
		t.invalidate(results.CodeChanged, "the DUT was changed during the trial: %s", change)
	}
	end := after
	if t.timeline.rules != nil {
		end = *t.timeline.rules
	}
	t.result.Rules, t.result.NAT = tuning.RuleCounts(before, end), tuning.NAT(before, end)
	t.result.Tracking, t.result.Timeouts = tracking(before), timeouts(before)
	t.result.Silences = silences(wiring.Assignments(
		t.Plan.Experiment.Topology, t.scenario, t.Plan.Seed))
	t.result.Transit = t.transit(t.framesBefore, frames)
	t.result.SetReceived(wiring.DUT, t.received(t.framesBefore, frames))
	t.result.Stack = stack(last.System, t.result.Rules)
	if t.result.Stack != nil {
		t.result.Stack.DropReasonsMissing = t.dropsUnseen
		t.result.Stack.MemoryFaults = t.notes.read().starved
	}

	// Readings that change the DUT come last: the dump and conntrack(8) load a module.
	table, err := dut.Dump(ctx)
	if err != nil {
		return t.died(err)
	}
	t.result.Conntrack.ObjectBytes = table.Memory.EntryBytes
	t.result.Contents = contents(table, before, end)
	final := t.crossCheck(ctx, true)
	log, err := dut.KernelLog(ctx)
	if err != nil {
		return t.died(err)
	}
	t.result.Conntrack.LogMissed = log.Dropped
	if last.Log != nil {
		t.result.Conntrack.LogMissed += last.Log.Missed // gaps in the sequence
	}
	if err := t.counterMeaning(ctx); err != nil {
		return t.died(err)
	}
	if t.result.Meaning != nil { // what was refused while it was not steady depends on it
		t.judgeHeal(t.series.all())
	}
	checks := map[string]CrossCheck{"before": first, "last": nearly, "after": final}
	return errors.Join(
		t.folder.SaveJSON(fileTable, table), t.folder.SaveJSON(fileSystem, last.System),
		t.folder.SaveJSON(fileCrossCheck, checks),
		t.folder.SaveJSON(results.FileReadback, readback{before, after}),
		t.folder.SaveText(results.FileKernelLog, kernelLogText(log)))
}

// readback holds the kernel's settings, and the rules with their counters.
type readback struct {
	Before tuning.State `json:"before"`
	After  tuning.State `json:"after"`
}

// summarise reduces the series to the trial's figures.
func (t *trial) summarise() {
	t.series.align(t.begun)
	t.result.Clock = t.series.clockSummary(max(t.series.early(), t.stepped()))
	if t.result.Clock != nil {
		t.result.Clock.StartSkewMillis = milliseconds(t.skew)
	}
	if cpu := results.CPU(t.notes.read().cpu); cpu.Count > 0 { // a sample has told
		t.result.CPU, t.result.Steal = &cpu, cpu.StealShare()
	}
	samples, probes := t.series.all()
	t.result.Actions = t.timeline.actions(t.begun)
	if t.result.Prediction != nil && len(t.result.Actions) > 0 { // at the times that were measured
		t.foreseen.Performed = t.result.Actions
		t.result.Prediction = forecast.Predict(t.foreseen)
	}
	results.Summarise(&t.result, samples, probes)
	results.CountLater(&t.result, samples, t.timeouts())
	t.judgeHeal(samples, probes)
	if t.result.Probe != nil {
		var all latency.Histogram
		for name, answers := range t.series.answers {
			p := t.result.Probes[name]
			p.Latency, p.Pending = distribution(answers), t.series.pending[name]
			t.result.Probes[name] = p
			t.result.Probe.Pending += p.Pending
			all.Merge(answers)
		}
		t.result.Probe.Latency = distribution(&all)
	}
}

// judgeHeal judges when the trial left its steady state and healed.
func (t *trial) judgeHeal(samples []results.Sample, probes []results.ProbeSample) {
	steady := t.Plan.steady[t.slot.Scenario]
	doubts := results.JudgeHeal(&t.result, steady, samples, probes, t.longestTimeout())
	t.result.Invalidate(doubts...)
}

// timeouts returns the timeout of each load entry, in seconds.
func (t *trial) timeouts() map[string]float64 {
	all := map[string]float64{}
	for _, e := range t.scenario.Workload {
		if e.Generator != "" {
			all[e.Name] = e.Timeout.Seconds()
		}
	}
	return all
}

// longestTimeout returns the longest timeout, in seconds, of any load entry.
func (t *trial) longestTimeout() float64 {
	most := 0.0
	for _, timeout := range t.timeouts() {
		most = max(most, timeout)
	}
	return most
}

// stepped returns how far this host's time of day was set forward or back since the load began:
// load nodes report times of day.
func (t *trial) stepped() time.Duration {
	if t.zero.IsZero() {
		return 0
	}
	now := time.Now()
	return (now.Round(0).Sub(t.zero.Round(0)) - now.Sub(t.zero)).Abs()
}

// died adds the end of the console to an error of a DUT that no longer answers.
func (t *trial) died(err error) error {
	select {
	case <-t.dut.Agent().Lost():
		return &vm.BootError{Node: t.dut.Name(), Reason: err, Console: t.dut.Console()}
	default:
		return err
	}
}

// stack returns the other counters of the DUT's network stack.
func stack(system *samplers.System, rules []results.RuleCount) *results.Stack {
	if system == nil {
		return nil
	}
	s := &results.Stack{NetCounters: system.Network, DropReasons: system.Drops}
	for _, link := range system.Links {
		s.LinkDropped += link.RxDropped + link.TxDropped
		s.QdiscDropped += link.QdiscDropped
	}
	for _, r := range rules {
		if r.Effect == results.Drops {
			s.RulesDropped += r.Packets()
		}
	}
	return s
}

// tracking converts what was read back of tracking.
func tracking(state tuning.State) *results.Tracking {
	return &results.Tracking{
		IPv4: string(state.Tracking.IPv4), IPv6: string(state.Tracking.IPv6),
		Source: state.Tracking.Source,
	}
}

// timeouts converts the timeouts that were read back.
func timeouts(state tuning.State) map[string]int64 {
	short := map[string]int64{}
	for key, seconds := range state.Timeouts {
		short[strings.TrimPrefix(key, kernels.Prefix)] = seconds
	}
	return short
}

// contents converts the table's content for the report; before and end have the rules that were in
// force before the load and at the end of the trial.
func contents(table agent.Table, before, end tuning.State) *results.Contents {
	found := table.Composition
	c := &results.Contents{
		Entries: found.Entries, Assured: found.Assured,
		Addresses: found.Addresses, Sources: found.Sources,
		SlabBytes: table.Memory.SlabBytes, HashBytes: table.Memory.HashBytes,
	}
	for _, s := range found.States {
		count := results.StateCount{Protocol: s.Protocol, State: s.State, Entries: s.Entries}
		c.States = append(c.States, count)
	}
	for _, f := range found.Flows {
		f.NewerRule = end.NewerRule(before, f)
		c.Flows = append(c.Flows, f)
	}
	return c
}

// kernelLogText formats a kernel log as dmesg prints it.
func kernelLogText(log agent.KernelLog) string {
	var text strings.Builder
	for _, r := range log.Records {
		fmt.Fprintf(&text, "[%12.6f] %s\n", r.Time.Seconds(), r.Message)
	}
	return text.String()
}

// CrossCheck holds the DUT's raw counters, read without the sampler, so that a reader of the run
// folder can check one against the other. A field is empty where the DUT lacks its source.
type CrossCheck struct {
	Stat  string `json:"proc_net_stat_nf_conntrack,omitempty"` // the file's text
	Count string `json:"conntrack_C,omitempty"`                // output of `conntrack -C`
}

// crossCheck reads the file. At the end of a trial it also runs conntrack(8), which loads a module,
// so that nothing may be read back afterwards.
func (t *trial) crossCheck(ctx context.Context, end bool) CrossCheck {
	var c CrossCheck
	agent := t.dut.Agent()
	if text, err := agent.ReadFile(ctx, "/proc/net/stat/nf_conntrack"); err == nil {
		c.Stat = text
	}
	if !end || c.Stat == "" {
		return c
	}
	if out, err := agent.Exec(ctx, "", "conntrack", "-C"); err == nil && out.Exit == 0 {
		c.Count = strings.TrimSpace(out.Stdout)
	}
	return c
}

// executor runs a command on a node; see [agent.Client.Exec].
type executor interface {
	Exec(ctx context.Context, stdin string, argv ...string) (agent.Output, error)
}

// refusals runs the faulty command lines of a scenario and returns what the DUT's own tools say to
// each.
func refusals(
	ctx context.Context, dut executor, c scenarios.Configuration,
) (list []results.Refusal, err error) {
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
