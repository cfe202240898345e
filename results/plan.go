package results

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"github.com/ctload/ctload/internal/kernels"
)

// Demand is the load of a [Plan]: what a table has to carry.
type Demand struct {
	Rate      float64 // new connections or flows per second
	Residence float64 // seconds from the first packet to the last, and the timeout that follows
	Held      int64   // entries open all the time beside those
	// Entries and Seconds bound the load; 0: unbounded. Entries without a rate come all at once.
	Entries int64
	Seconds float64
	// Fill is the share of max that the peak may take; 0: 0.75, where the first alert fires.
	Fill        float64
	Kernel      kernels.Version
	MemoryBytes int64 // MemTotal of the machine
	ObjectBytes int64 // size of an entry's slab object; 0: that of a current kernel
}

// Plan is the answer to a [Demand].
type Plan struct {
	Default       kernels.Size `json:"default"`        // the kernel's own default
	AtDefault     Prediction   `json:"at_default"`     // the load's effect there
	Folk          int64        `json:"folk_max"`       // result of the guides' formula
	Size          kernels.Size `json:"size"`           // carries the load
	AtSize        Prediction   `json:"at_size"`        // the load's effect there
	Memory        int64        `json:"memory"`         // bytes of a full table and hash, at Size
	DefaultMemory int64        `json:"default_memory"` // the same at Default
	MemoryPart    float64      `json:"memory_part"`    // of the machine's memory
	Sysctl        []string     `json:"sysctl"`         // for sysctl.d; none: the default suffices
	Notes         []string     `json:"notes"`          // reasons, in sentences
}

// MakePlan sizes the table for a load; a load without bounds goes on forever.
//
// The peak is that of [Predict] for a table without limit: it includes the expired entries that the
// kernel still counts, so it is more than rate x residence. Since those depend on the number of
// buckets, which follows from max, MakePlan raises the two together until they fit.
func MakePlan(d Demand) (Plan, error) {
	d.Fill = cmp.Or(d.Fill, 0.75)
	refused := ""
	switch {
	case d.Rate < 0 || d.Held < 0 || d.Residence < 0 || d.Entries < 0 || d.Seconds < 0:
		refused = "rate, residence and held entries cannot be negative"
	case d.Rate == 0 && d.Held == 0 && d.Entries == 0:
		refused = "there is no load, neither a rate nor held entries"
	case d.Rate > 0 && d.Residence == 0:
		refused = "a rate needs the residence of an entry"
	case d.Fill <= 0 || d.Fill > 1:
		refused = fmt.Sprintf("the fill %v is not a share above 0 and up to 1", d.Fill)
	case d.MemoryBytes <= 0:
		refused = "the memory of the machine is not known"
	}
	if refused != "" {
		return Plan{}, errors.New("planning a table: " + refused)
	}
	p := Plan{Default: kernels.DefaultSize(d.Kernel, d.MemoryBytes)}
	p.Folk, p.Size, p.AtDefault = kernels.FolkMax(d.MemoryBytes), p.Default, d.predict(p.Default)
	if p.AtDefault.Overflow > 0 || float64(p.AtDefault.Peak) > d.Fill*float64(p.Default.Max) {
		var err error
		if p.Size, err = d.size(); err != nil {
			return Plan{}, err
		}
	}
	p.AtSize = d.predict(p.Size)
	p.Memory, p.DefaultMemory = p.Size.Bytes(d.ObjectBytes), p.Default.Bytes(d.ObjectBytes)
	p.MemoryPart = float64(p.Memory) / float64(d.MemoryBytes)
	if p.Size != p.Default {
		p.Sysctl = sysctlLines(d.Kernel, p.Size)
	}
	p.Notes = planNotes(d, p)
	return p, nil
}

// predict predicts the load at a table of the given size.
func (d Demand) predict(size kernels.Size) Prediction {
	e := Expectation{
		Rate: d.Rate, Residence: d.Residence, Baseline: capped(d.Held, size.Max),
		Entries: d.Entries, Duration: d.Seconds,
		Max: size.Max, Buckets: size.Buckets, ObjectBytes: d.ObjectBytes,
	}
	p := Predict(e)
	p.Overflow += d.Held - e.Baseline
	return p
}

// size returns the smallest power of two that carries the load, with as many buckets.
func (d Demand) size() (kernels.Size, error) {
	for n := int64(1024); n <= math.MaxInt32; n *= 2 {
		free := d.predict(kernels.Size{Buckets: n})
		if float64(free.Peak) <= d.Fill*float64(n) {
			return kernels.Size{Max: n, Buckets: n}, nil
		}
	}
	return kernels.Size{}, fmt.Errorf("planning a table: %v/s for %v s and %d held entries need "+
		"more than %d entries, the most that the kernel takes",
		d.Rate, d.Residence, d.Held, math.MaxInt32)
}

