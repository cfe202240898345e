package results

import "math"

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
		p.PeakError = off(float64(c.Peak), float64(p.Peak))
		p.FullError, p.DropError = nil, nil
		if p.SecondsToFull != nil && c.SecondsToFull != nil {
			p.FullError = off(*c.SecondsToFull, *p.SecondsToFull)
		}
		if t.Load.Unit == unitFlows {
			p.DropError = off(float64(c.Drop), float64(p.Drop))
		}
	}
}

// off returns measured/predicted - 1, or nil without a prediction.
func off(measured, predicted float64) *float64 {
	if predicted <= 0 {
		return nil
	}
	e := measured/predicted - 1
	return &e
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
		for _, s := range samples {
			if s.Max <= 0 || float64(s.Count) <= share*float64(s.Max) {
				continue
			}
			a := Alert{Share: share, Fired: s.Seconds}
			if firstDrop != nil {
				lead := *firstDrop - s.Seconds
				a.Lead = &lead
			}
			fired = append(fired, a)
			break
		}
	}
	return fired
}

// below returns the time from the end of the load to the first sample from which on the count
// stayed below the share of max.
func below(samples []Sample, end, share float64) *float64 {
	since := math.NaN()
	for i := len(samples) - 1; i >= 0; i-- {
		s := samples[i]
		if s.Max > 0 && float64(s.Count) >= share*float64(s.Max) {
			break
		}
		since = s.Seconds
		if since <= end {
			break
		}
	}
	if math.IsNaN(since) {
		return nil
	}
	seconds := max(0, since-end)
	return &seconds
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
	seconds := max(0, grew-end)
	return &seconds
}
