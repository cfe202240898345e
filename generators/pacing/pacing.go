// Package pacing decides when each send of a load is due. Absolute schedules are pure functions
// from the number of a send to its time, and the [Pacer] hands out their slots.
package pacing

import (
	"fmt"
	"math"
	"sort"
	"sync"
	"time"
)

// Schedule tells when each send is due.
type Schedule interface {
	// At returns the time of send k (from 0) as an offset from the start, or false when the
	// schedule has fewer sends. It never decreases with k.
	At(k int64) (time.Duration, bool)
}

// flowing is a schedule whose sends flow evenly: it also has a time for a part of a send.
type flowing interface {
	Schedule
	// when returns the time until which sends, a real number, were due, or false when the schedule
	// has fewer.
	when(sends float64) (time.Duration, bool)
}

// Constant is an endless schedule of that many sends a second: send k is due at k/rate.
type Constant float64

// At implements [Schedule].
func (c Constant) At(k int64) (time.Duration, bool) { return c.when(float64(k)) }

func (c Constant) when(sends float64) (time.Duration, bool) {
	if !(c > 0) {
		return 0, false
	}
	return seconds(sends / float64(c))
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
func (s Stages) At(k int64) (time.Duration, bool) { return s.when(float64(k)) }

func (s Stages) when(rest float64) (time.Duration, bool) {
	var start time.Duration
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
func (s Sine) At(k int64) (time.Duration, bool) { return s.when(float64(k)) }

func (s Sine) when(sends float64) (time.Duration, bool) {
	if !(s.Mean > 0) || s.Period <= 0 || s.Amplitude < 0 || s.Amplitude > s.Mean {
		return 0, false
	}
	period := s.Period.Seconds()
	whole := math.Floor(sends / (s.Mean * period))
	rest := sends - whole*s.Mean*period
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
			return fmt.Errorf("stage %d goes from %v/s to %v/s in %s: "+
				"want rates of at least 0 and a time above 0",
				i+1, stage.From, stage.To, stage.Duration)
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
	swings := s.Amplitude >= 0 && s.Amplitude <= s.Mean
	if s.Mean > 0 && !math.IsInf(s.Mean, 0) && s.Period > 0 && swings {
		return nil
	}
	return fmt.Errorf("a sine around %v/s by %v/s every %s: want a mean and a period above 0, "+
		"and an amplitude from 0 to the mean", s.Mean, s.Amplitude, s.Period)
}

// DefaultSlack bounds the delay of a send: a later one gives up its slot.
const DefaultSlack = 10 * time.Millisecond

// LateAfter is the lateness beyond which a send counts as late.
const LateAfter = time.Millisecond

// Fewer than backlog slots that wait together change no rate. A pacer hands them out up to
// longestBacklog late, however small its slack.
const (
	backlog        = 20
	longestBacklog = time.Second
)

// Pacer hands out the slots of a schedule, each once, to any number of workers. It has no clock:
// the caller passes the time as an offset from the start of the load.
//
// The pacer gives up a slot that no worker took within Slack of its time, and counts it as missed.
// A delayed generator then sends no burst that the plan does not have, and the next slots keep
// their absolute times. The slots of a burst wait until the next burst, and a few slots that wait
// together are no burst. With CatchUp the pacer hands out all slots, however late.
type Pacer struct {
	limits Limits

	mu       sync.Mutex
	schedule Schedule
	bursts   Bursts        // the schedule where it is one of bursts, else zero
	slot     int64         // the next slot
	at       time.Duration // its time
	over     bool
	taken    int64
	missed   int64
	seconds  []Slots
	widths   Widths
	burst    time.Duration // the time of the burst that was taken from last
	width    time.Duration // its width so far
}

// Limits restrict what a Pacer hands out.
type Limits struct {
	Count    int64         // slots at most, missed ones included; 0: no limit
	Duration time.Duration // no slot at or past this time; 0: no limit
	Slack    time.Duration // 0: DefaultSlack
	CatchUp  bool
}

// Slots counts the slots of one second of a schedule.
type Slots struct {
	Due    int64 `json:"due,omitempty"`
	Missed int64 `json:"missed,omitempty"` // those of Due that were given up
}

// Widths tells how long bursts took, each from its instant until its last slot was taken.
type Widths struct {
	Bursts  int64         `json:"bursts"` // those with a slot that was taken
	Sum     time.Duration `json:"sum"`
	Longest time.Duration `json:"longest"`
}

// Mean returns the mean width, 0 without a burst.
func (w Widths) Mean() time.Duration { return w.Sum / time.Duration(max(w.Bursts, 1)) }

// NewPacer returns a pacer of schedule. With a nil schedule every slot is due at once (a closed
// loop).
func NewPacer(schedule Schedule, limits Limits) *Pacer {
	if limits.Slack <= 0 {
		limits.Slack = DefaultSlack
	}
	p := &Pacer{limits: limits, schedule: schedule}
	p.bursts, _ = schedule.(Bursts)
	if schedule != nil {
		p.peek()
	}
	return p
}

// time returns the time of a slot, or false past the limits.
func (p *Pacer) time(slot int64) (time.Duration, bool) {
	at, ok := p.schedule.At(slot)
	l := p.limits
	return at, ok && (l.Duration <= 0 || at < l.Duration) && (l.Count <= 0 || slot < l.Count)
}

// peek looks up the time of the next slot.
func (p *Pacer) peek() {
	at, more := p.time(p.slot)
	p.at, p.over = at, p.over || !more
}

// pass counts the next slot and goes to the one after it; missed is 1 for a slot without a send,
// else 0.
func (p *Pacer) pass(missed int64) {
	second := int(p.at / time.Second)
	for len(p.seconds) <= second {
		p.seconds = append(p.seconds, Slots{})
	}
	p.seconds[second].Due++
	p.seconds[second].Missed += missed
	p.missed += missed
	p.slot++
	p.peek()
}

// overdue reports whether the next slot is too late to be handed out at now.
func (p *Pacer) overdue(now time.Duration) bool {
	late := now - p.at
	if p.limits.CatchUp || late <= p.limits.Slack {
		return false
	}
	if p.bursts.Every > 0 {
		return late >= p.bursts.Every
	}
	at, more := p.time(p.slot + backlog - 1)
	return late > longestBacklog || more && at <= now
}

// Take fills intended with the times of slots that are due at now. It returns the number of the
// first slot, counting those handed out, and how many there are. When none is due, wait is the time
// until the next one, negative when no slot is left.
func (p *Pacer) Take(now time.Duration, intended []time.Duration) (
	first int64, n int, wait time.Duration,
) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first = p.taken
	defer func() { p.taken += int64(n) }()
	if p.schedule == nil {
		l := p.limits
		p.over = p.over || l.Count > 0 && first >= l.Count || l.Duration > 0 && now >= l.Duration
		if p.over {
			return first, 0, -1
		}
		for n < len(intended) && (l.Count <= 0 || first+int64(n) < l.Count) {
			intended[n] = now
			n++
		}
		return first, n, 0
	}
	for n < len(intended) && !p.over && p.at <= now {
		if p.overdue(now) {
			p.pass(1)
			continue
		}
		intended[n] = p.at
		n++
		p.widen(now)
		p.pass(0)
	}
	switch {
	case n > 0:
		return first, n, 0
	case p.over:
		return first, 0, -1
	}
	return first, 0, p.at - now
}

// widen measures the width of a burst, the next slot of which is taken at now.
func (p *Pacer) widen(now time.Duration) {
	if p.bursts.Every == 0 {
		return
	}
	if p.at > p.burst || p.widths.Bursts == 0 {
		p.burst, p.width = p.at, 0
		p.widths.Bursts++
	}
	width := max(p.width, now-p.at)
	p.widths.Sum += width - p.width
	p.widths.Longest = max(p.widths.Longest, width)
	p.width = width
}

// Stop ends the schedule: Take hands out nothing more.
func (p *Pacer) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// Over reports whether no slot is left.
func (p *Pacer) Over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over || p.limits.Count > 0 && p.taken >= p.limits.Count
}

// Missed returns how many slots were given up because no worker took them in time.
func (p *Pacer) Missed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.missed
}

// Delivered returns the slots so far, by second of the schedule, and how wide the bursts were. The
// caller must not use the pacer afterwards.
func (p *Pacer) Delivered() ([]Slots, Widths) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seconds, p.widths
}
