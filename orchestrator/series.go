package orchestrator

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/latency"
	"github.com/ctload/ctload/results"
)

// series gathers what is measured during a trial on one time axis, whose zero is the start of the
// load, and writes it to the trial's folder as it comes. What comes before zero is known waits for it.
type series struct {
	mu      sync.Mutex
	zero    time.Time // not yet known while it is the zero time
	waiting []timed
	samples []results.Sample
	probes  []results.ProbeSample
	answers latency.Histogram // of the probes that were answered

	sampleFile *results.Lines[results.Sample]
	probeFile  *results.Lines[results.ProbeSample]
	err        error // the first failure to write

	offered, done, failed map[string]int64 // of each generator, as last heard
	first                 chan struct{}    // closed when the first sample has come
}

type timed struct {
	at     time.Time
	sample results.Sample
}

func newSeries(folder *results.TrialFolder) (*series, error) {
	samples, err := folder.Samples()
	if err != nil {
		return nil, err
	}
	probes, err := folder.Probes()
	if err != nil {
		return nil, errors.Join(err, samples.Close())
	}
	return &series{
		sampleFile: samples, probeFile: probes,
		offered: map[string]int64{}, done: map[string]int64{}, failed: map[string]int64{}, first: make(chan struct{}),
	}, nil
}

// start sets the zero of the axis.
func (s *series) start(zero time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zero = zero
	for _, w := range s.waiting {
		s.put(w.at, w.sample)
	}
	s.waiting = nil
}

// add takes a sample of the DUT and returns it with the generators' progress.
func (s *series) add(at time.Time, sample results.Sample) results.Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.done {
		sample.Offered += s.offered[name]
		sample.Done += s.done[name]
		sample.Failed += s.failed[name]
	}
	if s.zero.IsZero() {
		if len(s.waiting) == 0 {
			close(s.first)
		}
		s.waiting = append(s.waiting, timed{at, sample})
	} else {
		s.put(at, sample)
	}
	return sample
}

func (s *series) put(at time.Time, sample results.Sample) {
	sample.Seconds = at.Sub(s.zero).Seconds()
	s.samples = append(s.samples, sample)
	s.keep(s.sampleFile.Append(sample))
}

// progress notes what one generator has done, and returns what all of them have.
func (s *series) progress(name string, p generators.Progress) (allDone, allFailed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offered[name], s.done[name], s.failed[name] = p.Offered, p.Completed, p.Failed
	for name := range s.done {
		allDone += s.done[name]
		allFailed += s.failed[name]
	}
	return allDone, allFailed
}

// addProbes takes the attempts of a probe and the latency of those that were answered.
func (s *series) addProbes(probes []results.ProbeSample, answers *latency.Histogram) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answers != nil {
		s.answers.Merge(answers)
	}
	s.probes = append(s.probes, probes...)
	slices.SortStableFunc(s.probes, func(a, b results.ProbeSample) int {
		switch {
		case a.Seconds < b.Seconds:
			return -1
		case a.Seconds > b.Seconds:
			return 1
		}
		return 0
	})
	for _, p := range probes {
		s.keep(s.probeFile.Append(p))
	}
}

func (s *series) keep(err error) {
	if s.err == nil {
		s.err = err
	}
}

// all is everything gathered.
func (s *series) all() ([]results.Sample, []results.ProbeSample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.zero.IsZero() { // the load never started: the last sample is the best zero there is
		if n := len(s.waiting); n > 0 {
			s.zero = s.waiting[n-1].at
			for _, w := range s.waiting {
				s.put(w.at, w.sample)
			}
			s.waiting = nil
		}
	}
	return slices.Clone(s.samples), slices.Clone(s.probes)
}

func (s *series) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.err, s.sampleFile.Close(), s.probeFile.Close())
}
