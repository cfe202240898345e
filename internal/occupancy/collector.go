package occupancy

import (
	"math"
	"slices"
)

// The collector's constants (gc_worker of net/netfilter/nf_conntrack_core.c). They hold from Linux
// 5.19 on, and for the stable kernels with the same fix (5.10.y to 5.18.y from August 2022).
const (
	idleScan  = 60.0    // seconds from one scan of an idle table to the next (GC_SCAN_INTERVAL_MAX)
	clampScan = 300.0   // a longer remaining time counts as this (GC_SCAN_INTERVAL_CLAMP)
	pretended = 100.0   // entries at idleScan that each scan begins with (GC_SCAN_INITIAL_COUNT)
	freesPerS = 64000.0 // entries that a scan frees in a second (GC_SCAN_EXPIRED_MAX)
	pressed   = 0.95    // of max, above which a scan removes entries that have not expired
)

// collect scans the table. It frees all expired entries, and where the kernel has refused an entry
// since the last scan also [Evictable] and [Closing] ones down to 95 % of max. Then it decides when
// to come again.
func (s *simulation) collect() {
	freed := s.expired
	s.free(s.expired)
	if most := math.Floor(s.max/100) * 100 * pressed; s.refused && s.max > 0 && s.count() >= most {
		can := s.of(Evictable) + s.of(Closing)
		if gone := min(can, s.count()-most+1); gone > 0 {
			s.Collected += s.thin(gone/can, Evictable, Closing)
			freed += gone
		}
	}
	s.refused = false
	s.scan += max(s.interval(), freed/freesPerS+s.dt)
}

// bins is the number of kinds of remaining time that a scan tells apart.
const bins = 128

// interval returns how many seconds pass from this scan to the next.
//
// gc_worker keeps a running mean of the entries' remaining timeouts in whole jiffies. It starts as
// if 100 entries had 60 s left, visits each entry twice (both directions are in the hash), and the
// mean stops moving where the difference is smaller than the number of entries visited, since the
// division truncates. At 250 Hz that leaves it about 5 s above the true mean.
func (s *simulation) interval() float64 {
	hz := float64(s.Hertz)
	if hz <= 0 {
		hz = 250
	}
	var weights [bins]float64
	alive := s.remaining(&weights)
	if alive < 1 {
		return idleScan
	}
	type kind struct{ share, expires float64 }
	var kinds []kind
	for i, w := range weights {
		if w > 0 {
			kinds = append(kinds, kind{w / alive, max(hz, (float64(i)+0.5)/bins*clampScan*hz)})
		}
	}
	mean, met := math.Trunc(idleScan*hz), pretended
	for left := 2 * alive; left >= 1; {
		// Steps grow with the number of entries met, as each entry counts for less.
		step := min(left, max(1, math.Floor(met/32)))
		drift, moves := 0.0, false
		for _, k := range kinds {
			change := math.Trunc((k.expires - mean) / (met + 1))
			moves = moves || change != 0
			drift += k.share * change
		}
		if !moves {
			break
		}
		mean += drift * step
		met += step
		left -= step
	}
	return min(idleScan, max(1, mean/hz))
}

// remaining sorts the entries that have not expired by the time that their timeouts have left, and
// returns how many there are.
func (s *simulation) remaining(weights *[bins]float64) (alive float64) {
	add := func(seconds, n float64) {
		i := min(bins-1, max(0, int(seconds/clampScan*bins)))
		weights[i] += n
		alive += n
	}
	add(clampScan, s.Held)
	for i := range s.flows {
		f := &s.flows[i]
		for j := range f.states {
			c := &f.states[j]
			if c.n <= 0 {
				continue
			}
			add(clampScan, c.beyond*c.scale)
			last := min(s.size, s.tick+int(clampScan/s.dt)+1)
			for at := s.tick; at < last; at++ {
				if n := c.expires[at]; n > 0 {
					add(float64(at-s.tick)*s.dt, n*c.scale)
				}
			}
			if c.moves == nil {
				continue
			}
			// An entry that moves on has its state's timeout less the part that has passed.
			rule := f.States[j]
			for at := s.tick; at < s.size; at++ {
				if n := c.moves[at]; n > 0 {
					add(rule.Timeout-(rule.Lasts-float64(at-s.tick)*s.dt), n*c.scale)
				}
			}
		}
	}
	return alive
}

// Range is a prediction: what is most likely, and its bounds where the collector's phase or chance
// decides.
type Range struct {
	Outcome
	LowPeak, HighPeak float64
	// EarlyFull and LateFull bound FullAt. EarlyFull is NaN where no phase fills the table, and
	// LateFull where one does not.
	EarlyFull, LateFull float64
	LowDrop, HighDrop   float64
}

// phases is the number of phases that Simulate tries for a collector that may come at any time.
const phases = 16

// Simulate predicts what becomes of a table. Where the collector's phase is not known it tries
// several; the outcome is the one with the median peak.
func Simulate(in Input) Range {
	scans := []float64{}
	if in.Scan != nil {
		for _, off := range []float64{-1, 0, 1} {
			scans = append(scans, max(in.From, *in.Scan+off))
		}
	} else {
		for i := range phases {
			scans = append(scans, in.From+idleScan*(float64(i)+0.5)/phases)
		}
	}
	outcomes := make([]Outcome, len(scans))
	for i, scan := range scans {
		outcomes[i] = run(in, scan)
		if outcomes[i].Collected == 0 && i == 0 && in.Scan == nil && outcomes[i].Drop == 0 {
			// No scan had anything to do: its phase does not matter.
			outcomes = outcomes[:1]
			break
		}
	}
	return rangeOf(outcomes)
}

// At predicts what becomes of a table whose collector scans first at a time.
func At(in Input, scan float64) Range { return rangeOf([]Outcome{run(in, scan)}) }

func rangeOf(outcomes []Outcome) Range {
	full := func(o Outcome) float64 {
		if math.IsNaN(o.FullAt) {
			return math.Inf(1)
		}
		return o.FullAt
	}
	slices.SortStableFunc(outcomes, func(a, b Outcome) int {
		switch {
		case a.Peak != b.Peak:
			return int(math.Copysign(1, a.Peak-b.Peak))
		case full(a) != full(b):
			return int(math.Copysign(1, full(b)-full(a)))
		case a.Drop != b.Drop:
			return int(math.Copysign(1, a.Drop-b.Drop))
		}
		return 0
	})
	r := Range{Outcome: outcomes[len(outcomes)/2]}
	r.LowPeak, r.HighPeak = outcomes[0].Peak, outcomes[len(outcomes)-1].Peak
	r.EarlyFull, r.LateFull = math.Inf(1), 0
	r.LowDrop, r.HighDrop = math.Inf(1), 0
	for _, o := range outcomes {
		r.EarlyFull, r.LateFull = min(r.EarlyFull, full(o)), max(r.LateFull, full(o))
		r.LowDrop, r.HighDrop = min(r.LowDrop, o.Drop), max(r.HighDrop, o.Drop)
	}
	for _, at := range []*float64{&r.EarlyFull, &r.LateFull} {
		if math.IsInf(*at, 1) {
			*at = math.NaN()
		}
	}
	return r
}
