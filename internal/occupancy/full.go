package occupancy

import (
	"math"
	"slices"
)

// drop counts a share of the attempts of the tick as refused; some are repeated later.
func (s *simulation) drop(f *flow, share float64) {
	s.Drop += f.attempts() * share * max(1, f.Packets)
	s.repeat(f, share)
}

// repeat has a share of the attempts of the tick repeated later, those that are the last ones
// excepted.
func (s *simulation) repeat(f *flow, share float64) {
	for k, n := range f.arriving {
		n *= share
		if n == 0 {
			continue
		}
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

// admit admits the flows of the tick as far as the table has room, or makes some; passing is the
// number of attempts beside them that leave no entry.
func (s *simulation) admit(total, passing, now float64) {
	room, evictable := max(0, s.max-s.count()), s.arrivingEvictable()
	over, late := 0.0, 0.0 // late is the part of the tick in which the table is full
	switch {
	case s.max == 0:
	case total > room:
		over, late = total-room, 1-room/total
	case room < 1 && passing > 0:
		late = 1
	}
	if s.max > 0 && total > 0 && total >= room && math.IsNaN(s.FullAt) {
		s.FullAt = now + s.dt*min(1, room/total)
	}
	share, lost, refused := 1.0, 0.0, 0.0
	if all := over + late*passing; all > 0 {
		fresh := 0.0
		if over > 0 {
			fresh = late * evictable / all
		}
		more, again := s.makeRoom(all, fresh)
		refused = late * (1 - more/all)
		if over > 0 {
			s.Overflow += late * s.arrivingFirst()
			share, lost = (room+more*over/all)/total, again
		}
	}
	for i := range s.flows {
		f := &s.flows[i]
		n := f.attempts()
		switch {
		case n == 0:
			continue
		case f.Refusal != Accepted:
			s.Drop += n * refused
			again := refused
			if f.Refusal == Dropped {
				again = 1
			}
			s.repeat(f, again)
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
		f := &s.flows[i]
		if f.Refusal == Accepted && len(f.States) > 0 && f.States[0].Class == Evictable {
			n += f.attempts()
		}
	}
	return n
}

// arrivingFirst returns the flows of the tick that try for the first time.
func (s *simulation) arrivingFirst() (n float64) {
	for i := range s.flows {
		if s.flows[i].Refusal == Accepted {
			n += s.flows[i].arriving[0]
		}
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
