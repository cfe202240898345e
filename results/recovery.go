package results

import "slices"

// Recovery is how long the DUT was watched after the load, and why no longer.
type Recovery struct {
	AtMost  float64 `json:"at_most_s"` // the longest watch, from the experiment
	Watched float64 `json:"watched_s"` // how long the trial was watched after its load
	// Ended is why the watch ended: undisturbed, settled, time-over or interrupted.
	Ended RecoveryEnd `json:"ended"`
}

// RecoveryEnd is why the watch after the load ended.
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

// Watch is what is known of a trial while its recovery is watched. Times are in seconds on the axis
// of the samples.
type Watch struct {
	LoadEnd, Now float64
	// AtLeast and AtMost bound the watch, counted from LoadEnd.
	AtLeast, AtMost float64
	// Failed counts the attempts of the load that failed.
	Failed int64
	// Samples are those since LoadEnd, in order of time. Their counters go on from the baseline.
	Samples    []Sample
	Bystanders []Bystander
}

// Bystander is what is known of a probe while it runs.
type Bystander struct {
	Interval float64 // seconds between two attempts
	Timeout  float64 // seconds after which an attempt is lost
	Lost     int64
	// HeardLoss is when the latest report of a loss arrived, Answered when the last answered
	// attempt was sent. Both are 0 without any.
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
		return Settled, w.still(recoverHold) && w.marksKept(recoverHold) && w.quiet() && w.reliable()
	}
}

// undisturbed reports whether conntrack refused, evicted and lost nothing, no attempt of the load
// failed, and no bystander lost anything.
func (w Watch) undisturbed() bool {
	s := w.Samples[len(w.Samples)-1]
	c := s.Counters
	return c.Drop+c.EarlyDrop+c.InsertFailed+c.ChainTooLong+s.LogLines+w.Failed == 0 &&
		!slices.ContainsFunc(w.Bystanders, func(b Bystander) bool { return b.Lost > 0 || b.Pending })
}

// since returns the last sample that is at least that many seconds older than the newest one, if
// there is one.
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

// quiet reports whether for recoverHold the kernel has neither refused anything nor logged a
// refusal.
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
	left := w.LoadEnd + w.AtMost - newest.Seconds
	then := float64(newest.Count) + float64(newest.Count-before.Count)/(newest.Seconds-before.Seconds)*left
	for _, share := range []float64{highMark, lowMark} {
		mark := share * float64(newest.Max)
		if newest.Max > 0 && (float64(newest.Count) >= mark) != (then >= mark) {
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
