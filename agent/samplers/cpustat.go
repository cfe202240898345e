package samplers

import (
	"github.com/ctload/ctload/results"
)

// The per-CPU counters of connection tracking, numbered as in enum ctattr_stats_cpu of
// include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	// Always 0 since Linux 4.10, as are new, ignore, delete and delete_list in current kernels.
	statSearched      = 1
	statFound         = 2
	statNew           = 3
	statInvalid       = 4
	statIgnore        = 5
	statDelete        = 6
	statDeleteList    = 7
	statInsert        = 8 // only entries made through netlink: not the rate of new connections
	statInsertFailed  = 9
	statDrop          = 10
	statEarlyDrop     = 11
	statError         = 12
	statSearchRestart = 13
	statClashResolve  = 14 // Linux 5.10
	statChainTooLong  = 15 // Linux 5.15
	statCount         = 16
)

// conntrackCounters maps the kernel's numbers to the fields of results.Counters.
var conntrackCounters = map[int]results.Counter[results.Counters]{
	statDrop: results.Named("drop"), statEarlyDrop: results.Named("early_drop"), statInsertFailed: results.Named("insert_failed"),
	statChainTooLong: results.Named("chain_toolong"), statClashResolve: results.Named("clash_resolve"),
	statInvalid: results.Named("invalid"), statFound: results.Named("found"),
	statSearchRestart: results.Named("search_restart"), statError: results.Named("error"),
}

// cpuStat holds one CPU's counters; the kernel's are 32 bits wide and wrap.
type cpuStat struct {
	cpu    int
	values [statCount]uint32
}

// reading holds the counters of all possible CPUs at one instant.
type reading struct {
	cpus []cpuStat
	have [statCount]bool // which counters this kernel has
}

// accumulator turns readings into sums since a baseline that do not wrap.
type accumulator struct {
	last   map[int][statCount]uint32
	sum    [statCount]int64
	have   [statCount]bool
	resets int64 // falls of a counter without a wrap: the module was reloaded
}

// baseline makes this reading zero. After a nil reading (connection tracking not loaded) the first
// later one counts in full, since the kernel starts at zero.
func (a *accumulator) baseline(r *reading) {
	*a = accumulator{last: map[int][statCount]uint32{}}
	if r == nil {
		return
	}
	a.have = r.have
	for _, c := range r.cpus {
		a.last[c.cpu] = c.values
	}
}

// add accounts for a reading. Between two readings a counter may wrap once: at ten readings a
// second that takes 20 thousand million events a second on one CPU.
func (a *accumulator) add(r *reading) {
	a.have = r.have
	for _, c := range r.cpus {
		last := a.last[c.cpu] // all zero for a new CPU
		for i, value := range c.values {
			step := value - last[i] // modulo 2^32
			if step > 1<<31 {
				// The counter fell. No kernel counts 2^31 events between two readings: it restarted
				// at zero.
				step = value
				a.resets++
			}
			a.sum[i] += int64(step)
		}
		a.last[c.cpu] = c.values
	}
}

// forget notes that the module has gone.
func (a *accumulator) forget() { clear(a.last) }

func (a *accumulator) counters() results.Counters {
	var all results.Counters
	for i, counter := range conntrackCounters {
		*counter.In(&all) = a.sum[i]
	}
	return all
}

// absent returns the names of the counters that this kernel does not keep, so that readers do not
// take their zeros for measurements.
func (a *accumulator) absent() []string {
	var names []string
	for i := range a.have {
		if counter, ok := conntrackCounters[i]; ok && !a.have[i] {
			names = append(names, counter.Name)
		}
	}
	return names
}
