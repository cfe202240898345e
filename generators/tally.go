package generators

import (
	"sync/atomic"
	"time"

	"github.com/ctload/ctload/generators/latency"
	"github.com/ctload/ctload/generators/pacing"
)

// tally counts the work of one worker. Only its worker writes. Others may read the live counters
// meanwhile, everything else after the worker has ended.
type tally struct {
	offered, completed, failed, broken atomic.Int64
	answered                           atomic.Int64 // nanoseconds until the last answer to a probe

	causes         [len(causes)]int64
	statuses       map[int]int64
	received, sent int64
	first, last    time.Duration // the last begin and the last end
	late           int64
	unsent         int64 // replies to answers that this host did not take
	lost           int64 // answers that found the own receive queue full

	connect, firstByte, total, lateness *latency.Histogram
	seconds                             []Second
	probe                               []ProbePoint

	cpu time.Duration // CPU time of the worker's thread
}

func newTally() *tally {
	return &tally{
		statuses:  make(map[int]int64),
		connect:   latency.New(),
		firstByte: latency.New(),
		total:     latency.New(),
		lateness:  latency.New(),
	}
}

// second returns the entry of the series for a time.
func (t *tally) second(now time.Duration) *Second {
	i := int(now / time.Second)
	for len(t.seconds) <= i {
		t.seconds = append(t.seconds, Second{})
	}
	return &t.seconds[i]
}

// offer counts those that began at now, and for paced ones their lateness.
func (t *tally) offer(now time.Duration, paced bool, intended ...time.Duration) {
	t.offered.Add(int64(len(intended)))
	t.second(now).Offered += int64(len(intended))
	t.first = now
	if !paced {
		return
	}
	for _, at := range intended {
		t.lateness.Record(now - at)
		if now-at > pacing.LateAfter {
			t.late++
		}
	}
}

// complete counts one that began at intended and succeeded at now.
func (t *tally) complete(intended, now time.Duration) {
	t.completed.Add(1)
	second := t.second(now)
	second.Completed++
	if second.Latency == nil {
		second.Latency = latency.NewCoarse()
	}
	second.Latency.Record(now - intended)
	t.total.Record(now - intended)
	t.last = now
}

// accept counts n that completed when the kernel had taken them. They have no latency.
func (t *tally) accept(n int64, now time.Duration) {
	t.completed.Add(n)
	t.second(now).Completed += n
	t.last = now
}

// fail counts one that failed at now.
func (t *tally) fail(now time.Duration, cause causeNumber) {
	t.failed.Add(1)
	t.causes[cause]++
	t.second(now).Failed++
	t.last = now
}

// result returns the tally as a part of a [Result].
func (t *tally) result() Result {
	r := Result{
		Offered:   t.offered.Load(),
		Completed: t.completed.Load(),
		Failed:    t.failed.Load(),
		Broken:    t.broken.Load(),
		Causes:    make(map[string]int64),
		Statuses:  t.statuses,
		Received:  t.received,
		Sent:      t.sent,
		Elapsed:   max(t.first, t.last),
		Sending:   t.first,
		Connect:   t.connect,
		FirstByte: t.firstByte,
		Total:     t.total,
		Lateness:  t.lateness,
		Late:      t.late,
		Series:    t.seconds,
		Probe:     t.probe,
	}
	for i, n := range t.causes {
		if n > 0 {
			r.Causes[string(causes[i])] = n
		}
	}
	return r
}
