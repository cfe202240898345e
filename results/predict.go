package results

import (
	"math"

	"github.com/ctload/ctload/internal/kernels"
)

// Expectation is what is known of a load and of the DUT before a trial. Times are in seconds.
type Expectation struct {
	// Entries is the number of entries that the load will ask for; 0: as many as fit into Duration.
	Entries  int64
	Rate     float64 // new entries per second; 0: unlimited (a closed loop)
	Duration float64 // of the load; 0: until all Entries were asked for, or forever
	// Residence is the life of an entry: from its first packet to its last, plus the timeout after
	// that.
	Residence float64
	Baseline  int64 // entries before the load, which stay
	Max       int64 // 0: unlimited
	Buckets   int64
	// Assured tells that the entries become ASSURED, so that the kernel evicts none for a new one
	// (early_drop).
	Assured bool
	// ObjectBytes is the size of an entry's slab object in the kernel; 0 stands for that of a
	// current kernel.
	ObjectBytes int64
	// NextScan is the time from the start of the load to the kernel's next garbage collection; nil
	// stands for one that begins with the load and waits its longest ([idleScan]). The kernel scans
	// one second after the module was loaded, and then once a minute while idle.
	NextScan *float64
	// Hertz is the kernel's CONFIG_HZ, which enters the rounding of the scan interval; 0 stands for
	// 250.
	Hertz int
}

// Predict predicts what a load will do to the table.
//
// The number of living entries follows Little's law: rate x residence. The count that the kernel
// limits is higher, since it includes expired entries until something frees them: the walk of a
// bucket by a packet of an unknown flow, which frees all expired entries of that bucket, or the
// garbage collector, whose next scan comes after the mean remaining life of the entries and the
// bias of an idle kernel (from 5.19 and the stable kernels with the same fix; see scanInterval).
// With many buckets and short timeouts the expired entries outnumber the living.
//
// The simulation assumes even arrivals and random hashes. Without a rate it assumes that all
// entries are made at once, which is the upper bound.
func Predict(e Expectation) Prediction {
	p := Prediction{Rate: e.Rate, Residence: e.Residence}
	if e.Residence > 0 && e.Max > 0 {
		p.Sustainable = float64(e.Max) / e.Residence
	}
	if e.Max > 0 && e.Buckets > 0 {
		p.RefusedShare = RefusedShare(e.Max, e.Buckets)
	}
	switch {
	case e.Rate > 0 && e.Residence > 0:
		simulate(e, &p)
	default:
		atOnce(e, &p)
	}
	p.Drop = p.Overflow
	if !e.Assured && p.RefusedShare > 0 {
		p.Drop = int64(math.Round(p.RefusedShare * float64(p.Overflow)))
	}
	p.MemoryBytes = kernels.Size{Max: p.Peak, Buckets: e.Buckets}.Bytes(e.ObjectBytes)
	return p
}

// atOnce sets the bound for a load of unknown rate: nothing expires while it lasts.
func atOnce(e Expectation, p *Prediction) {
	want := e.Baseline + e.Entries
	p.Alive = capped(want, e.Max)
	p.Peak = p.Alive
	p.Overflow = want - p.Peak
}

