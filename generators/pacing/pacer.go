package pacing

import (
	"sync"
	"time"
)

// DefaultSlack is how late a send may be before its slot is given up.
const DefaultSlack = 10 * time.Millisecond

// LateAfter is the lateness from which a send counts as late.
const LateAfter = time.Millisecond

// Pacer hands out the slots of a schedule, each once, to any number of workers. It has no clock of
// its own: the caller says what time it is, as an offset from the start of the load.
//
// A slot that nobody took within Slack of its time is given up and counted as missed, so that a
// generator that was held up does not follow with a burst that the plan does not have; the next
// slots keep their own absolute times. With CatchUp all of them are handed out, however late.
type Pacer struct {
	limits Limits

	mu       sync.Mutex
	schedule Schedule
	slot     int64         // the next slot
	at       time.Duration // its time
	over     bool
	taken    int64
	missed   int64
}

// Limits bound what a Pacer hands out.
type Limits struct {
	Count    int64         // slots handed out at most; 0: no limit
	Duration time.Duration // no slot at or past this time; 0: no limit
	Slack    time.Duration // 0: DefaultSlack
	CatchUp  bool
}

// NewPacer paces by schedule; a nil schedule means that every slot is due at once (a closed loop).
func NewPacer(schedule Schedule, limits Limits) *Pacer {
	if limits.Slack <= 0 {
		limits.Slack = DefaultSlack
	}
	p := &Pacer{limits: limits, schedule: schedule}
	if schedule != nil {
		p.peek()
	}
	return p
}

// peek looks up the time of the next slot.
func (p *Pacer) peek() {
	at, ok := p.schedule.At(p.slot)
	p.at = at
	if !ok || p.limits.Duration > 0 && at >= p.limits.Duration {
		p.over = true
	}
}

// Take fills intended with the times of slots that are due at now and returns how many, and the
// number of the first among those handed out. When none is due, wait says how long until the next
// is; it is negative when there will be none any more.
func (p *Pacer) Take(now time.Duration, intended []time.Duration) (first int64, n int, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first = p.taken
	room := int64(len(intended))
	if p.limits.Count > 0 {
		room = min(room, p.limits.Count-p.taken)
	}
	if p.limits.Count > 0 && p.taken >= p.limits.Count {
		p.over = true
	}
	if p.schedule == nil {
		if p.limits.Duration > 0 && now >= p.limits.Duration {
			p.over = true
		}
		if p.over {
			return first, 0, -1
		}
		for n < int(room) {
			intended[n] = now
			n++
		}
		p.taken += int64(n)
		return first, n, 0
	}
	for n < int(room) && !p.over && p.at <= now {
		if !p.limits.CatchUp && now-p.at > p.limits.Slack {
			p.skip(now - p.limits.Slack)
			continue
		}
		intended[n] = p.at
		n++
		p.taken++
		p.slot++
		p.peek()
	}
	switch {
	case n > 0:
		return first, n, 0
	case p.over:
		return first, 0, -1
	}
	return first, 0, p.at - now
}

// skip gives up the slots before until.
func (p *Pacer) skip(until time.Duration) {
	for !p.over && p.at < until {
		p.missed++
		p.slot++
		p.peek()
	}
}

// Stop hands out nothing more.
func (p *Pacer) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// Over reports whether nothing more will be handed out.
func (p *Pacer) Over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over || p.limits.Count > 0 && p.taken >= p.limits.Count
}

// Missed is how many slots were given up because nobody took them in time.
func (p *Pacer) Missed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.missed
}
