package occupancy

import (
	"math"
	"slices"
)

// drop counts a share of the attempts of the tick as refused; some are repeated later.
func (s *simulation) drop(f *flow, share float64) {
	for k, n := range f.arriving {
		n *= share
		if n == 0 {
			continue
		}
		s.Drop += n * max(1, f.Packets)
		if k >= len(f.Retries) {
			s.Lost += n
			continue
		}
		wait := f.Retries[k]
		if k > 0 {
			wait -= f.Retries[k-1]
		}
		if f.retries[k] == nil {
			f.retries[k] = make([]float64, s.size)
		}
		at := s.tick + max(1, int(math.Round(wait/s.dt)))
		f.retries[k][min(at, s.size-1)] += n
		s.waiting += n
	}
}

// free lets go of expired entries.
func (s *simulation) free(n float64) {
	n = min(n, s.expired)
	s.expired -= n
	s.Collected += n
}

// admit admits the flows of the tick as far as the table has room, or makes some.
func (s *simulation) admit(total, now float64) {
	admitted, lost, evictable := total, 0.0, 0.0
	if s.max > 0 {
		room := max(0, s.max-s.count())
		if total >= room && math.IsNaN(s.FullAt) {
			s.FullAt = now + s.dt*min(1, room/total)
		}
		if admitted = min(total, room); total > room {
			evictable = s.arrivingEvictable()
			s.Overflow += (total - room) * s.arrivingFirst() / total
			more, again := s.makeRoom(total-room, evictable/total)
			admitted, lost = admitted+more, again
		}
	}
	share := admitted / total
	for i := range s.flows {
		f := &s.flows[i]
		n := f.attempts()
		if n == 0 {
			continue
		}
		if share < 1 {
			s.drop(f, 1-share)
			s.release(f, n*(1-share))
		}
		s.Admitted += n * share
		stay := n * share
		if lost > 0 && f.States[0].Class == Evictable {
			stay -= lost * n / evictable
			s.release(f, lost*n/evictable)
		}
		s.enter(f, 0, stay, now)
	}
}

// attempts returns how many flows of the stream want an entry in this tick.
func (f *flow) attempts() (n float64) {
	for _, x := range f.arriving {
		n += x
	}
	return n
}

// arrivingEvictable returns the flows of the tick whose entries are evictable.
func (s *simulation) arrivingEvictable() (n float64) {
	for i := range s.flows {
		if f := &s.flows[i]; len(f.States) > 0 && f.States[0].Class == Evictable {
			n += f.attempts()
		}
	}
	return n
}

// arrivingFirst returns the flows of the tick that try for the first time.
func (s *simulation) arrivingFirst() (n float64) {
	for i := range s.flows {
		n += s.flows[i].arriving[0]
	}
	return n
}

// makeRoom offers flows to a full table (early_drop). It returns how many are admitted in place of
// others, and how many of those a later one evicts again. fresh is the share of the flows whose
// entries are evictable.
//
// Each search evicts all of the first of 8 buckets that holds any evictable entry, and frees the
// expired ones on its way. A flow whose search evicts nothing is refused, also where it freed some:
// the next one has room then, and searches nothing.
func (s *simulation) makeRoom(over, fresh float64) (admitted, lost float64) {
	chunk, young := over/12, 0.0 // young flows of this tick are admitted and evictable
	for over > 1e-9 {
		evictable := s.of(Evictable) + young
		if evictable < 1e-6 {
			evictable = 0
		}
		empty, evicted := eviction(evictable, s.buckets)
		searched := float64(evictionRange)
		if evictable > 0 && s.buckets > 0 {
			miss := math.Exp(-2 * evictable / s.buckets)
			searched = -math.Expm1(evictionRange*math.Log(miss)) / (1 - miss)
		}
		freed := 0.0
		if s.buckets > 0 {
			freed = 2 * searched / s.buckets * s.expired
		}
		x := min(over, max(1, chunk, (evictable+s.expired)/20))
		attempts := x / (empty + (1-empty)*evicted + freed)
		gone := min(evictable, attempts*(1-empty)*evicted)
		freed = min(s.expired, attempts*freed)
		s.free(freed)
		if gone > 0 {
			share := gone / evictable
			s.EarlyDrop += gone
			s.thin(share, Evictable)
			lost += young * share
			young -= young * share
		}
		in := min(x, gone+freed)
		s.refused = s.refused || x-in > 1e-9
		admitted += in
		young += in * fresh
		over -= x
	}
	return admitted, lost
}

// of returns the entries of a class that have not expired.
func (s *simulation) of(class Class) (n float64) {
	for i := range s.flows {
		for j := range s.flows[i].states {
			if s.flows[i].States[j].Class == class {
				n += s.flows[i].states[j].n
			}
		}
	}
	return n
}

// thin removes a share of the entries of classes, and returns how many.
func (s *simulation) thin(share float64, classes ...Class) (gone float64) {
	for i := range s.flows {
		f := &s.flows[i]
		for j := range f.states {
			if slices.Contains(classes, f.States[j].Class) {
				n := f.states[j].take(share)
				s.release(f, n)
				gone += n
			}
		}
	}
	return gone
}
