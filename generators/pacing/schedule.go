// Package pacing decides when each send of a load is due. Absolute schedules are pure functions
// from the number of a send to its time, and the [Pacer] hands out their slots.
package pacing

import (
	"fmt"
	"math"
	"sort"
	"time"
)

// Schedule tells when each send is due.
type Schedule interface {
	// At returns the time of send k (from 0) as an offset from the start, or false when the
	// schedule has fewer sends. It never decreases with k.
	At(k int64) (time.Duration, bool)
}

// Constant is an endless schedule of that many sends a second: send k is due at k/rate.
type Constant float64

// At implements [Schedule].
func (c Constant) At(k int64) (time.Duration, bool) {
	if !(c > 0) {
		return 0, false
	}
	return seconds(float64(k) / float64(c))
}

// seconds converts seconds into a duration; false past the range of a duration.
func seconds(s float64) (time.Duration, bool) {
	ns := s * float64(time.Second)
	if !(ns < math.MaxInt64) {
		return 0, false
	}
	return time.Duration(ns), true
}

// Stage is a part of a load in which the rate goes linearly from one value to another, both per
// second. Equal rates make a plateau, different ones a ramp.
type Stage struct {
	From     float64       `json:"from"`
	To       float64       `json:"to"`
	Duration time.Duration `json:"duration"`
}

// Stages is a schedule of stages in sequence. It ends with the last.
type Stages []Stage

// At implements [Schedule]. In a stage from a to b over d the number of sends after t is a·t +
// (b-a)·t²/2d. Its inverse is 2k / (a + sqrt(a² + 2k(b-a)/d)), the form of the quadratic's root
// that does not cancel when a and b are close.
func (s Stages) At(k int64) (time.Duration, bool) {
	var start time.Duration
	rest := float64(k)
	for _, stage := range s {
		d := stage.Duration.Seconds()
		n := (stage.From + stage.To) / 2 * d
		if rest < n {
			root := stage.From*stage.From + 2*rest*(stage.To-stage.From)/d
			t := 0.0
			if rest > 0 {
				t = 2 * rest / (stage.From + math.Sqrt(max(root, 0)))
			}
			at, ok := seconds(min(t, d))
			return start + at, ok
		}
		rest -= n
		start += stage.Duration
	}
	return 0, false
}

// Bursts is an endless schedule of Size sends at once every Every, the first at 0.
type Bursts struct {
	Size  int64         `json:"size"`
	Every time.Duration `json:"every"`
}

// At implements [Schedule].
func (b Bursts) At(k int64) (time.Duration, bool) {
	if b.Size <= 0 || b.Every <= 0 {
		return 0, false
	}
	return seconds(float64(k/b.Size) * b.Every.Seconds())
}

// Sine is an endless schedule whose rate swings around Mean by Amplitude (at most Mean), both per
// second, once every Period. It starts at the mean, rising.
type Sine struct {
	Mean      float64       `json:"mean"`
	Amplitude float64       `json:"amplitude"`
	Period    time.Duration `json:"period"`
}

// count returns the number of sends until t seconds: the integral of the rate.
func (s Sine) count(t float64) float64 {
	w := 2 * math.Pi / s.Period.Seconds()
	return s.Mean*t + s.Amplitude/w*(1-math.Cos(w*t))
}

// At implements [Schedule]. It first takes off whole periods, each of which holds Mean·Period
// sends, and finds the rest by bisection, to the nanosecond.
func (s Sine) At(k int64) (time.Duration, bool) {
	if !(s.Mean > 0) || s.Period <= 0 || s.Amplitude < 0 || s.Amplitude > s.Mean {
		return 0, false
	}
	period := s.Period.Seconds()
	whole := math.Floor(float64(k) / (s.Mean * period))
	rest := float64(k) - whole*s.Mean*period
	ns := sort.Search(int(s.Period), func(ns int) bool {
		return s.count(float64(ns)/float64(time.Second)) >= rest
	})
	at, ok := seconds(whole * period)
	return at + time.Duration(ns), ok
}

// Validate reports what is wrong with the stages.
func (s Stages) Validate() error {
	total := 0.0
	for i, stage := range s {
		if !(stage.From >= 0) || !(stage.To >= 0) || stage.Duration <= 0 {
			return fmt.Errorf("stage %d goes from %v/s to %v/s in %s: want rates of at least 0 and a time above 0", i+1, stage.From, stage.To, stage.Duration)
		}
		total += (stage.From + stage.To) / 2 * stage.Duration.Seconds()
	}
	if !(total >= 1) || math.IsInf(total, 0) {
		return fmt.Errorf("the stages hold %v sends", total)
	}
	return nil
}

// Validate reports what is wrong with the bursts.
func (b Bursts) Validate() error {
	if b.Size <= 0 || b.Every <= 0 {
		return fmt.Errorf("bursts of %d every %s: want both above 0", b.Size, b.Every)
	}
	return nil
}

// Validate reports what is wrong with the sine.
func (s Sine) Validate() error {
	if !(s.Mean > 0) || math.IsInf(s.Mean, 0) || s.Period <= 0 || !(s.Amplitude >= 0) || s.Amplitude > s.Mean {
		return fmt.Errorf("a sine around %v/s by %v/s every %s: want a mean and a period above 0, and an amplitude from 0 to the mean", s.Mean, s.Amplitude, s.Period)
	}
	return nil
}
