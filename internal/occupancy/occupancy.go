// Package occupancy simulates one table of connection tracking under any number of arrival streams:
// how many entries it counts at each moment, when it is full, what the kernel then refuses (drop)
// and evicts (early_drop). It has no clock, no randomness and no I/O: equal inputs give equal
// outcomes.
//
// The simulation moves in ticks and handles amounts of entries, not single ones, so that ten
// minutes at 100,000 arrivals a second take milliseconds. Where chance decides, it takes the
// expectation; [Simulate] repeats it over the phases that the kernel's garbage collector may have.
//
// The model follows net/netfilter/nf_conntrack_core.c of Linux 6.1 to 6.18. Each fact names its
// floor. Older kernels differ in when they collect garbage: from 2.6 to 4.8 each entry had a timer
// of its own and was gone when it expired; from 4.9 to 5.13, and 5.14 to 5.18, the collector had
// other intervals.
package occupancy

import "math"

// Class tells how the kernel may remove an entry to make room for another one.
type Class int

// The classes, the safest last.
const (
	// Evictable entries are not ASSURED: early_drop removes them for a new entry (since 2.6).
	Evictable Class = iota
	// Closing entries are ASSURED and of TCP in FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT or CLOSE.
	// The collector removes them, and evictable ones, while the table is 95 % full, once it has
	// refused an entry (since 4.11, tcp_can_early_drop).
	Closing
	// Kept entries stay until they expire.
	Kept
)

// State is a part of an entry's life. Times are in seconds.
type State struct {
	Name string // as /proc/net/nf_conntrack spells it; for filters
	// Timeout is the time, in seconds, that the entry lives after its last packet. Changes of the
	// sysctl hold for entries that enter the state after them.
	Timeout float64
	// Lasts is the mean time until a packet moves the entry to its next state; 0: none does. An
	// entry whose timeout is shorter expires first, and later packets make no new one.
	Lasts float64
	// Spread holds quantiles of that time, each for an equal part of the entries; nil: it is Lasts
	// for all.
	Spread []float64
	Class  Class
}

// Refusal says how rules refuse flows.
type Refusal int

// The ways. A sender repeats what was dropped, and nothing that was rejected.
const (
	Accepted Refusal = iota
	Dropped
	Rejected
)

// Stream is a part of the load: flows that are alike.
type Stream struct {
	Name string
	// Arrivals returns how many flows have begun before a time, in seconds. It never decreases.
	Arrivals func(t float64) float64
	// States are the states of each entry, in order; empty: the flows make no entries.
	States []State
	// Refusal says that a rule behind tracking refuses the flows: they make no entries, yet each
	// packet needs room in the table before it meets the rule.
	Refusal Refusal
	// Retries are the times from a flow's first packet to each repetition while the kernel refuses
	// its entry, ascending, as those of a SYN.
	Retries []float64
	// Packets is the number of packets that each attempt of a flow sends. The kernel refuses all of
	// them with its entry; 0 stands for one.
	Packets float64
	// Tuples is the number of different tuples of the flows; 0: each flow has its own. A flow on a
	// tuple that has an entry takes that over.
	Tuples int64
	// Walk is the number of a walk through tuples, from 1, that streams take in the same order: a
	// flow on a tuple that has an entry of any of them takes that over. 0: no other stream has the
	// tuples.
	Walk int
	// Pool is the number of the [Input.Pools] from which each entry takes a port, from 1; 0: none.
	Pool int
	// Talks is the time, in seconds, between two sends of an open connection; 0: it is silent. One
	// that talks makes a new entry where its own was removed (nf_conntrack_tcp_loose, for TCP).
	Talks float64
	// Walks is the number of buckets that the kernel searches for each flow, besides finding its
	// entry; 0 stands for one, that of the first packet. NAT searches another one for a free tuple.
	Walks float64
}

