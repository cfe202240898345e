// Package search finds the limit of a configuration by trials: the highest value that holds, such
// as a rate, or the smallest, such as the size of a table. It is pure: [Search.Next] names the
// value of the next trial, the caller makes the trial, and [Search.Record] takes what came of it.
//
// A search begins below the predicted limit. The number of living entries there tells where the
// table is full, since it is linear in the rate: trials just below and just above that confirm it.
// Where something else is lost first, the search halves what is left instead. Either way the
// interval comes from a fit over all valid trials (fit.go), never from the last bracket.
package search

import (
	"cmp"
	"math"
	"slices"
)

// Settings say what a search looks for, and how well.
type Settings struct {
	// Smallest looks for the smallest value that holds; otherwise for the highest.
	Smallest bool
	// Least and Most bound the values.
	Least, Most float64
	// Start is the value of the experiment, from which a search without a prediction begins.
	Start float64
	// Predicted is the limit by arithmetic; 0: none.
	Predicted float64
	// Step is the distance of neighbouring values; 0: any value goes.
	Step float64
	// Resolution is the width of the interval, as a share of the value, at which a search ends.
	Resolution float64
	// Confidence is the share of searches whose interval holds the limit.
	Confidence float64
	MaxTrials  int // valid ones
	Retries    int // further attempts at a value whose trial was INVALID
}

// Observation holds the result of a trial for a search.
type Observation struct {
	Value float64
	// Invalid says that the trial shows nothing; Limit is then [Generator] where the load's own
	// limit was the reason, else empty.
	Invalid bool
	Held    bool
	Limit   Limit // by which the trial did not hold
	Shares
	// Estimate is the limit by what the table held in this trial; 0: the trial does not tell.
	Estimate float64
}

// Result holds an estimate of a limit, with its bounds.
type Result struct {
	Value float64 // the most probable limit; 0: nothing held
	// Low and High bound the limit with the confidence that was asked for. A nil bound is not
	// known: no trial beyond it could be measured, or none was within the bounds of the search.
	Low, High *float64
	Limit     Limit // what is lost first beyond the limit; empty: not known
	Trials    int   // valid ones
	Invalid   int
}

// Step gives the reason for a trial.
type Step string

// The steps.
const (
	Predict Step = "predict" // below the predicted limit
	Below   Step = "below"   // just below the limit, which should hold
	Above   Step = "above"   // just above it, which should not
	Bracket Step = "bracket" // farther away, until the limit lies between two trials
	Bisect  Step = "bisect"  // in the middle of what is left
	Measure Step = "measure" // at the one value of a measurement
	Again   Step = "again"   // the last value once more, since its trial was INVALID
)

const (
	// below is the share of a predicted limit at which a search begins.
	below = 0.75
	// confirmations is the number of trials on each side that must agree with the limit.
	confirmations = 3
	// strides is the largest distance, in resolutions, from the limit at which a trial confirms it.
	strides = 2.5
)

// Search is a search under way.
type Search struct {
	Settings
	made    []Observation // valid trials
	invalid int           // trials in all
	inARow  int           // INVALID trials since the last valid one
	last    float64       // the value of the last trial
	// ceiling is the position from which on the generator is the limit; +Inf: none was met.
	ceiling float64
	stuck   bool // trials stayed INVALID for another reason
}

// New begins a search.
func New(s Settings) *Search { return &Search{Settings: s, ceiling: math.Inf(1)} }

// position returns where a value lies on the axis on which trials below the limit hold.
func (s *Search) position(value float64) float64 {
	if s.Smallest {
		return -math.Log(value)
	}
	return math.Log(value)
}

func (s *Search) value(position float64) float64 {
	if s.Smallest {
		position = -position
	}
	return math.Exp(position)
}

// bounds returns the positions of the bounds, in order.
func (s *Search) bounds() (least, most float64) {
	least, most = s.position(s.Least), s.position(s.Most)
	return min(least, most), max(least, most)
}

// Record takes what came of the trial at the value that [Search.Next] named.
func (s *Search) Record(o Observation) {
	s.last = o.Value
	if !o.Invalid {
		s.made, s.inARow = append(s.made, o), 0
		return
	}
	s.invalid++
	s.inARow++
	known := !math.IsInf(s.ceiling, 1)
	switch {
	case o.Limit == Generator && s.anyHeld() && (known || s.inARow > 1):
		s.ceiling, s.inARow = min(s.ceiling, s.position(o.Value)), 0
	case s.inARow > s.Retries:
		s.stuck = true
	}
}