// sysctlLines returns the lines that set a size. The number of buckets, a sysctl in the initial
// network namespace only, comes first, since raising max alone lengthens the chains.
func sysctlLines(v kernels.Version, size kernels.Size) []string {
	buckets := fmt.Sprintf("%s = %d", kernels.KeyBuckets, size.Buckets)
	if !v.HasBucketsKey() {
		buckets = fmt.Sprintf("# before 4.8 the hash is a module parameter: "+
			"echo %d > /sys/module/nf_conntrack/parameters/hashsize", size.Buckets)
	}
	return []string{buckets, fmt.Sprintf("%s = %d", kernels.KeyMax, size.Max)}
}

// planNotes explains the plan, and where the usual sources differ.
func planNotes(d Demand, p Plan) []string {
	var notes phrases
	own, a := "The kernel's own table of "+Entries(p.Default.Max)+" ", p.AtDefault
	switch {
	case p.Size == p.Default:
		notes.add("%scarries this: its peak is %s.", own, Count(a.Peak))
	case a.SecondsToFull != nil:
		notes.add("%sis full after %s s; it sustains %s new ones per second.",
			own, Figure(*a.SecondsToFull), Figure(a.Sustainable))
	case a.Overflow > 0 && d.Rate == 0 && d.Entries > 0:
		notes.add("%sdoes not hold the %s of this load. How fast they come is not known, so that "+
			"none is taken to expire meanwhile.", own, Count(d.Entries))
	case a.Overflow > 0:
		notes.add("%sdoes not hold the entries that are open all the time.", own)
	default:
		notes.add("%sis filled to %s.", own, Percent(fillOf(a.Peak, p.Default.Max)))
	}
	if expired := p.AtSize.Peak - p.AtSize.Alive; expired > p.AtSize.Alive/20 {
		notes.add("Of the peak of %s, %s have expired: the kernel counts them until a packet of a "+
			"new flow walks their bucket or the next garbage collection comes, up to a minute "+
			"later.", Entries(p.AtSize.Peak), Count(expired))
	}
	if share := RefusedShare(p.Default.Max, p.Default.Buckets); p.Size != p.Default {
		notes.add("At its limit the default table refuses %s of the new entries of an unanswered "+
			"flood (drop) and evicts for the others (early_drop); while all entries are ASSURED "+
			"it refuses all.", Percent(share))
	}
	notes = append(notes, sizingRule(d.Kernel, d.MemoryBytes), folkNote(d, p))
	if p.Size != p.Default {
		notes.add("Buckets are raised along with max: setting one does not change the other, and " +
			"long chains cost CPU time and from 5.15 on entries (chain_toolong).")
		notes.add("%s can be set in the initial network namespace only, and both only once "+
			"nf_conntrack is loaded: list the module in /etc/modules-load.d.", kernels.KeyBuckets)
	}
	return notes
}

// sizingRule words the rule of [kernels.DefaultSize] that a kernel follows with this much memory.
func sizingRule(v kernels.Version, memory int64) string {
	size := kernels.DefaultSize(v, memory)
	which, maximum := "up to 3.18", "max is 4 times that"
	if v.HasSecondStep() {
		which = "from 3.19 to 5.14"
	}
	if v.MaxIsBuckets() {
		which, maximum = "from 5.15 on", "max is equal to them"
	}
	rule := "memory / 16384 / 8, in whole pages of 512"
	switch {
	case memory > kernels.SecondStep && v.HasSecondStep():
		rule = "a fixed number above 4 GiB"
	case memory > kernels.FirstStep:
		rule = "a fixed number above 1 GiB"
	}
	return fmt.Sprintf("Kernel %s by itself makes %s buckets with %s of memory (kernels %s: %s), "+
		"and %s: %s.", v, Count(size.Buckets), Bytes(memory), which, rule, maximum, Count(size.Max))
}

