package generators

import (
	"slices"
	"time"

	"github.com/ctload/ctload/generators/latency"
)

// Merge adds the result of another generator, on this node or on another one. It adds counters and
// histograms without loss and lays the series over each other by the second. The merged load lasts
// from the earlier start to the later end. The kinds are expected to be the same; Merge keeps r's
// otherwise.
func (r *Result) Merge(other Result) {
	if other.Offered == 0 && other.Started.IsZero() {
		return
	}
	if r.Kind == "" {
		r.Kind, r.Unit = other.Kind, other.Unit
	}
	if r.Target == "" {
		r.Target, r.Ports, r.Path = other.Target, other.Ports, other.Path
	}
	r.Concurrency += other.Concurrency
	r.Offered += other.Offered
	r.Completed += other.Completed
	r.Failed += other.Failed
	r.Broken += other.Broken
	r.Received += other.Received
	r.Sent += other.Sent
	r.Late += other.Late
	r.Missed += other.Missed
	r.Causes = addCounts(r.Causes, other.Causes)
	r.Statuses = addCounts(r.Statuses, other.Statuses)
	r.mergeTime(other)
	r.Connect = mergeHistogram(r.Connect, other.Connect)
	r.FirstByte = mergeHistogram(r.FirstByte, other.FirstByte)
	r.Total = mergeHistogram(r.Total, other.Total)
	r.Lateness = mergeHistogram(r.Lateness, other.Lateness)
	r.Probe = slices.SortedStableFunc(slices.Values(slices.Concat(r.Probe, other.Probe)), func(a, b ProbePoint) int {
		return a.At.Compare(b.At)
	})
	r.Tuples.Size += other.Tuples.Size
	r.Tuples.Used += other.Tuples.Used
	r.Tuples.Wrapped = r.Tuples.Wrapped || other.Tuples.Wrapped
	r.Usage.add(other.Usage)
	r.Limits = appendNew(r.Limits, other.Limits)
	r.Notes = appendNew(r.Notes, other.Notes)
}

// mergeTime lays other's time and series over r's.
func (r *Result) mergeTime(other Result) {
	if r.Started.IsZero() {
		r.Started = other.Started
	}
	if other.Started.IsZero() {
		other.Started = r.Started
	}
	start := r.Started
	if other.Started.Before(start) {
		start = other.Started
	}
	mine, theirs := r.Started.Sub(start), other.Started.Sub(start)
	r.Elapsed = max(mine+r.Elapsed, theirs+other.Elapsed)
	r.Sending = max(mine+r.Sending, theirs+other.Sending)
	series := addSeries(nil, r.Series, mine)
	r.Series = addSeries(series, other.Series, theirs)
	r.Started = start
}

// addSeries adds seconds to series, shifted to the nearest whole second.
func addSeries(series, seconds []Second, shift time.Duration) []Second {
	offset := int(shift.Round(time.Second) / time.Second)
	for i, s := range seconds {
		for len(series) <= offset+i {
			series = append(series, Second{})
		}
		sum := &series[offset+i]
		sum.Offered += s.Offered
		sum.Completed += s.Completed
		sum.Failed += s.Failed
		sum.Latency = mergeHistogram(sum.Latency, s.Latency)
	}
	return series
}

// mergeHistogram returns a new histogram of both, or nil when both are empty.
func mergeHistogram(a, b *latency.Histogram) *latency.Histogram {
	if a.Count() == 0 && b.Count() == 0 {
		return nil
	}
	sum := latency.New()
	if a.Coarse() || b.Coarse() {
		sum = latency.NewCoarse()
	}
	sum.Merge(a)
	sum.Merge(b)
	return sum
}

func addCounts[K comparable](a, b map[K]int64) map[K]int64 {
	if len(a)+len(b) == 0 {
		return nil
	}
	sum := make(map[K]int64, len(a)+len(b))
	for k, n := range a {
		sum[k] += n
	}
	for k, n := range b {
		sum[k] += n
	}
	return sum
}

func appendNew[T comparable](list, more []T) []T {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