func (s *Search) anyHeld() bool {
	return slices.ContainsFunc(s.made, func(o Observation) bool { return o.Held })
}

// Next names the value of the next trial and why it is made; false where the search is over.
func (s *Search) Next() (value float64, why Step, more bool) {
	if s.Stuck() || len(s.made) >= s.MaxTrials {
		return 0, "", false
	}
	if s.inARow > 0 {
		return s.last, Again, true
	}
	position, why, more := s.next()
	if !more {
		return 0, "", false
	}
	value = s.round(position, why)
	tried := func(o Observation) bool { return o.Value == value }
	if edge := value == s.Least || value == s.Most; edge && why == Bracket &&
		slices.ContainsFunc(s.made, tried) {
		return 0, "", false // the limit lies beyond the bounds
	}
	return value, why, true
}

// next returns the position of the next trial.
func (s *Search) next() (at float64, why Step, more bool) {
	held, lost, some := s.bracket()
	switch {
	case len(s.made) == 0 && s.Predicted > 0:
		return s.position(s.Predicted) + math.Log(below), Predict, true
	case len(s.made) == 0:
		return s.position(s.Start), Bracket, true
	case !math.IsInf(s.ceiling, 1) && math.IsInf(lost, 1):
		// Between what held and what cannot be measured, to a tenth: no limit is known there.
		if s.ceiling-held < max(0.1, s.Resolution) {
			return 0, "", false
		}
		return (held + s.ceiling) / 2, Bisect, true
	case s.byTable():
		return s.confirm()
	case !some && math.IsInf(lost, 1):
		return held + math.Ln2*s.doublings(true), Bracket, true
	case !some:
		return lost - math.Ln2*s.doublings(false), Bracket, true
	}
	if middle := (held + lost) / 2; lost-held > 2*s.stride(middle) {
		return middle, Bisect, true
	}
	return s.confirm()
}

// doublings returns how far the next trial is from the last one where all held, or none: farther
// each time.
func (s *Search) doublings(held bool) float64 {
	n := 0
	for _, o := range s.made {
		if o.Held == held {
			n++
		}
	}
	return float64(n)
}

// bracket returns the highest position that held and the lowest that did not; infinite where there
// is none. both reports whether there are both.
func (s *Search) bracket() (held, lost float64, both bool) {
	held, lost = math.Inf(-1), math.Inf(1)
	for _, o := range s.made {
		if o.Held {
			held = max(held, s.position(o.Value))
		} else {
			lost = min(lost, s.position(o.Value))
		}
	}
	return held, lost, !math.IsInf(held, 0) && !math.IsInf(lost, 0)
}

// byTable reports whether the table is the limit, as far as the trials tell: some of them show how
// full it gets, and all that was lost was lost to a full table.
func (s *Search) byTable() bool {
	estimates := false
	for _, o := range s.made {
		if !o.Held && o.Limit != Table {
			return false
		}
		estimates = estimates || o.Held && o.Estimate > 0
	}
	return estimates
}

// confirm returns a position just below or just above the limit, on the side that fewer trials have
// confirmed.
func (s *Search) confirm() (at float64, why Step, more bool) {
	f := s.fit()
	middle := f.quantile(.5)
	stride := s.stride(middle)
	under, over := 0, 0
	for _, o := range s.made {
		switch d := s.position(o.Value) - middle; {
		case o.Held && d < 0 && d >= -strides*stride:
			under++
		case !o.Held && d > 0 && d <= strides*stride:
			over++
		}
	}
	low, high := s.interval(f)
	switch sure := high-low <= stride; {
	case sure && under >= confirmations && over >= confirmations:
		return 0, "", false
	case under <= over:
		return middle - stride, Below, true
	default:
		return middle + stride, Above, true
	}
}

// stride returns the distance from the limit of trials that confirm it, and the width of an
// interval that ends the search.
func (s *Search) stride(at float64) float64 { return max(s.Resolution, s.Step/s.value(at)) }