// folkNote says what the formula of the guides gives, and why the kernel's default differs.
func folkNote(d Demand, p Plan) string {
	const formula = "The formula RAM / 16384 / (arch / 32), which guides quote for max, gives "
	small, step := d.MemoryBytes <= kernels.FirstStep, "1 GiB"
	if d.MemoryBytes > kernels.SecondStep && d.Kernel.HasSecondStep() {
		step = "4 GiB"
	}
	why := "above " + step + " the number of buckets is fixed, " +
		"and the formula grows with the memory"
	if small {
		why = "it allocates the hash in whole pages"
	}
	switch gives := formula + Count(p.Folk); {
	case p.Folk == p.Default.Max && small && !d.Kernel.MaxIsBuckets():
		return formula + "the same here: up to 1 GiB it is the rule of kernels before 5.15."
	case p.Folk == p.Default.Max:
		return formula + "the same here, by chance: " + why + "."
	case d.Kernel.MaxIsBuckets():
		return gives + ": it is the rule of kernels before 5.15 (max is 4 x buckets) " +
			"without their steps at 1 GiB and 4 GiB."
	default:
		return gives + ": the kernel makes " + Count(p.Default.Max) + ", since " + why + "."
	}
}

// Forecast is what the arithmetic alone says of a scenario, and a table that would carry its load.
type Forecast struct {
	Scenario string `json:"scenario"`
	Kernel   string `json:"kernel"` // version whose rules and defaults apply
	// Tracked tells whether the kernel will track anything of the load; if not, the rest is zero.
	Tracked    bool         `json:"tracked"`
	Table      kernels.Size `json:"table"` // as the scenario sets it, or the kernel's own
	Prediction Prediction   `json:"prediction"`
	Plan       *Plan        `json:"plan,omitempty"`   // carries the load; nil where none is needed
	Reason     string       `json:"reason,omitempty"` // why no table carries the load
}

// Fill returns the predicted peak as a share of max, 0 without a limit.
func (f Forecast) Fill() float64 { return fillOf(f.Prediction.Peak, f.Table.Max) }

// Expectation is what is known of a load and of the DUT before a trial. Times are in seconds.
type Expectation struct {
	// Entries is the number of entries that the load will ask for; 0: as many as fit into Duration.
	Entries  int64
	Rate     float64 // new entries per second; 0: unlimited (a closed loop)
	Duration float64 // of the load; 0: until all Entries were asked for, or forever
	// Residence is the life of an entry: from its first packet to its last, and the timeout then.
	Residence float64
	Baseline  int64 // entries before the load, which stay
	Max       int64 // 0: unlimited
	Buckets   int64
	// Assured tells that the entries become ASSURED, so that the kernel evicts none (early_drop).
	Assured     bool
	ObjectBytes int64 // size of an entry's slab object; 0: that of a current kernel
	// NextScan is the time from the start of the load to the kernel's next garbage collection; nil
	// stands for one that begins with the load and waits its longest ([idleScan]). The kernel scans
	// one second after the module was loaded, and then once a minute while idle.
	NextScan *float64
	Hertz    int // CONFIG_HZ, which enters the rounding of the scan interval; 0: 250
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
	if e.Rate > 0 && e.Residence > 0 {
		simulate(e, &p)
	} else { // the bound for an unknown rate: nothing expires while the load lasts
		want := e.Baseline + e.Entries
		p.Alive = capped(want, e.Max)
		p.Peak, p.Overflow = p.Alive, want-p.Alive
	}
	p.Drop = p.Overflow
	if !e.Assured && p.RefusedShare > 0 {
		p.Drop = int64(math.Round(p.RefusedShare * float64(p.Overflow)))
	}
	p.MemoryBytes = kernels.Size{Max: p.Peak, Buckets: e.Buckets}.Bytes(e.ObjectBytes)
	return p
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
				// Early drop searches earlyDropBuckets, and frees the expired entries there.
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

// earlyDropBuckets is the number of buckets that early drop searches (NF_CT_EVICTION_RANGE).
const earlyDropBuckets = 8

// RefusedShare returns the share of the new entries at a full table that the kernel refuses (drop)
// rather than admits for an evicted one (early_drop), when no entry is ASSURED: a SYN or unreplied
// UDP flood. The kernel searches 8 buckets, and evicts all entries of the first that holds any.
// With max entries in random buckets, each in two, a bucket holds 2 max / buckets on average, so
// all 8 are empty with probability exp(-16 max / buckets): never at max = buckets, mostly at 32
// buckets for each entry. ASSURED entries are never evicted: all is refused.
func RefusedShare(max, buckets int64) float64 {
	inBucket := 2 * float64(max) / float64(buckets)
	empty := math.Exp(-earlyDropBuckets * inBucket)
	evicted := inBucket / -math.Expm1(-inBucket) // by one search that finds any
	return empty / (empty + (1-empty)*evicted)
}

// idleScan is the time, in seconds, between two scans of an idle table (GC_SCAN_INTERVAL_MAX).
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
