package results

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/occupancy"
)

// Demand is the load of a [Plan], and the machine that has to carry it.
type Demand struct {
	Offer Offer
	// Fill is the share of max that the peak may take; 0: 0.75, where the first alert fires.
	Fill        float64
	Kernel      kernels.Version
	MemoryBytes int64 // MemTotal of the machine
	ObjectBytes int64 // size of an entry's slab object; 0: that of a current kernel
	// Given is the table to judge; a zero field is the kernel's own.
	Given kernels.Size
}

// Offer is a load that a plan sizes a table for.
type Offer interface {
	// Predict predicts the load's effect on a table of the given size; Max 0: without limit.
	Predict(size kernels.Size) Prediction
	// Shorter returns the load with all timeouts multiplied by a factor; nil where it cannot.
	Shorter(factor float64) Offer
	// Words names the load: "2000/s for 120 s".
	Words() string
}

// Plan is the answer to a [Demand].
type Plan struct {
	Default   kernels.Size `json:"default"`    // the kernel's own default
	AtDefault Prediction   `json:"at_default"` // the load's effect there
	// Given is the table that was asked about, as the kernel rounds it; nil without one.
	Given         *kernels.Size `json:"given,omitempty"`
	AtGiven       *Prediction   `json:"at_given,omitempty"`     // the load's effect there
	Folk          int64         `json:"folk_max"`               // result of the guides' formula
	Size          kernels.Size  `json:"size"`                   // carries the load
	AtSize        Prediction    `json:"at_size"`                // the load's effect there
	Memory        int64         `json:"memory"`                 // bytes of a full table, at Size
	DefaultMemory int64         `json:"default_memory"`         // the same at Default
	GivenMemory   int64         `json:"given_memory,omitempty"` // the same at Given
	MemoryPart    float64       `json:"memory_part"`            // of the machine's memory
	// Shorter is the factor for all timeouts with which the present table would carry the load; 0:
	// it carries it, or no timeout helps.
	Shorter float64  `json:"shorter,omitempty"`
	Sysctl  []string `json:"sysctl"` // for sysctl.d; none: the present table suffices
	Notes   []string `json:"notes"`  // reasons, in sentences
}

// bucketMultiple is the number of buckets in a page of 4 KiB. The kernel's hash fills whole pages.
const bucketMultiple = 512

// largestBuckets is the most buckets that the kernel takes and that fill whole pages.
const largestBuckets = kernels.LargestBuckets / bucketMultiple * bucketMultiple

// MakePlan sizes the table for a load; a load without bounds goes on forever.
//
// The peak is that of a simulation with a table without limit: it includes the expired entries that
// the kernel still counts, so it is more than rate x residence. Since those depend on the number of
// buckets, which follows from max, MakePlan raises the two together until they fit.
func MakePlan(d Demand) (Plan, error) {
	d.Fill = cmp.Or(d.Fill, 0.75)
	refused := ""
	switch {
	case d.Fill <= 0 || d.Fill > 1:
		refused = fmt.Sprintf("the fill %v is not a share above 0 and up to 1", d.Fill)
	case d.MemoryBytes <= 0:
		refused = "the memory of the machine is not known"
	case d.Given.Max > math.MaxInt32:
		refused = fmt.Sprintf("nf_conntrack_max is at most %d, not %d",
			math.MaxInt32, d.Given.Max)
	case d.Given.Buckets > largestBuckets:
		refused = fmt.Sprintf("nf_conntrack_buckets is at most %d (INT_MAX / 8, in whole "+
			"pages), not %d", int64(largestBuckets), d.Given.Buckets)
	}
	if refused != "" {
		return Plan{}, errors.New("planning a table: " + refused)
	}
	p := Plan{Default: kernels.DefaultSize(d.Kernel, d.MemoryBytes)}
	p.Folk, p.AtDefault = kernels.FolkMax(d.MemoryBytes), d.Offer.Predict(p.Default)
	p.DefaultMemory = p.Default.Bytes(d.ObjectBytes)
	if d.Given != (kernels.Size{}) {
		buckets := cmp.Or(d.Given.Buckets, p.Default.Buckets)
		given := kernels.Size{
			Max:     cmp.Or(d.Given.Max, p.Default.Max),
			Buckets: kernels.RoundBuckets(buckets, bucketMultiple),
		}
		at := d.Offer.Predict(given)
		p.Given, p.AtGiven, p.GivenMemory = &given, &at, given.Bytes(d.ObjectBytes)
	}
	present, at := p.Present()
	p.Size, p.AtSize = present, at
	if !d.carries(at, present) {
		var err error
		if p.Size, err = d.size(); err != nil {
			return Plan{}, err
		}
		p.AtSize, p.Shorter = d.Offer.Predict(p.Size), d.shorter(present)
		p.Sysctl = sysctlLines(d.Kernel, p.Size)
	}
	p.Memory = p.Size.Bytes(d.ObjectBytes)
	p.MemoryPart = float64(p.Memory) / float64(d.MemoryBytes)
	p.Notes = planNotes(d, p)
	return p, nil
}

