package results

import (
	"math"
	"slices"
)

// AlertShares are the shares of max at which the usual alerts fire: node_exporter's mixin at 75 %,
// others at 80 %, netdata's warnings and critical states at 90 % and 95 %.
var AlertShares = []float64{0.75, 0.80, 0.90, 0.95}

// logQuietFor is how long in seconds the log must stay silent to count as quiet: the window of the
// kernel's net_ratelimit. Where the kernel refused nothing meanwhile, recoverHold suffices, since
// there was nothing to log.
const logQuietFor = 5.0

// highMark and lowMark are the shares of max below which a recovering table is reported to fall.
const (
	highMark = 0.95
	lowMark  = 0.10
)

// Summarise reduces the series of a trial to its figures: it fills t.Conntrack, except Tracked's
// cause, LogMissed and ObjectBytes, and the counts of t.Probe, from the samples and the attempts of
// the probe, both in order of time. The load ran from second 0 to t.Seconds. The last sample marks
// the end of the trial. Without samples t.Conntrack stays unchanged.
func Summarise(t *Trial, samples []Sample, probes []ProbeSample) {
	if t.Probe != nil || len(probes) > 0 {
		summariseProbe(t, probes)
	}
	if len(samples) == 0 {
		return
	}
	c := &t.Conntrack
	first, last := samples[0], samples[len(samples)-1]
	c.Counters = last.Counters
	c.Baseline, c.Final = first.Count, last.Count
	c.Max, c.Buckets = last.Max, last.Buckets
	c.LogLines, c.LogSupp = last.LogLines, last.LogSupp
	c.Samples = int64(len(samples))
	c.Peak, c.LongestGap, c.Tracked = 0, 0, c.Counters != Counters{}
	c.SecondsToFull, c.FullAt, c.FirstDrop, c.FirstEarlyDrop = nil, 0, nil, nil
	for i, s := range samples {
		c.Peak = max(c.Peak, s.Count)
		c.Tracked = c.Tracked || s.Count > 0
		if i > 0 && !stopped(t.Actions, samples[i-1].Seconds, s.Seconds) {
			c.LongestGap = max(c.LongestGap, s.Seconds-samples[i-1].Seconds)
		}
		if s.Seconds < 0 {
			c.Baseline = s.Count
			continue
		}
		if c.SecondsToFull == nil && s.Max > 0 && (s.Count >= s.Max || s.Counters.EarlyDrop > 0) {
			c.SecondsToFull, c.FullAt = &s.Seconds, s.Max
		}
		once(&c.FirstDrop, s.Seconds, s.Counters.Drop > 0)
		once(&c.FirstEarlyDrop, s.Seconds, s.Counters.EarlyDrop > 0)
	}
	c.Alerts = alerts(samples, c.FirstDrop)
	c.SecondsToBelow95 = below(samples, t.Seconds, highMark)
	c.SecondsToBelow10 = below(samples, t.Seconds, lowMark)
	c.SecondsToLogQuiet = logQuiet(samples, t.Seconds)
	if p := t.Prediction; p != nil {
		p.PeakError = relativeError(float64(c.Peak), float64(p.Peak))
		p.FullError, p.DropError = nil, nil
		if p.SecondsToFull != nil && c.SecondsToFull != nil {
			p.FullError = relativeError(*c.SecondsToFull, *p.SecondsToFull)
		}
		if t.Load.Unit == unitFlows {
			p.DropError = relativeError(float64(c.Drop), float64(p.Drop))
		}
	}
}

// relativeError returns measured/predicted - 1, or nil without a prediction.
func relativeError(measured, predicted float64) *float64 {
	if predicted <= 0 {
		return nil
	}
	return new(measured/predicted - 1)
}

// once sets at to the first time at which the condition holds.
func once(at **float64, seconds float64, holds bool) {
	if *at == nil && holds {
		*at = &seconds
	}
}