// Change describes a change of the table or of the load at a time.
type Change struct {
	At float64 // seconds
	// When, where it is not nil, makes the change wait for the first moment at which it holds, and
	// At seconds more. It is asked ten times a second, as a trial samples.
	When func(Moment) bool

	Max, Buckets int64 // new sizes; 0: as before
	// Remove returns the share of a stream's entries in a state that are removed; nil: none.
	Remove func(stream, state int) float64
	// Streams replaces what holds for later arrivals, and for entries that enter a state later, by
	// the index of the stream.
	Streams map[int]Update
	// Joins starts streams, whose arrivals count from this moment.
	Joins []int
}

// Update is new behaviour of a stream.
type Update struct {
	States    []State // as many as before; nil: as before
	Untracked bool    // later flows make no entries
	Refusal   Refusal // by rules
	Pool      int
}

// Moment is the state of a simulated table at a time.
type Moment struct {
	Seconds                  float64
	Count, Max, Buckets      float64
	Drop, EarlyDrop, Refused float64 // since the start
	DropPerS, EarlyDropPerS  float64 // over the last second; for [Change.When] alone
}

// Input is a table and its load. Times are in seconds from the start of the load.
type Input struct {
	Max     int64 // entries; 0: no limit (kernels before 6.19)
	Buckets int64
	Held    float64 // entries that are there already and stay
	Streams []Stream
	Changes []Change // by time
	// Waits are the indices of the streams that a change joins.
	Waits []int
	Pools []int64 // ports that NAT may use, each for one destination or several
	From  float64 // where the simulation starts: at most 0
	Until float64 // where it ends
	// Grace bounds the time that it goes on while refused flows wait for their repetitions.
	Grace float64
	// Scan is the time of the collector's next scan; nil: it comes within a minute from From, and
	// nothing tells when.
	Scan *float64
	// Hertz is the kernel's CONFIG_HZ; 0 stands for 250.
	Hertz int
	// Points is the number of points of the count to keep, evenly spaced; 0: none.
	Points int
}

// Outcome holds the results of a simulation.
type Outcome struct {
	Peak  float64 // highest count
	Alive float64 // highest number of entries that have not expired
	// FullAt is the first second at which the count reaches max; NaN: never.
	FullAt    float64
	Arrived   float64 // attempts of flows that are tracked, retries included
	Admitted  float64 // attempts that made an entry
	Renewed   float64 // attempts that took over an entry
	Drop      float64 // packets that the kernel refused, for the table or for its NAT
	Refused   float64 // part of Drop: NAT found no port
	Begun     float64 // flows that are tracked
	Portless  float64 // part of Begun: those that found no port at first
	Overflow  float64 // flows that found the table full at first, evicting ones included
	EarlyDrop float64 // entries that a new one evicted
	Collected float64 // entries that expired and were freed, or that the collector removed
	Removed   float64 // entries that changes removed
	Final     float64 // count at the end
	// Lost is the part of all flows that got no entry at any attempt.
	Lost   float64
	Counts []Moment // over time, where Input.Points asks for them
}

// evictionRange is the number of buckets that the kernel searches for an entry to evict, since
// 2.6.24 (NF_CT_EVICTION_RANGE).
const evictionRange = 8

// RefusedShare returns the share of the new entries at a full table that the kernel refuses (drop)
// rather than admits in place of an evicted one (early_drop), when no entry is ASSURED: a SYN or
// unreplied UDP flood. The kernel searches 8 buckets, and evicts all entries of the first that
// holds any. With max entries in random buckets, each in two, a bucket holds 2 max / buckets on
// average, so all 8 are empty with probability exp(-16 max / buckets). With max equal to buckets
// nothing is refused; with 32 buckets for each entry, most is. ASSURED entries are never evicted:
// all is refused.
func RefusedShare(max, buckets int64) float64 {
	empty, evicted := eviction(float64(max), float64(buckets))
	return empty / (empty + (1-empty)*evicted)
}

// eviction returns the probability that early_drop finds nothing among evictable entries, and how
// many it evicts on average where it finds any.
func eviction(evictable, buckets float64) (empty, evicted float64) {
	if evictable <= 0 || buckets <= 0 {
		return 1, 1
	}
	inBucket := 2 * evictable / buckets
	return math.Exp(-evictionRange * inBucket), inBucket / -math.Expm1(-inBucket)
}