// Present returns the table that the machine has: the given one, or the kernel's own.
func (p Plan) Present() (kernels.Size, Prediction) {
	if p.Given != nil {
		return *p.Given, *p.AtGiven
	}
	return p.Default, p.AtDefault
}

func (d Demand) carries(at Prediction, size kernels.Size) bool {
	return at.Overflow == 0 && at.SecondsToFull == nil &&
		float64(at.PeakHigh) <= d.Fill*float64(size.Max)
}

// size returns the smallest power of two that carries the load, with as many buckets as the kernel
// takes.
func (d Demand) size() (kernels.Size, error) {
	for n := int64(1024); n <= 1<<31; n *= 2 {
		size := kernels.Size{Max: min(n, math.MaxInt32), Buckets: min(n, largestBuckets)}
		free := d.Offer.Predict(kernels.Size{Buckets: size.Buckets})
		if float64(free.PeakHigh) <= d.Fill*float64(size.Max) {
			return size, nil
		}
		// The living do not depend on the number of buckets.
		for float64(2*n)*d.Fill < float64(free.Alive) {
			n *= 2
		}
	}
	return kernels.Size{}, fmt.Errorf("planning a table: %s need more than %d entries, the most "+
		"that the kernel takes", d.Offer.Words(), math.MaxInt32)
}

