package results

import (
	"cmp"
	"math"
	"slices"
)

// AlertShares are the shares of max at which the usual alerts fire: node_exporter's mixin at 75 %,
// others at 80 %, netdata's warnings and critical states at 90 % and 95 %.
var AlertShares = []float64{0.75, 0.80, 0.90, 0.95}

// logQuietFor is the time, in seconds, that the log must stay silent to count as quiet: the window
// of the kernel's net_ratelimit. recoverHold suffices where the kernel refused nothing meanwhile.
const logQuietFor = 5.0

// highMark and lowMark are the shares of max below which a recovering table is reported to fall.
const (
	highMark = 0.95
	lowMark  = 0.10
)

// Summarise reduces the series of a trial, in order of time, to the figures of t.Conntrack, except
// Tracked's cause, LogMissed and ObjectBytes, and what t.Probe and t.Probes count. The load ran
// from second 0 to t.Seconds; the last sample ends the trial. Without samples t.Conntrack stays
// unchanged.
func Summarise(t *Trial, samples []Sample, probes []ProbeSample) {
	if t.Probe != nil || len(probes) > 0 {
		summariseProbes(t, probes)
	}
	if len(samples) == 0 {
		return
	}
	c := &t.Conntrack
	last := samples[len(samples)-1]
	c.Counters, c.Max, c.Buckets = last.Counters, last.Max, last.Buckets
	c.Baseline, c.Final, c.Samples = samples[0].Count, last.Count, int64(len(samples))
	c.LogLines, c.LogSupp = last.LogLines, last.LogSupp
	c.Peak, c.LongestGap, c.Tracked = 0, 0, c.Counters != Counters{}
	c.SecondsToFull, c.FullAt, c.FirstDrop, c.FirstEarlyDrop = nil, 0, nil, nil
	for i, s := range samples {
		c.Peak = max(c.Peak, s.Count)
		c.Tracked = c.Tracked || s.Count > 0
		// The last sample waits until no frame is under way any more.
		regular := i > 0 && i < len(samples)-1
		if regular && !stopped(t.Actions, samples[i-1].Seconds, s.Seconds) {
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
	c.FillShare = c.Fill()
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
		if p.Rate > 0 {
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

// below returns the time from the end of the load on which the count stayed below the share of max.
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

// recoverHold is the time, in seconds, for which new connections must succeed to count as
// recovered: at its limit a table takes a few whenever some entries end. It is more where a lost
// probe takes longer to be known as lost, since the series lacks those under way at the end of the
// watch.
const recoverHold = 2.0

// summariseProbes summarises the attempts of each probe, and of all together.
func summariseProbes(t *Trial, attempts []ProbeSample) {
	if t.Probe == nil {
		t.Probe = &Probe{}
	}
	t.Probe.summarise(attempts, t.Seconds)
	byName := map[string][]ProbeSample{}
	for name := range t.Probes {
		byName[name] = nil
	}
	for _, a := range attempts {
		if a.Probe != "" {
			byName[a.Probe] = append(byName[a.Probe], a)
		}
	}
	for name, own := range byName {
		p := t.Probes[name]
		p.summarise(own, t.Seconds)
		if t.Probes == nil {
			t.Probes = map[string]Probe{}
		}
		t.Probes[name] = p
	}
	if len(byName) > 0 {
		t.Probe.SecondsToRecover = slowest(t.Probes)
	}
	t.Conntrack.SecondsToRecover = t.Probe.SecondsToRecover
}

// slowest returns the longest time until a probe recovered; nil where one did not.
func slowest(probes map[string]Probe) *float64 {
	longest := new(float64)
	for _, p := range probes {
		if p.SecondsToRecover == nil {
			return nil
		}
		*longest = max(*longest, *p.SecondsToRecover)
	}
	return longest
}

// summarise counts the attempts before, during and after the load, by their sending, and finds the
// recovery: the first success after the load without a lost probe for recoverHold; at once where
// none was lost, and where no attempt was lost any more before the load ended.
func (p *Probe) summarise(attempts []ProbeSample, loadEnd float64) {
	p.Sent, p.Lost, p.Loss, p.Causes, p.SecondsToRecover = int64(len(attempts)), 0, 0, nil, nil
	hold, since := recoverHold, math.Inf(1)
	var recovered *float64
	for _, a := range attempts {
		if !a.OK {
			p.Lost++
			if p.Causes == nil {
				p.Causes = map[string]int64{}
			}
			p.Causes[cmp.Or(a.Cause, CauseTimeout)]++
			recovered = nil
			hold = max(hold, a.Millis/1000+recoverHold/2)
			continue
		}
		if recovered == nil {
			recovered, since = new(max(0, a.Seconds+a.Millis/1000-loadEnd)), a.Seconds
		}
	}
	p.Before = phase(attempts, math.Inf(-1), 0)
	p.During = phase(attempts, 0, loadEnd)
	p.After = phase(attempts, loadEnd, math.Inf(1))
	if p.Sent == 0 {
		return
	}
	p.Loss = float64(p.Lost) / float64(p.Sent)
	switch {
	case p.Lost == 0:
		p.SecondsToRecover = new(float64)
	case recovered != nil && p.After.Sent > 0 && attempts[p.Sent-1].Seconds-since >= hold-1e-9:
		p.SecondsToRecover = recovered
	}
}

// phase returns what the probe saw between two times.
func phase(probes []ProbeSample, from, to float64) (p ProbePhase) {
	var answered []float64
	for _, s := range probes {
		if s.Seconds < from || s.Seconds >= to {
			continue
		}
		if p.Sent++; s.OK {
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
	n := float64(len(values))
	at := func(q float64) float64 { return values[max(0, int(math.Ceil(q*n))-1)] }
	return Latency{
		Count: int64(n), Mean: sum / n,
		P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Max: at(1),
	}
}

// Recovery tells how long the DUT was watched after the load, and why no longer.
type Recovery struct {
	AtMost  float64 `json:"at_most_s"` // the longest watch, from the experiment
	Watched float64 `json:"watched_s"` // how long the trial was watched after its load
	// Ended is the reason for the end of the watch: undisturbed, settled, time-over or interrupted.
	Ended RecoveryEnd `json:"ended"`
}

// RecoveryEnd gives the reason why the watch after the load ended.
type RecoveryEnd string

// The reasons.
const (
	// Undisturbed: the load disturbed nothing, so that nothing had to recover.
	Undisturbed RecoveryEnd = "undisturbed"
	// Settled: new connections worked again, and a longer watch would have shown the same.
	Settled RecoveryEnd = "settled"
	// TimeOver: the experiment's time for the watch was over.
	TimeOver RecoveryEnd = "time-over"
	// Interrupted: the caller ended the trial.
	Interrupted RecoveryEnd = "interrupted"
)

// Watch is the knowledge of a trial during its recovery. Times are on the axis of the samples.
type Watch struct {
	LoadEnd, Now float64
	// AtLeast and AtMost bound the watch, counted from LoadEnd.
	AtLeast, AtMost float64
	// Failed counts the attempts of the load that failed.
	Failed int64
	// Samples are the samples since LoadEnd, in order of time. Their counters go on from the
	// baseline.
	Samples    []Sample
	Bystanders []Bystander
}

// Bystander holds the state of a probe while it runs.
type Bystander struct {
	Interval float64 // seconds between two attempts
	Timeout  float64 // seconds after which an attempt is lost
	Lost     int64
	// HeardLoss is the time of the report of the latest loss, Answered the sending time of the last
	// answered attempt.
	HeardLoss, Answered float64
	// Pending says that attempts from before LoadEnd may still lack a result.
	Pending bool
}

const (
	// idle is the time, in seconds, that an undisturbed table must stay unchanged before the watch
	// ends: packets of the load can wait in the queues of a slow guest.
	idle = 0.5
	// lag bounds, in seconds, the delay of a bystander's reports and of its attempts.
	lag = 0.3
)

// End reports whether the watch is over, and why. It ends early only where watching until AtMost
// would change no figure of the trial if all goes on alike; see docs/decisions.
func (w Watch) End() (why RecoveryEnd, over bool) {
	watched := w.Now - w.LoadEnd
	switch {
	case watched >= w.AtMost:
		return TimeOver, true
	case watched < w.AtLeast || len(w.Samples) == 0:
		return "", false
	case w.undisturbed():
		return Undisturbed, w.still(idle) && w.marksKept(idle)
	default:
		kept := w.still(recoverHold) && w.marksKept(recoverHold)
		return Settled, kept && w.quiet() && w.reliable()
	}
}

// undisturbed reports whether nothing was refused, evicted or lost, and no attempt failed.
func (w Watch) undisturbed() bool {
	s := w.Samples[len(w.Samples)-1]
	lost := func(b Bystander) bool { return b.Lost > 0 || b.Pending }
	return refused(s)+s.Counters.EarlyDrop+s.LogLines+w.Failed == 0 &&
		!slices.ContainsFunc(w.Bystanders, lost)
}

// since returns the last sample that is at least that many seconds older than the newest, if any.
func (w Watch) since(seconds float64) (Sample, bool) {
	newest := w.Samples[len(w.Samples)-1].Seconds
	for _, s := range slices.Backward(w.Samples) {
		if s.Seconds <= newest-seconds {
			return s, true
		}
	}
	return Sample{}, false
}

// still reports whether for that many seconds the table has taken no more new entries than the
// bystanders make. At its limit an entry is evicted for each.
func (w Watch) still(seconds float64) bool {
	before, ok := w.since(seconds)
	if !ok {
		return false
	}
	newest := w.Samples[len(w.Samples)-1]
	own := 1.0
	for _, b := range w.Bystanders {
		own += (newest.Seconds-before.Seconds)/b.Interval + 1
	}
	taken := newest.Count - before.Count + newest.Counters.EarlyDrop - before.Counters.EarlyDrop
	return float64(taken) <= own
}

// quiet reports whether for recoverHold the kernel has refused nothing and logged no refusal.
func (w Watch) quiet() bool {
	before, ok := w.since(recoverHold)
	newest := w.Samples[len(w.Samples)-1]
	return ok && refused(before) == refused(newest) && !logged(before, newest)
}

// marksKept reports whether the count, if it changes on as it did over those seconds, stays on its
// side of the shares of max whose crossing is reported.
func (w Watch) marksKept(seconds float64) bool {
	before, ok := w.since(seconds)
	newest := w.Samples[len(w.Samples)-1]
	if !ok {
		return false
	}
	now, left := float64(newest.Count), w.LoadEnd+w.AtMost-newest.Seconds
	then := now + (now-float64(before.Count))/(newest.Seconds-before.Seconds)*left
	for _, share := range []float64{highMark, lowMark} {
		mark := share * float64(newest.Max)
		if newest.Max > 0 && (now >= mark) != (then >= mark) {
			return false
		}
	}
	return true
}

// reliable reports whether every bystander's attempts have been answered for as long as
// summariseProbe requires before new connections count as recovered.
func (w Watch) reliable() bool {
	hold, well := 0.0, w.LoadEnd
	for _, b := range w.Bystanders {
		if b.Lost > 0 {
			hold = max(hold, recoverHold, b.Timeout+recoverHold/2)
			well = max(well, b.HeardLoss)
		}
	}
	for _, b := range w.Bystanders {
		if b.Pending || hold > 0 && b.Answered < well+hold+b.Interval+lag {
			return false
		}
	}
	return true
}

// refused returns the number of packets that the kernel refused an entry.
func refused(s Sample) int64 {
	return s.Counters.Drop + s.Counters.InsertFailed + s.Counters.ChainTooLong
}

// logged reports whether the kernel's log has grown between two samples.
func logged(before, after Sample) bool {
	return after.LogLines > before.LogLines || after.LogSupp > before.LogSupp
}
