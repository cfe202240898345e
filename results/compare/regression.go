package compare

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ctload/ctload/results"
)

// The scatter of single trials under overload was measured: in nine trials of one machine with a
// full table between 384 and 897 of 5000 requests failed, in others between 1 and 1072.
const (
	// enough is the number of trials on each side whose range shows how far they scatter. Times and
	// rates are many: three alike trials occur by chance, so they need more.
	enough, enoughForTimes = 3, 4
	// assumed replaces the range where trials are fewer, as a share of the offered attempts.
	assumed = 0.25
)

// verdictMetric names a verdict among the figures of regressions.
const verdictMetric = "verdict"

// regressions are the findings of [findRegressions].
type regressions struct {
	Found     []results.Regression
	Scenarios []string // compared ones
	Unsure    []string // those of them with too few trials for more than what is significant
	// Notes are the notes of the comparison, and name the figures that could not be judged.
	Notes []string
}

// findRegressions compares a run with a baseline run. A scenario has become worse when
//   - its verdict has: more than half of its trials have a worse one than every trial of the
//     baseline;
//   - a count of failures is 0 in all the baseline's trials, and in all trials of the run more than
//     noise (0.1 % of the offered attempts, 2 % of the probes sent);
//   - another figure is worse by more than the allowed share of the baseline's median, and either
//     the difference is significant in the sense of [Runs], or all trials of the run are beyond all
//     of the baseline's by more than the trials of either side lie apart. With fewer than three
//     trials on a side (four for times and rates), that distance is not known: only completed and
//     failed are judged then, and only when they differ by more than a quarter of the offered
//     attempts.
//
// Except for what is significant, none of these counts where something that only sometimes happens
// could do the same by chance (see [chance]).
//
// Under emulation times and rates are not judged, since they depend on the host's other work. drop
// and insert_failed vary with the timing of retries: they count only where the baseline has none.
//
// The error for unlike runs, or a baseline without valid trials, is an [*UnlikeError].
func findRegressions(base, run *results.Run, allowed float64) (*regressions, error) {
	c, err := align([]string{"the baseline", "this run"}, []*results.Run{base, run}, false)
	if err != nil {
		return nil, err
	}
	r := &regressions{Notes: c.Notes}
	c.settle()
	emulated := base.Environment.Accelerator == "tcg"
	var groups []Group // those with valid trials on both sides
	var flip flips
	for _, g := range c.Groups {
		before, after := base.Scenario(g.Name), run.Scenario(g.Name)
		if before.Valid() == 0 {
			reason := "the baseline has no valid trial of " + g.Name
			return nil, &UnlikeError{Reasons: []string{reason}}
		}
		if after.Valid() == 0 {
			note := " was not compared with the baseline: it has no valid trial"
			r.Notes = append(r.Notes, g.Name+note)
			continue
		}
		r.Scenarios, groups = append(r.Scenarios, g.Name), append(groups, g)
		if g.varies(before, after) {
			flip.counts++
		}
		if !emulated {
			flip.times++
		}
	}
	trials := math.MaxInt
	var unsure []string
	for _, g := range groups {
		before, after := base.Scenario(g.Name), run.Scenario(g.Name)
		n, m := before.Valid(), after.Valid()
		trials = min(trials, n, m)
		always := newlyAlways{counts: flip.sure(n, m, m, false), times: flip.sure(n, m, m, true)}
		if !always.counts {
			unsure = append(unsure, g.Name)
		}
		found := func(metric, before, after, effect string) {
			r.Found = append(r.Found, results.Regression{
				Scenario: g.Name, Metric: metric, Before: before, After: after, Effect: effect,
			})
		}
		v := before.Worst()
		if k := worse(after, v); 2*k > m && flip.sure(n, m, k, false) {
			found(verdictMetric, string(v), string(after.Worst()), "")
		}
		for _, row := range g.Rows {
			metric, was, is := row.Metric, row.Cells[0], row.Cells[1]
			if metric.Timing && emulated || was.N == 0 || is.N == 0 {
				continue
			}
			if metric.worsened(before, after, allowed, is.Significant, always) {
				effect := ""
				if e := is.Effect(); e != nil && e.Confidence > 0 {
					effect = e.words(metric)
				}
				found(metric.Name, metric.Words(was.Median), metric.Words(is.Median), effect)
			}
		}
	}
	r.Notes = append(r.Notes, unjudged(trials, emulated)...)
	r.Unsure = unsure
	if len(unsure) > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%s: only a significant difference counts as worse "+
			"than the baseline; below %d valid trials on each side, chance makes other "+
			"differences too often", strings.Join(unsure, ", "), flip.enough()))
	}
	return r, nil
}