// shorter returns the largest factor for all timeouts with which a table carries the load, in steps
// of a hundredth; 0: none does.
func (d Demand) shorter(size kernels.Size) float64 {
	low, high := 0, 100
	for high-low > 1 {
		mid := (low + high) / 2
		offer := d.Offer.Shorter(float64(mid) / 100)
		if offer == nil {
			return 0
		}
		if d.carries(offer.Predict(size), size) {
			low = mid
		} else {
			high = mid
		}
	}
	return float64(low) / 100
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
	present, at := p.Present()
	own := "The kernel's own table of " + Entries(present.Max) + " "
	if p.Given != nil {
		own = "The given table of " + Entries(present.Max) + " "
	}
	switch {
	case p.Size == present:
		notes.add("%scarries this: its peak is %s.", own, Count(at.Peak))
	case at.SecondsToFull != nil && *at.SecondsToFull == 0:
		notes.add("%sis full with the entries that are open all the time.", own)
	case at.SecondsToFull != nil:
		notes.add("%sis full after %s s; it sustains %s new ones per second.",
			own, Figure(*at.SecondsToFull), Figure(at.Sustainable))
	case at.Overflow > 0:
		notes.add("%sdoes not hold the %s of this load. How fast they come is not known.",
			own, Count(at.Alive+at.Overflow))
	default:
		notes.add("%sis filled to %s.", own, Percent(fillOf(at.PeakHigh, present.Max)))
	}
	if d.Given.Buckets > 0 && present.Buckets != d.Given.Buckets {
		notes.add("The kernel makes %s buckets of %s: it allocates the hash in whole pages of %d.",
			Count(present.Buckets), Count(d.Given.Buckets), bucketMultiple)
	}
	if note := cmp.Or(p.AtSize.NATNote(), at.NATNote()); note != "" {
		notes = append(notes, note)
	}
	if expired := p.AtSize.Peak - p.AtSize.Alive; expired > p.AtSize.Alive/20 {
		notes.add("Of the peak of %s, %s have expired: the kernel counts them until a packet of a "+
			"new flow walks their bucket or the next garbage collection comes, up to a minute "+
			"later.", Entries(p.AtSize.Peak), Count(expired))
	}
	if float64(p.AtSize.PeakHigh) > 1.01*float64(p.AtSize.PeakLow) {
		notes.add("The peak is between %s and %s: the time of the next garbage collection, or the "+
			"pace of the load, decides.", Count(p.AtSize.PeakLow), Entries(p.AtSize.PeakHigh))
	}
	if p.Shorter > 0 {
		notes.add("Without a larger table, shorter timeouts would do: %s.",
			d.Offer.Shorter(p.Shorter).Words())
	}
	if share := occupancy.RefusedShare(present.Max, present.Buckets); p.Size != present {
		notes.add("At its limit the present table refuses %s of the new entries of an unanswered "+
			"flood (drop) and evicts for the others (early_drop); while all entries are ASSURED "+
			"it refuses all.", Percent(share))
	}
	if p.Given != nil {
		notes = append(notes, d.memoryNotes("The given table", *p.Given)...)
	}
	if p.Size != present {
		notes = append(notes, d.memoryNotes("The table for this load", p.Size)...)
	}
	notes = append(notes, sizingRule(d.Kernel, d.MemoryBytes), folkNote(d, p))
	if p.Size.Buckets < p.Size.Max && p.Size != present {
		notes.add("The kernel takes no more than %s buckets (INT_MAX / 8).", Count(largestBuckets))
	}
	if p.Size != present {
		notes.add("Buckets are raised along with max: setting one does not change the other, and " +
			"long chains cost CPU time and from 5.15 on entries (chain_toolong).")
		notes.add("%s can be set in the initial network namespace only, and both only once "+
			"nf_conntrack is loaded: list the module in /etc/modules-load.d.", kernels.KeyBuckets)
	}
	return notes
}

// memoryNotes says where a table does not fit the memory of the machine, and which one does. Only a
// full table takes it all; the hash takes its part at once.
func (d Demand) memoryNotes(which string, size kernels.Size) (notes phrases) {
	full, hash := size.Bytes(d.ObjectBytes), kernels.Size{Buckets: size.Buckets}.Bytes(0)
	switch half := d.MemoryBytes / 2; {
	case hash > half:
		notes.add("%s does not fit: its hash alone takes %s of the %s of memory.",
			which, Bytes(hash), Bytes(d.MemoryBytes))
	case full > d.MemoryBytes:
		notes.add("%s does not fit: full, it takes %s, and the machine has %s.",
			which, Bytes(full), Bytes(d.MemoryBytes))
	case full > half:
		notes.add("%s takes %s of the machine's memory when it is full.",
			which, Percent(float64(full)/float64(d.MemoryBytes)))
		return notes
	default:
		return nil
	}
	fits := int64(bucketMultiple)
	for (kernels.Size{Max: 2 * fits, Buckets: 2 * fits}).Bytes(d.ObjectBytes) <= d.MemoryBytes/2 {
		fits *= 2
	}
	most := kernels.Size{Max: fits, Buckets: fits}
	words := fmt.Sprintf("%s in as many buckets take half of the memory at most", Entries(fits))
	switch factor := d.shorter(most); {
	case d.carries(d.Offer.Predict(most), most):
		words += ", and carry this load"
	case factor > 0:
		words += "; with shorter timeouts they would do: " + d.Offer.Shorter(factor).Words()
	}
	return append(notes, words+".")
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

// Forecast holds a scenario's predicted figures, from arithmetic alone, and a table that would
// carry its load.
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