// simulate follows the table through the load in small steps.
func simulate(e Expectation, p *Prediction) {
	duration := e.Duration
	if e.Entries > 0 && (duration <= 0 || float64(e.Entries)/e.Rate < duration) {
		duration = float64(e.Entries) / e.Rate
	}
	// After three lives and ten idle scans the table repeats itself.
	settled := 3*e.Residence + 10*idleScan
	if duration <= 0 {
		duration = settled
	}
	p.Alive = capped(e.Baseline+int64(math.Round(e.Rate*min(duration, e.Residence))), e.Max)

	horizon := min(duration, settled)
	step := max(0.01, min(horizon/100_000, e.Residence/100))
	steps := int(math.Ceil(horizon / step))
	life := max(1, int(math.Round(e.Residence/step)))
	admitted := make([]float64, steps)
	room := math.Inf(1)
	if e.Max > 0 {
		room = float64(e.Max - e.Baseline)
	}
	scan := idleScan
	if e.NextScan != nil {
		scan = *e.NextScan
	}
	var alive, expired, peak, overflow, overflowed float64
	for i := range steps {
		now := float64(i) * step
		offered := e.Rate * min(step, horizon-now)
		if i >= life {
			alive -= admitted[i-life]
			expired += admitted[i-life]
		}
		if now >= scan {
			expired = 0
			scan = now + scanInterval(alive, e.Residence, now, e.Hertz)
		}
		if e.Buckets > 0 {
			// Each new flow walks one bucket, and an entry is in two.
			expired *= math.Exp(-2 * offered / float64(e.Buckets))
		}
		admitted[i] = min(offered, max(0, room-alive-expired))
		if refused := offered - admitted[i]; refused > 0 {
			overflow += refused
			if p.SecondsToFull == nil {
				p.SecondsToFull = &now
			}
			if e.Buckets > 0 {
				// Early drop searches earlyDropBuckets of them, and also frees the expired entries
				// there.
				expired *= math.Exp(-2 * earlyDropBuckets * refused / float64(e.Buckets))
			}
		}
		alive += admitted[i]
		peak = max(peak, alive+expired)
		if now < horizon/2 {
			overflowed = overflow
		}
	}
	// The overflow continues as in the second half.
	overflow += (overflow - overflowed) / (horizon / 2) * (duration - horizon)
	p.Peak = capped(e.Baseline+int64(math.Round(peak)), e.Max)
	p.Overflow = int64(math.Round(overflow))
}

func capped(n, limit int64) int64 {
	if limit > 0 {
		return min(n, limit)
	}
	return n
}

// earlyDropBuckets is how many buckets the kernel searches for an entry to evict
// (NF_CT_EVICTION_RANGE).
const earlyDropBuckets = 8

// RefusedShare returns the share of the new entries at a full table that the kernel refuses (drop)
// rather than admits in place of an evicted one (early_drop), when no entry is ASSURED: a SYN or
// unreplied UDP flood. The kernel searches 8 buckets, and evicts all entries of the first that
// holds any. With max entries in random buckets, each in two, a bucket holds 2 max / buckets on
// average, so all 8 are empty with probability exp(-16 max / buckets). With max equal to buckets
// nothing is refused; with 32 buckets for each entry, most is. ASSURED entries are never evicted:
// all is refused.
func RefusedShare(max, buckets int64) float64 {
	inBucket := 2 * float64(max) / float64(buckets)
	empty := math.Exp(-earlyDropBuckets * inBucket)
	evicted := inBucket / -math.Expm1(-inBucket) // by one search that finds any
	return empty / (empty + (1-empty)*evicted)
}

// idleScan is how many seconds the kernel waits between two scans of an idle table
// (GC_SCAN_INTERVAL_MAX).
const idleScan = 60.0

// scanInterval returns how many seconds the kernel waits from the scan of a table to the next.
// alive entries, each of which lives for residence seconds, were made evenly over the last span
// seconds.
//
// gc_worker keeps a running mean of the entries' remaining timeouts in whole jiffies. It starts as
// if 100 entries had 60 s left, visits each entry twice (both directions are in the hash), and
// stops moving when the difference is smaller than the number of entries visited, since the
// division truncates. At 250 Hz that leaves it about 5 s above the true mean.
func scanInterval(alive, residence, span float64, hertz int) float64 {
	span = min(span, residence)
	if alive < 1 || residence-span/2 >= idleScan {
		return idleScan
	}
	if hertz <= 0 {
		hertz = 250
	}
	hz := float64(hertz)
	most, least := residence*hz, max(1, residence-span)*hz
	mean, met := math.Trunc(idleScan*hz), 100.0
	// Entries come in the order of their hashes: the golden ratio's multiples mix their ages.
	at := 0.0
	for left := 2 * alive; left >= 1 && met < max(mean-least, most-mean); left-- {
		if at += math.Phi - 1; at >= 1 {
			at--
		}
		remains := math.Trunc(max(hz, most-at*span*hz))
		met++
		mean += math.Trunc((remains - mean) / met)
	}
	return min(idleScan, max(1, mean/hz))
}
