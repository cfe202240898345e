package results

import (
	"fmt"
	"math"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/occupancy"
)

// PredictionOf gives simulations of one load as a prediction: the middle one, with the range of
// all. There are several where the pace of the load or the moment of an action is not known. A Max
// of 0 is a table without limit, ports are those that NAT has for the load.
func PredictionOf(ranges []occupancy.Range, size kernels.Size, ports int64) Prediction {
	mid := ranges[len(ranges)/2]
	round := func(x float64) int64 { return int64(math.Round(x)) }
	p := Prediction{
		Peak: round(mid.Peak), PeakLow: round(mid.LowPeak), PeakHigh: round(mid.HighPeak),
		Drop: round(mid.Drop), DropLow: round(mid.LowDrop), DropHigh: round(mid.HighDrop),
		Alive: round(mid.Outcome.Alive), Overflow: round(mid.Overflow),
		EarlyDrop: round(mid.EarlyDrop), NATRefused: round(mid.Portless),
	}
	full := func(at float64) *float64 {
		if math.IsNaN(at) {
			return nil
		}
		return &at
	}
	p.SecondsToFull = full(mid.FullAt)
	p.FullEarly, p.FullLate = full(mid.EarlyFull), full(mid.LateFull)
	for _, r := range ranges {
		p.PeakLow = min(p.PeakLow, round(r.LowPeak))
		p.PeakHigh = max(p.PeakHigh, round(r.HighPeak))
		p.DropLow = min(p.DropLow, round(r.LowDrop))
		p.DropHigh = max(p.DropHigh, round(r.HighDrop))
		early, late := full(r.EarlyFull), full(r.LateFull)
		if early != nil && (p.FullEarly == nil || *early < *p.FullEarly) {
			p.FullEarly = early
		}
		if late == nil || p.FullLate != nil && *late > *p.FullLate {
			p.FullLate = late
		}
	}
	// Which buckets hold an entry that can be evicted is chance: three standard deviations.
	if searches := mid.Drop + mid.EarlyDrop; mid.EarlyDrop > 0 && mid.Drop > 0 {
		share := min(1, mid.Drop/searches)
		chance := round(3 * math.Sqrt(searches*share*(1-share)))
		p.DropLow, p.DropHigh = max(0, p.DropLow-chance), p.DropHigh+chance
	}
	if p.NATRefused > 0 {
		p.NATShare, p.NATPorts = mid.Portless/mid.Begun, ports
	}
	if size.Max > 0 && size.Buckets > 0 {
		p.RefusedShare = occupancy.RefusedShare(size.Max, size.Buckets)
	}
	p.MemoryBytes = kernels.Size{Max: p.Peak, Buckets: size.Buckets}.Bytes(0)
	for _, m := range mid.Counts {
		p.Counts = append(p.Counts, PredictedCount{
			Seconds: math.Round(m.Seconds*1000) / 1000, Count: round(m.Count),
		})
	}
	p.Counts = straightened(p.Counts, max(1, 0.01*mid.Peak))
	return p
}

// straightened leaves out the points of a curve that lie within off of the straight lines between
// those that stay (Ramer 1972, Douglas and Peucker 1973).
func straightened(curve []PredictedCount, off float64) []PredictedCount {
	if len(curve) < 3 {
		return curve
	}
	first, last := curve[0], curve[len(curve)-1]
	farthest, most := 0, off
	for i, p := range curve[1 : len(curve)-1] {
		share := (p.Seconds - first.Seconds) / (last.Seconds - first.Seconds)
		line := float64(first.Count) + share*float64(last.Count-first.Count)
		if d := math.Abs(float64(p.Count) - line); d > most {
			farthest, most = i+1, d
		}
	}
	if farthest == 0 {
		return []PredictedCount{first, last}
	}
	before := straightened(curve[:farthest+1], off)
	return append(before, straightened(curve[farthest:], off)[1:]...)
}

// Describe adds figures of the load alone: its rate, 0 where the answers set its pace, the mean
// life of its entries, and the rate that the room of a table sustains.
func (p *Prediction) Describe(rate, residence float64, room int64, paced bool) {
	p.Rate, p.Residence = rate, residence
	if residence > 0 {
		p.Sustainable = math.Max(0, float64(room)) / residence
	}
	if !paced {
		p.SecondsToFull = nil // only the range is known
	}
}

// Chance widens the range by three standard deviations of a number of entries that come and go
// independently of each other: of a Poisson distribution. The limit is max, 0 without one.
func (p *Prediction) Chance(limit int64) {
	off := 3 * math.Sqrt(float64(p.Alive))
	p.PeakLow = max(0, p.PeakLow-int64(off))
	if p.PeakHigh += int64(off); limit > 0 {
		p.PeakHigh = min(p.PeakHigh, limit)
	}
	if p.FullEarly != nil && p.Rate > 0 {
		p.FullEarly = new(max(0, *p.FullEarly-off/p.Rate))
	}
	if p.FullLate != nil && p.Rate > 0 {
		p.FullLate = new(*p.FullLate + off/p.Rate)
	}
}

// NATNote words that NAT has fewer ports than the load needs; empty where it has enough.
func (p Prediction) NATNote() string {
	if p.NATShare == 0 {
		return ""
	}
	lost := Percent(p.NATShare) + " of the new connections"
	if p.NATRefused > 0 {
		lost = plural(p.NATRefused, "new connection")
	}
	return fmt.Sprintf("NAT has %s source ports towards the destinations of this load (1024 to "+
		"65535 for each address, where no rule names others): %s get none (insert_failed and "+
		"drop). A larger table does not help; more addresses, more ports or a shorter timeout do.",
		Count(p.NATPorts), lost)
}

// uncertain reports whether the prediction of the peak is a range.
func (p Prediction) uncertain() bool { return p.PeakHigh > p.PeakLow }

// Expects reports whether a measured peak agrees with the prediction: within a tenth, or in the
// range.
func (p Prediction) Expects(peak int64) bool {
	return p.PeakLow <= peak && peak <= p.PeakHigh ||
		math.Abs(float64(peak-p.Peak)) <= 0.1*float64(p.Peak)
}