// fit fits the limit to the valid trials. Estimates of the table count while it is the limit.
func (s *Search) fit() fit {
	byTable := s.byTable()
	var points []point
	for _, o := range s.made {
		p := point{z: s.position(o.Value), held: o.Held, estimate: math.NaN()}
		if byTable && o.Held && o.Estimate > 0 {
			p.estimate = s.position(o.Estimate)
		}
		points = append(points, p)
	}
	least, most := s.bounds()
	if held, lost, _ := s.bracket(); byTable || !math.IsInf(held, 0) && !math.IsInf(lost, 0) {
		// Within a factor of 2 of what was tried: one fluke must not open the whole range.
		least = max(least, outermost(points, -1)-math.Ln2)
		most = min(most, outermost(points, 1)+math.Ln2)
	}
	return fitTo(points, least, most)
}

// outermost returns the outermost position in a direction (-1 or 1) that trials were made at, or
// that they estimate.
func outermost(points []point, direction float64) float64 {
	at := math.Inf(-1)
	for _, p := range points {
		at = max(at, direction*p.z)
		if !math.IsNaN(p.estimate) {
			at = max(at, direction*p.estimate)
		}
	}
	return direction * at
}

// interval returns the positions between which the limit lies with the confidence asked for.
func (s *Search) interval(f fit) (low, high float64) {
	tail := (1 - s.Confidence) / 2
	return f.quantile(tail), f.quantile(1 - tail)
}

// round returns the value of a position: to four digits, or to a multiple of Step, away from the
// limit where the trial confirms it.
func (s *Search) round(position float64, why Step) float64 {
	value := s.value(position)
	unit := s.Step
	if unit == 0 {
		unit = math.Pow(10, math.Floor(math.Log10(value))-3)
	}
	how := math.Round
	if up := (why == Above) != s.Smallest; why == Above || why == Below {
		if how = math.Floor; up {
			how = math.Ceil
		}
	}
	n := how(value/unit + 0)
	if unit < 1 { // 1/unit is exact, and unit is not
		value = n / math.Round(1/unit)
	} else {
		value = n * unit
	}
	return min(s.Most, max(s.Least, value))
}

// Result returns what the trials so far say of the limit.
func (s *Search) Result() Result {
	r := Result{Trials: len(s.made), Invalid: s.invalid}
	held, lost, _ := s.bracket()
	unbounded := math.IsInf(lost, 1) && !s.byTable()
	r.Limit = s.limit()
	if !math.IsInf(s.ceiling, 1) && math.IsInf(lost, 1) {
		r.Limit, unbounded = Generator, true
	}
	switch {
	case math.IsInf(held, -1) && math.IsInf(lost, 1): // no valid trial
		return r
	case math.IsInf(held, -1):
		s.bound(&r, nil, &lost)
		return r
	case unbounded:
		r.Value = s.value(held)
		s.bound(&r, &held, nil)
		return r
	}
	f := s.fit()
	r.Value = s.value(f.quantile(.5))
	low, high := s.interval(f)
	s.bound(&r, &low, &high)
	return r
}

// bound sets the bounds of a result from positions: the lower one holds.
func (s *Search) bound(r *Result, holds, lost *float64) {
	value := func(position *float64) *float64 {
		if position == nil {
			return nil
		}
		return new(s.value(*position))
	}
	r.Low, r.High = value(holds), value(lost)
	if s.Smallest {
		r.Low, r.High = r.High, r.Low
	}
}

// limit returns the most frequent limit of the trials that did not hold, the one nearest to the
// limit where several are as frequent.
func (s *Search) limit() Limit {
	var lost []Observation
	for _, o := range s.made {
		if !o.Held {
			lost = append(lost, o)
		}
	}
	if len(lost) == 0 {
		if s.byTable() {
			return Table
		}
		return ""
	}
	slices.SortStableFunc(lost, func(a, b Observation) int {
		return cmp.Compare(s.position(a.Value), s.position(b.Value))
	})
	// Losses far beyond the limit do not show what is lost first.
	near := s.position(lost[0].Value) + math.Ln2/2
	count := map[Limit]int{}
	best := lost[0].Limit
	for _, o := range lost {
		if s.position(o.Value) <= near {
			count[o.Limit]++
		}
		if count[o.Limit] > count[best] {
			best = o.Limit
		}
	}
	return best
}

// Stuck reports whether trials stayed INVALID, so that the search ended without its answer.
func (s *Search) Stuck() bool {
	return s.stuck || s.invalid > s.MaxTrials*max(1, s.Retries)
}
