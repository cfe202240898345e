package pacing

import (
	"sync"
	"time"
)

// DefaultSlack is how late a send may be before its slot is given up.
const DefaultSlack = 10 * time.Millisecond

// LateAfter is the lateness beyond which a send counts as late.
const LateAfter = time.Millisecond

// Pacer hands out the slots of a schedule, each once, to any number of workers. It has no clock:
// the caller passes the time as an offset from the start of the load.
//
// The pacer gives up a slot that no worker took within Slack of its time, and counts it as missed.
// A delayed generator then sends no burst that the plan does not have, and the next slots keep
// their absolute times. With CatchUp it hands out all slots, however late.
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

// Limits restrict what a Pacer hands out.
type Limits struct {
	Count    int64         // slots at most; 0: no limit
	Duration time.Duration // no slot at or past this time; 0: no limit
	Slack    time.Duration // 0: DefaultSlack
	CatchUp  bool
}

// NewPacer returns a pacer of schedule. With a nil schedule every slot is due at once (a closed
// loop).
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

// Take fills intended with the times of slots that are due at now. It returns the number of the
// first slot, counting those handed out, and how many there are. When none is due, wait is the time
// until the next one, negative when no slot is left.
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
