package orchestrator

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/generators/latency"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
)

// series gathers a trial's measurements on one time axis, whose zero is the start of the load, and
// writes them to the trial's folder as they arrive. Measurements that arrive before zero is known
// wait for it. After the load, when the clocks have been compared once more, align gives everything
// its final time and writes it again.
type series struct {
	clock  *clock         // of the DUT, since its last boot
	clocks []*clock       // one for each boot
	carry  results.Sample // counters up to that boot

	mu       sync.Mutex
	zero     time.Time // the zero time until it is known
	samples  []taken
	attempts []attempt
	answers  map[string]*latency.Histogram // of the probes that were answered, by name
	pending  map[string]int64              // attempts under way when their probe was stopped

	sampleFile *results.Lines[results.Sample]
	probeFile  *results.Lines[results.ProbeSample]
	err        error // the first failure to write
	// told receives each sample once its time is known, in order; nil: nothing does.
	told func(results.Sample)

	reported map[string]report // of each assignment, its last one
	summed   []string          // the entries that the load of a sample adds up
	first    chan struct{}     // closed when the first sample has arrived
}

// report holds the progress that a generator reported last.
type report struct {
	entry string // its name in the workload
	generators.Progress
}

// taken is a sample of the DUT.
type taken struct {
	clock   *clock
	there   time.Duration // the DUT's clock when it was taken
	arrived time.Time     // this host's time when it arrived
	sample  results.Sample
}

// attempt is one attempt of a probe.
type attempt struct {
	at     time.Time
	sample results.ProbeSample
}

func newSeries(
	folder *results.TrialFolder, of *clock, entries map[string]results.Entry,
	told func(results.Sample),
) (*series, error) {
	samples, err := folder.Samples()
	if err != nil {
		return nil, err
	}
	probes, err := folder.Probes()
	if err != nil {
		return nil, errors.Join(err, samples.Close())
	}
	summed, _ := results.Summed(entries)
	return &series{
		clock: of, clocks: []*clock{of}, sampleFile: samples, probeFile: probes,
		answers: map[string]*latency.Histogram{}, pending: map[string]int64{},
		reported: map[string]report{}, summed: summed,
		first: make(chan struct{}), told: told,
	}, nil
}

// start sets the zero of the axis.
func (s *series) start(zero time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zero = zero
	for i := range s.samples {
		s.write(&s.samples[i])
	}
}

// write gives a sample its time, and writes it.
func (s *series) write(t *taken) {
	s.place(t)
	s.keep(s.sampleFile.Append(t.sample))
	if s.told != nil {
		s.told(t.sample)
	}
}

// place gives a sample its time.
func (s *series) place(t *taken) { t.sample.Seconds = t.clock.at(t.there).Sub(s.zero).Seconds() }

// axis returns a moment of this host on the axis; known tells whether the axis has begun.
func (s *series) axis(at time.Time) (seconds float64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return at.Sub(s.zero).Seconds(), !s.zero.IsZero()
}

// add takes a sample of the DUT and returns it with its time and the generators' progress.
func (s *series) add(there time.Duration, sample results.Sample) results.Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.reported {
		now := results.Progress{
			Offered: r.Offered, Done: r.Completed, Failed: r.Failed, Broken: r.Broken,
		}
		if slices.Contains(s.summed, r.entry) {
			sample.Progress.Add(now)
		}
		now.Add(sample.Entries[r.entry])
		if sample.Entries == nil {
			sample.Entries = map[string]results.Progress{}
		}
		sample.Entries[r.entry] = now
	}
	sample.Counters.Add(s.carry.Counters)
	sample.LogLines += s.carry.LogLines
	sample.LogSupp += s.carry.LogSupp
	t := taken{clock: s.clock, there: there, arrived: time.Now(), sample: sample}
	if len(s.samples) == 0 {
		close(s.first)
	}
	if !s.zero.IsZero() {
		s.write(&t)
	}
	s.samples = append(s.samples, t)
	return t.sample
}

// progress records what one generator has done and returns the sums over all of them.
func (s *series) progress(
	a wiring.Assignment, p generators.Progress,
) (allDone, allFailed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reported[a.Name] = report{a.Entry.Name, p}
	for _, p := range s.reported {
		allDone += p.Completed
		allFailed += p.Failed
	}
	return allDone, allFailed
}

// addProbes takes the attempts of a probe, how many more were under way at its end, and the latency
// of the answered ones.
func (s *series) addProbes(
	name string, attempts []attempt, pending int64, answers *latency.Histogram,
) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[name] += pending
	if answers != nil {
		if s.answers[name] == nil {
			s.answers[name] = new(latency.Histogram)
		}
		s.answers[name].Merge(answers)
	}
	s.attempts = append(s.attempts, attempts...)
	slices.SortStableFunc(s.attempts, func(a, b attempt) int { return a.at.Compare(b.at) })
}

func (s *series) keep(err error) {
	if s.err == nil {
		s.err = err
	}
}

// align gives everything its final time, with zero where the load really began, and writes it
// again.
func (s *series) align(zero time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if zero.IsZero() { // the load never began: the last sample is the best zero
		if n := len(s.samples); n > 0 {
			zero = s.samples[n-1].clock.at(s.samples[n-1].there)
		}
	}
	s.zero = zero
	for i := range s.samples {
		s.place(&s.samples[i])
	}
	for i := range s.attempts {
		a := &s.attempts[i]
		a.sample.Seconds = a.at.Sub(zero).Seconds()
	}
	samples, probes := s.lists()
	s.keep(s.sampleFile.Replace(samples))
	s.keep(s.probeFile.Replace(probes))
}

// early returns the longest time by which a sample arrived before the time at which it was taken; 0
// when the clock never contradicts the order of events.
func (s *series) early() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var most time.Duration
	for _, t := range s.samples {
		most = max(most, t.clock.at(t.there).Sub(t.arrived))
	}
	return most
}

// current returns the DUT's clock.
func (s *series) current() *clock {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

// rebooted goes on with another clock, and with counters that begin at zero.
func (s *series) rebooted(clock *clock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock, s.clocks = clock, append(s.clocks, clock)
	if n := len(s.samples); n > 0 {
		s.carry = s.samples[n-1].sample
	}
}

// clockSummary returns how good the clocks of all boots were: the worst of them.
func (s *series) clockSummary(early time.Duration) *results.Clock {
	s.mu.Lock()
	clocks := slices.Clone(s.clocks)
	s.mu.Unlock()
	var worst *results.Clock
	for _, c := range clocks {
		one := c.summary(early)
		if worst == nil || one != nil && one.ErrorMillis > worst.ErrorMillis {
			worst = one
		}
	}
	return worst
}

// all returns everything gathered, on the axis.
func (s *series) all() ([]results.Sample, []results.ProbeSample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists()
}

func (s *series) lists() ([]results.Sample, []results.ProbeSample) {
	samples := make([]results.Sample, len(s.samples))
	probes := make([]results.ProbeSample, len(s.attempts))
	for i, t := range s.samples {
		samples[i] = t.sample
	}
	for i, a := range s.attempts {
		probes[i] = a.sample
	}
	return samples, probes
}

// since returns the samples from a time of the axis on.
func (s *series) since(seconds float64) []results.Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []results.Sample
	for _, t := range slices.Backward(s.samples) {
		if t.sample.Seconds < seconds {
			break
		}
		list = append(list, t.sample)
	}
	slices.Reverse(list)
	return list
}

func (s *series) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.err, s.sampleFile.Close(), s.probeFile.Close())
}
