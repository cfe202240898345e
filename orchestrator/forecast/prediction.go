package forecast

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/rules"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// Predict says before the load what it will do to the table, from the workload and from the
// kernel's reported settings. age is the time since nf_conntrack was loaded: its garbage collector
// scans one second after that, and every minute while the table is idle.
func Predict(
	entries []wiring.Assignment, before tuning.State, dut scenarios.Configuration,
	age time.Duration,
) *results.Prediction {
	load, probes := flowsOf(entries, before, dut)
	both := load.with(probes)
	scan := math.Mod(61-math.Mod(age.Seconds(), 60), 60)
	p := results.Predict(results.Expectation{
		Max: before.Max, Buckets: before.Buckets, Baseline: max(0, before.Count), NextScan: &scan,
		Entries: load.count + probes.count, Rate: both.rate, Residence: both.residence(),
		Duration: load.seconds, Assured: 2*load.assured > load.count,
	})
	// Rate and life describe the load alone; a bystander changes the table, not the question.
	p.Rate, p.Residence = load.rate, load.residence()
	if p.Sustainable = 0; p.Residence > 0 {
		p.Sustainable = float64(before.Max) / p.Residence
	}
	return &p
}

// flows describes the load that a part of a workload puts on a table.
type flows struct {
	count   int64
	rate    float64 // new ones per second; 0: not known, since answers set the pace
	seconds float64 // until the last one begins; 0: not known
	lives   float64 // sum of their lives in seconds, weighted
	weights float64
	assured int64 // part of count whose entries become ASSURED
}

func (f *flows) add(rate, life, seconds float64, count int64) {
	f.count += count
	f.rate += rate
	f.seconds = max(f.seconds, seconds)
	f.lives += max(rate, 1) * life
	f.weights += max(rate, 1)
}

// residence returns the mean life in seconds, weighted by the rates, which keeps Little's law for
// the sum.
func (f flows) residence() float64 {
	if f.weights == 0 {
		return 0
	}
	return f.lives / f.weights
}

// with adds bystanders. It leaves the rate unknown where that of the load is not known.
func (f flows) with(probes flows) flows {
	if f.rate > 0 {
		f.rate += probes.rate
		f.lives += probes.lives
		f.weights += probes.weights
	}
	return f
}

// flowsOf adds up the tracked flows of a workload: the load, and the bystanders for as long as the
// load goes on.
func flowsOf(
	entries []wiring.Assignment, before tuning.State, dut scenarios.Configuration,
) (load, probes flows) {
	open := true // whether all of the load has a rate
	read := dut.Ruleset()
	for _, a := range entries {
		entry := a.Entry
		if a.Probe || !tracked(before, read, a) {
			continue
		}
		rate, count, seconds := a.MeanRate(), a.Spec.Count, 0.0
		switch {
		case entry.KeepAlive: // as many connections as are open at a time
			rate, count = 0, int64(a.Spec.Concurrency)
		case count == 0:
			count = int64(rate * a.Spec.Duration.Seconds())
		}
		if rate > 0 {
			seconds = a.Start.Seconds() + float64(count)/rate
		} else {
			open = false
		}
		count = distinct(a, count)
		load.add(rate, residence(entry, before.Timeouts), seconds, count)
		if assured(entry) {
			load.assured += count
		}
	}
	if !open {
		load.rate, load.seconds = 0, 0
	}
	for _, a := range entries {
		if a.Probe && tracked(before, read, a) {
			count := distinct(a, int64(a.Spec.Rate*load.seconds))
			probes.add(a.Spec.Rate, residence(a.Entry, before.Timeouts), 0, count)
		}
	}
	return load, probes
}

// distinct returns how many entries count flows can have at most: one for each tuple. A flow on a
// tuple that was used before takes over its entry. A flow that finds no free tuple does not come
// about.
func distinct(a wiring.Assignment, count int64) int64 {
	if tuples := a.Spec.Tuples(); tuples > 0 {
		return min(count, tuples)
	}
	return count
}

// tracked reports whether an assignment leaves entries in the table.
func tracked(before tuning.State, read rules.Ruleset, a wiring.Assignment) bool {
	answer := before.Tracking.IPv4
	if a.Family == scenarios.IPv6 {
		answer = before.Tracking.IPv6
	}
	// A reset ends the entry at once.
	reset := a.Entry.Listener == scenarios.ListenerClosed && a.Entry.Transport() == "tcp"
	return answer != tuning.No && !reset && !exempt(read, a)
}

// residence returns how many seconds an entry lives, by the state in which the load leaves it (the
// kernel's timeouts of nf_conntrack_proto_tcp.c and its siblings). The connection itself is short
// beside its timeout; a held one sends nothing meanwhile.
func residence(e scenarios.Entry, timeouts map[string]int64) float64 {
	state := e.Generator.Fact().Timeout
	switch {
	case e.Listener == scenarios.ListenerFull && e.Transport() == "tcp":
		state = "tcp_timeout_syn_sent" // the SYNs get no answer
	case e.Probe == scenarios.ProbeTCP: // it resets what it opened
		state = "tcp_timeout_close"
	case e.Probe == scenarios.ProbeUDP:
		state = "udp_timeout"
	case e.Probe == scenarios.ProbeICMP:
		state = "icmp_timeout"
	case state == scenarios.TimeWait:
		state = cmp.Or(map[scenarios.Close]string{
			scenarios.CloseRST: "tcp_timeout_close", scenarios.CloseHalf: "tcp_timeout_close_wait",
			scenarios.CloseAbandon: "tcp_timeout_established",
		}[e.Close], state)
	}
	return float64(timeouts[kernels.Prefix+state])
}

// assured reports whether the entries of a load become ASSURED: entries of complete handshakes do
// at once, those of datagrams only after two seconds of conversation.
func assured(e scenarios.Entry) bool {
	return e.Generator.Fact().Assured && e.Listener != scenarios.ListenerFull
}

// exempt reports whether rules take all ports of an assignment out of tracking.
func exempt(read rules.Ruleset, a wiring.Assignment) bool {
	e := a.Entry
	flow := rules.Flow{
		Family: rules.IPv4, Protocol: string(a.Transport()), SYN: e.Generator == scenarios.SYN,
		Local: e.From == wiring.DUT, Loopback: e.From == wiring.DUT && e.Target == wiring.DUT,
	}
	if a.Family == scenarios.IPv6 {
		flow.Family = rules.IPv6
		if a.Transport() == generators.ProtocolICMP {
			flow.Protocol = "icmpv6"
		}
	}
	ports := e.Ports.Expand()
	if e.Port != 0 {
		ports = []uint16{uint16(e.Port)}
	}
	if len(ports) == 0 {
		ports = []uint16{0} // a protocol without ports
	}
	return !slices.ContainsFunc(ports, func(port uint16) bool {
		flow.Port = port
		return !read.Untracked(flow)
	})
}
