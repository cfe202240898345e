package occupancy

import "math"

// mostPieces bounds the pieces into which the flows of a tick are divided, each at one place.
const mostPieces = 64

// takeOver lets the new flows of the tick take over the entries that their tuples have, where
// streams take the tuples of one walk in the same order, and returns how many did.
func (s *simulation) takeOver(stream int, now float64) (taken float64) {
	f := &s.flows[stream]
	n := f.arriving[0]
	if f.Walk == 0 || n == 0 {
		return 0
	}
	begun, pieces := f.arrivals(now-f.since), math.Ceil(min(n, mostPieces))
	for i := range int(pieces) {
		taken += s.takePlace(stream, begun+n*(float64(i)+0.5)/pieces, n/pieces, now)
	}
	s.Renewed += taken
	f.arriving[0] = max(0, n-taken)
	return taken
}

// takePlace lets n flows take over the entries at a place of their walk, which are of the flows
// that came there last, and returns how many did.
func (s *simulation) takePlace(stream int, place, n, now float64) (taken float64) {
	f := &s.flows[stream]
	var last *flow
	came := math.Inf(-1)
	for i := range s.flows {
		g, end := &s.flows[i], now
		if g.Walk != f.Walk || g.waits || g.untracked || len(g.states) == 0 {
			continue
		}
		if i < stream {
			end += s.dt // its flows of this tick have come
		}
		if at, ok := s.reached(g, place, i == stream, end); ok && at > came {
			last, came = g, at
		}
	}
	if last == nil {
		return 0
	}
	if came > now {
		return n // the entry that one of them makes in this tick is that of both
	}
	leaves := came
	for j := range last.states {
		rule, c := last.States[j], &last.states[j]
		schedule, life := c.expires, rule.Timeout
		if rule.Lasts > 0 && rule.Lasts < rule.Timeout && j+1 < len(last.states) {
			schedule, life = c.moves, rule.Lasts
		}
		leaves += life
		if leaves <= now {
			continue
		}
		taken += c.pick(schedule, (leaves-s.From)/s.dt, s.tick+1, n-taken)
	}
	if taken == 0 {
		return 0
	}
	s.release(last, taken)
	if f.Pool > 0 {
		s.used[f.Pool-1] += taken
	}
	s.enter(f, 0, taken, now)
	return taken
}

// reached returns when a stream came to a place of its walk, the last time before end. A stream
// itself comes there again once it has used all its tuples.
func (s *simulation) reached(g *flow, place float64, itself bool, end float64) (float64, bool) {
	size, done := float64(g.Tuples), g.arrivals(end-g.since)
	at := place
	switch {
	case size > 0 && itself:
		at -= size
	case size > 0:
		at = math.Mod(place, size)
		at += size * math.Floor((done-at)/size)
	case itself:
		return 0, false
	}
	if at < 0 || at >= done {
		return 0, false
	}
	early, late := s.From, end
	for late-early > s.dt/4 {
		if middle := (early + late) / 2; g.arrivals(middle-g.since) > at {
			late = middle
		} else {
			early = middle
		}
	}
	return late, true
}

// pick takes up to n entries that leave their state about a tick, of first or later, and returns
// how many those are.
func (c *cohorts) pick(schedule []float64, tick float64, first int, n float64) (taken float64) {
	n = min(n, c.n)
	if !(tick < float64(len(schedule)-1)) {
		taken = min(n, c.beyond*c.scale)
		c.beyond -= taken / c.scale
		c.n -= taken
		return taken
	}
	const near = 2 // ticks by which the entries of one moment are apart
	for t := max(first, int(tick)-near); t <= min(int(tick)+near, len(schedule)-1); t++ {
		x := min(n-taken, schedule[t]*c.scale)
		schedule[t] -= x / c.scale
		taken += x
	}
	c.n -= taken
	return taken
}
