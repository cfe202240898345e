package results

import (
	"math"
	"slices"
)

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
			seconds := p.Seconds + p.Millis/1000 - t.Seconds
			recovered, since = &seconds, p.Seconds
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