// unjudged returns notes on what could not be compared with a baseline.
func unjudged(trials int, emulated bool) (notes []string) {
	const times = "times and rates were not compared with the baseline: "
	switch {
	case emulated:
		notes = append(notes, times+"they mean little under emulation")
	case trials < enoughForTimes:
		need := fmt.Sprintf("that takes %d valid trials on each side", enoughForTimes)
		notes = append(notes, times+need)
	}
	if trials < enough {
		notes = append(notes, fmt.Sprintf("fewer than %d valid trials on a side do not show how "+
			"far figures scatter: of the counts above 0 in the baseline, only completed and "+
			"failed count as worse, from a difference of %s of what was offered",
			enough, results.Percent(assumed)))
	}
	return notes
}

// worse returns how many of the valid trials have a worse verdict than v.
func worse(s *results.Scenario, v results.Verdict) (n int) {
	for t := range s.ValidTrials() {
		if t.Verdict.Compare(v) > 0 {
			n++
		}
	}
	return n
}

// newlyAlways says whether chance is too rare an explanation for what shows in none of a scenario's
// trials in the baseline and in all of the run's: in counts and verdicts, and in times and rates.
type newlyAlways struct{ counts, times bool }

// flips counts the scenarios of a comparison that could seem worse by chance, since they differ
// between trials: in verdicts or counts, and in times or rates.
type flips struct{ counts, times int }

// sure reports whether chance makes a difference at most in the share [Alpha] of comparisons, all
// scenarios together: that something shows in none of n trials of the baseline, and in at least k
// of the run's m.
func (f flips) sure(n, m, k int, times bool) bool {
	scenarios := f.counts
	if times {
		scenarios += f.times
	}
	return chance(n, m, k)*float64(max(1, scenarios)) <= Alpha
}

// enough returns how many trials on each side make it sure that something is new that shows in all
// of the run's.
func (f flips) enough() int {
	n := 1
	for !f.sure(n, n, n, false) {
		n++
	}
	return n
}

// chance returns the highest probability, over all shares of trials in which something may show,
// that it shows in none of n trials and in at least k of m further ones (Barnard 1945).
func chance(n, m, k int) (highest float64) {
	const steps = 200
	for i := 1; i < steps; i++ {
		p := float64(i) / steps
		tail, term := 0.0, choose(m, k)*math.Pow(p, float64(k))*math.Pow(1-p, float64(m-k))
		for shown := k; shown <= m; shown++ {
			tail += term
			term *= float64(m-shown) / float64(shown+1) * p / (1 - p)
		}
		highest = max(highest, math.Pow(1-p, float64(n))*tail)
	}
	return highest
}

// varies reports whether verdicts or counts differ between trials, of either side, by more than
// noise.
func (g Group) varies(before, after *results.Scenario) bool {
	first := before.Worst()
	for _, s := range []*results.Scenario{before, after} {
		for t := range s.ValidTrials() {
			if t.Verdict != first {
				return true
			}
		}
	}
	return slices.ContainsFunc(g.Rows, func(row Row) bool {
		m := row.Metric
		values := slices.Concat(m.Values(before), m.Values(after))
		return !m.Timing && m.Worse != 0 && len(values) > 0 &&
			apart(values) > m.noise*m.attempts(after)
	})
}

// worsened reports whether the metric is worse by more than the allowed share and the scatter.
func (m Metric) worsened(
	before, after *results.Scenario, allowed float64, significant bool, always newlyAlways,
) bool {
	sign := float64(m.Worse)
	b, a := m.Values(before), m.Values(after)
	change := sign * (Median(a) - Median(b))
	// The distance between the two sides: negative when they overlap.
	gap := slices.Min(a) - slices.Max(b)
	if sign < 0 {
		gap = slices.Min(b) - slices.Max(a)
	}
	noise, sure := m.noise, always.times
	if !m.Timing {
		noise, sure = noise*m.attempts(after), always.counts
	}
	scatter, trials := max(apart(b), apart(a)), min(len(b), len(a))
	switch {
	case m.Worse == 0 || math.IsNaN(change) || change <= noise:
		return false
	case !m.Timing && sign > 0 && slices.Max(b) == 0 && sure:
		return gap > noise
	case m.Name == "conntrack.drop" || m.Name == "conntrack.insert_failed",
		change <= allowed*math.Abs(Median(b)), m.Timing && trials < enoughForTimes:
		return false
	case trials >= enough:
		return significant || sure && gap > scatter
	case m.ends:
		return significant || sure && gap > max(scatter, assumed*m.attempts(after))
	default:
		return significant
	}
}

