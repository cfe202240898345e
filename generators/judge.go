package generators

import (
	"fmt"

	"github.com/ctload/ctload/generators/pacing"
)

// These shares decide whether a load was made as specified.
const (
	lateShare   = 0.01  // a larger share of late sends is worth a note
	missedShare = 0.005 // a larger share of slots given up is a limit
	busyShare   = 0.95  // a larger share of the workers' time on a CPU counts as busy
)

// unrelatedEntries is the number of entries that other traffic may add to the generator's own table.
const unrelatedEntries = 16

// descriptors returns how many descriptors the load may need at once, with some for the process.
func (p *plan) descriptors() uint64 {
	const others = 256
	return uint64(p.inFlight()) + others
}

// judge returns the generator's own limits that were hit, and remarks.
func (p *plan) judge(r Result) (limits []Limit, notes []string) {
	hit := func(code LimitCode, format string, args ...any) {
		limits = append(limits, Limit{code, fmt.Sprintf(format, args...)})
	}
	for _, own := range []struct {
		cause Cause
		code  LimitCode
		text  string
	}{
		{NoDescriptor, LimitDescriptors, fmt.Sprintf("%%d found none, the limit is %d", r.Usage.Descriptors)},
		{NoPort, LimitSourcePorts, "%d found none free for their destination"},
		{NoBuffer, LimitMemory, "%d found no room in this host's queues"},
		{EPERM, LimitNetfilter, "%d were dropped by this host's own rules or full table"},
	} {
		if n := r.Causes[string(own.cause)]; n > 0 {
			hit(own.code, own.text, n)
		}
	}
	if n := r.Usage.AnswersLost + r.Usage.RepliesUnsent; n > 0 {
		hit(LimitPackets, "%d answers found the own queue full, %d replies to answers were not taken", r.Usage.AnswersLost, r.Usage.RepliesUnsent)
	}
	if u := r.Usage; u.ConntrackBefore >= 0 && u.ConntrackPeak-u.ConntrackBefore > unrelatedEntries+r.Offered/100 {
		hit(LimitConntrack, "the generator's own table grew from %d to %d entries", u.ConntrackBefore, u.ConntrackPeak)
	}
	busy := r.Usage.Busy > busyShare
	// A send that leaves more than a millisecond late, but in its slot, makes the pacing less even;
	// the load is still as specified. A send later than the slack is given up, which is a limit.
	if late := r.LateShare(); late > lateShare {
		notes = append(notes, fmt.Sprintf("pacing: %.1f %% of the sends left more than %s late%s", 100*late, pacing.LateAfter, why(busy)))
	}
	if missed := share(r.Missed, r.Offered+r.Missed); missed > missedShare {
		hit(LimitPacing, "%d slots (%.1f %%) were given up%s", r.Missed, 100*missed, why(busy))
	}
	if p.Count == 0 && p.exhaustible() && uint64(r.Offered) == p.tuples.Len() {
		hit(LimitTuples, "exhausted before the time was over: %s", p.tuples.Describe())
	}
	if busy && !p.openLoop() {
		notes = append(notes, fmt.Sprintf("the workers were busy %.0f %% of the time: the rate may be the generator's, not the target's", 100*r.Usage.Busy))
	}
	if r.Tuples.Wrapped && p.namedTuples() {
		notes = append(notes, fmt.Sprintf("tuples were used again: %s, %d offered", p.tuples.Describe(), r.Offered))
	}
	return limits, notes
}

// namedTuples reports whether the spec names every part of the tuples.
func (p *plan) namedTuples() bool { return len(p.space.SourcePorts) > 0 }

func why(busy bool) string {
	if busy {
		return ", with the workers' CPUs busy"
	}
	return ""
}