func alerts(samples []Sample, firstDrop *float64) []Alert {
	var fired []Alert
	for _, share := range AlertShares {
		i := slices.IndexFunc(samples, func(s Sample) bool {
			return s.Max > 0 && float64(s.Count) > share*float64(s.Max)
		})
		if i < 0 {
			continue
		}
		a := Alert{Share: share, Fired: samples[i].Seconds}
		if firstDrop != nil {
			a.Lead = new(*firstDrop - a.Fired)
		}
		fired = append(fired, a)
	}
	return fired
}

// below returns the time from the end of the load to the first sample from which on the count
// stayed below the share of max.
func below(samples []Sample, end, share float64) *float64 {
	var seconds *float64
	for _, s := range slices.Backward(samples) {
		if s.Max > 0 && float64(s.Count) >= share*float64(s.Max) {
			break
		}
		if seconds = new(max(0, s.Seconds-end)); *seconds == 0 {
			break
		}
	}
	return seconds
}

// logQuiet returns the time from the end of the load to the last sample in which the log had grown.
func logQuiet(samples []Sample, end float64) *float64 {
	last := samples[len(samples)-1]
	grew, lastRefusal := math.Inf(-1), math.Inf(-1)
	for i, s := range samples[1:] {
		if logged(samples[i], s) {
			grew = s.Seconds
		}
		if refused(s) > refused(samples[i]) {
			lastRefusal = s.Seconds
		}
	}
	silence := last.Seconds - grew
	if silence < logQuietFor && (silence < recoverHold || last.Seconds-lastRefusal < recoverHold) {
		return nil
	}
	return new(max(0, grew-end))
}

// recoverHold is how many seconds new connections must go on to succeed to count as recovered: at
// its limit a table takes a few whenever some entries end. It is more where a lost probe takes
// longer to be known as lost, since the series lacks those under way at the end of the watch.
const recoverHold = 2.0

// summariseProbe counts the attempts, before, during and after the load, and finds the recovery:
// the first success after the end of the load without a lost probe for recoverHold after it; at
// once where none was lost at all. A probe belongs to the moment of its sending, and has succeeded
// when its answer came.
func summariseProbe(t *Trial, probes []ProbeSample) {
	if t.Probe == nil {
		t.Probe = &Probe{}
	}
	t.Probe.Sent, t.Probe.Lost = int64(len(probes)), 0
	t.Conntrack.SecondsToRecover = nil
	var before, during, after []ProbeSample
	hold, since := recoverHold, math.Inf(1)
	var recovered *float64
	for _, p := range probes {
		switch {
		case p.Seconds < 0:
			before = append(before, p)
		case p.Seconds < t.Seconds:
			during = append(during, p)
		default:
			after = append(after, p)
		}
		if !p.OK {
			t.Probe.Lost++
			recovered = nil
			hold = max(hold, p.Millis/1000+recoverHold/2)
			continue
		}
		if p.Seconds >= t.Seconds && recovered == nil {
			recovered, since = new(p.Seconds+p.Millis/1000-t.Seconds), p.Seconds
		}
	}
	t.Probe.Before, t.Probe.During, t.Probe.After = phase(before), phase(during), phase(after)
	switch {
	case len(probes) == 0:
	case t.Probe.Lost == 0:
		t.Conntrack.SecondsToRecover = new(float64)
	case recovered != nil && probes[len(probes)-1].Seconds-since >= hold-1e-9:
		t.Conntrack.SecondsToRecover = recovered
	}
}

// phase returns what the probe saw in a part of a trial.
func phase(probes []ProbeSample) ProbePhase {
	p := ProbePhase{Sent: int64(len(probes))}
	var answered []float64
	for _, s := range probes {
		if s.OK {
			answered = append(answered, s.Millis)
		} else {
			p.Lost++
		}
	}
	p.Latency = distributionOf(answered)
	return p
}

// distributionOf returns the distribution of values in milliseconds. It is exact: a quantile is the
// smallest value that is at least as large as that share of the values.
func distributionOf(values []float64) Latency {
	if len(values) == 0 {
		return Latency{}
	}
	values = slices.Sorted(slices.Values(values))
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	at := func(q float64) float64 { return values[max(0, int(math.Ceil(q*float64(len(values))))-1)] }
	return Latency{
		Count: int64(len(values)), Mean: sum / float64(len(values)),
		P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Max: values[len(values)-1],
	}
}