// attempts returns the median number of attempts of which the metric counts a part.
func (m Metric) attempts(s *results.Scenario) float64 {
	return Median(Metric{value: m.whole}.Values(s))
}

// apart returns the distance between the lowest and the highest value.
func apart(values []float64) float64 {
	low, high := slices.Min(values), slices.Max(values)
	if low == high { // also when both are times that never came
		return 0
	}
	return high - low
}

// Baseline is an earlier run that a new one is compared with.
type Baseline struct {
	Name    string // in the reports
	Run     *results.Run
	Allowed float64 // share by which a figure may be worse: 0.1 for 10 %
}

// Check refuses a baseline before its run: planned has scenarios without trials. Check takes an
// empty driver or accelerator to be as in the baseline; [Baseline.Judge] finds out. The error for
// unlike runs is an [*UnlikeError], that for a part of a run a [*results.PartError].
func (b *Baseline) Check(planned *results.Run) error {
	like, of := *planned, b.Run.Environment
	like.Environment.Driver = cmp.Or(like.Environment.Driver, of.Driver)
	like.Environment.Accelerator = cmp.Or(like.Environment.Accelerator, of.Accelerator)
	c, err := align([]string{b.Name, "this run"}, []*results.Run{b.Run, &like}, false)
	if err == nil {
		err = b.Run.Part(b.Name)
	}
	if err != nil {
		return err
	}
	var unlike []string
	for _, g := range c.Groups {
		if b.Run.Scenario(g.Name).Valid() == 0 {
			unlike = append(unlike, fmt.Sprintf("%s has no valid trial of %s", b.Name, g.Name))
		}
	}
	if len(unlike) > 0 {
		return &UnlikeError{Reasons: unlike}
	}
	return nil
}

// TooFew reports whether trials of each scenario are too few: chance then makes every difference
// from the baseline too often.
func (b *Baseline) TooFew(trials int) bool {
	return !slices.ContainsFunc(b.Run.Scenarios, func(s results.Scenario) bool {
		return flips{counts: 1}.sure(s.Valid(), trials, trials, false)
	})
}

// Continues returns an [*UnlikeError] unless planned, which has no trials yet, continues an
// unfinished run as it began: with the same experiment, settings, ctload, host and lab. Values that
// planned does not know yet count as equal.
func Continues(unfinished, planned *results.Run) error {
	like, of := *planned, unfinished.Environment
	e := &like.Environment
	e.Driver, e.Accelerator = cmp.Or(e.Driver, of.Driver), cmp.Or(e.Accelerator, of.Accelerator)
	e.Kernel, e.QEMU = cmp.Or(e.Kernel, of.Kernel), cmp.Or(e.QEMU, of.QEMU)
	if e.Box == "" {
		e.Box, e.BoxVersion = of.Box, of.BoxVersion
	}
	like.Ctload = cmp.Or(like.Ctload, unfinished.Ctload)
	unlike, notes := pair{"the unfinished run", "its rest"}.differences(unfinished, &like, false)
	unlike = append(unlike, notes...)
	alike := func(a, b results.Scenario) bool { return a.Name == b.Name }
	if !slices.EqualFunc(unfinished.Scenarios, like.Scenarios, alike) {
		unlike = append(unlike, "the scenarios differ")
	}
	if len(unlike) > 0 {
		return &UnlikeError{Reasons: unlike}
	}
	return nil
}

// Judge compares a run with the baseline and records in the run what became worse. The error is
// as that of Check; the run then stays unchanged.
func (b *Baseline) Judge(run *results.Run) error {
	if err := b.Run.Part(b.Name); err != nil {
		return err
	}
	r, err := findRegressions(b.Run, run, b.Allowed)
	if err != nil {
		return err
	}
	run.Baseline, run.MaxRegression = b.Name, b.Allowed
	run.Regressions, run.BaselineScenarios, run.BaselineNotes = r.Found, r.Scenarios, r.Notes
	run.BaselineUnsure = r.Unsure
	return nil
}
