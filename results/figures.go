package results

// Conntrack holds the figures of the DUT's connection tracking in a trial. All times are in
// seconds, with the resolution of the sampling; a nil time means that it did not happen during the
// watch.
type Conntrack struct {
	Counters
	Tracked  bool  `json:"tracked"`  // whether anything was tracked at all
	Baseline int64 `json:"baseline"` // entries before the load
	Peak     int64 `json:"peak"`     // highest count sampled
	Final    int64 `json:"final"`    // entries at the end of the trial
	Max      int64 `json:"max"`      // nf_conntrack_max as read back; 0 is unlimited (before 6.19)
	Buckets  int64 `json:"buckets"`  // as read back
	// LogLines counts the "table full" lines in the kernel's log: at most 10 in 5 s.
	LogLines  int64 `json:"log_lines"`
	LogSupp   int64 `json:"log_suppressed"`       // "callbacks suppressed" in this trial
	LogMissed int64 `json:"log_missed,omitempty"` // lines overwritten before they could be read
	// LogMissing is the reason why the kernel's log was not read; the figures of its lines then
	// mean nothing.
	LogMissing string `json:"log_missing,omitempty"`
	// SecondsToFull is the time from the start of the load to the first sample that shows a full
	// table: count >= max, or an eviction, which the kernel does at max only and often of several,
	// so that samples find the count below max again. Nil when the table was never full.
	SecondsToFull *float64 `json:"seconds_to_full,omitempty"`
	// FullAt is the max at that time, which an action may have changed since.
	FullAt int64 `json:"full_at,omitempty"`
	// FirstDrop is the time from the start of the load to the first sample in which drop had risen.
	FirstDrop *float64 `json:"seconds_to_first_drop,omitempty"`
	// FirstEarlyDrop is the time to the first sample in which early_drop had risen.
	FirstEarlyDrop *float64 `json:"seconds_to_first_early_drop,omitempty"`
	// SecondsToRecover is the longest one of the probes: the time from the end of the load until
	// new connections of all of them succeeded again.
	SecondsToRecover *float64 `json:"seconds_to_recover,omitempty"`
	// SecondsToBelow95 is the time from the end of the load until the count stayed below 95 % of
	// max; 0 when it already was.
	SecondsToBelow95 *float64 `json:"seconds_to_below_95,omitempty"`
	SecondsToBelow10 *float64 `json:"seconds_to_below_10,omitempty"` // the same for 10 % of max
	// SecondsToLogQuiet is the time from the end of the load to the last "table full" line; 0 when
	// none came after it, nil when the last five seconds of the watch were not quiet; two seconds
	// suffice where nothing was refused in them.
	SecondsToLogQuiet *float64 `json:"seconds_to_log_quiet,omitempty"`
	// Alerts are the usual alerts on count / max that would have fired, lowest share first.
	Alerts []Alert `json:"alerts,omitempty"`
	// ObjectBytes is the size of one nf_conntrack slab object of the DUT's kernel; 0: unknown.
	ObjectBytes int64   `json:"object_bytes,omitempty"`
	Samples     int64   `json:"samples"`       // number of samples
	LongestGap  float64 `json:"longest_gap_s"` // longest time between two samples but the last
	FillShare   float64 `json:"fill"`          // peak / max; 0 without a max
}

func (c Conntrack) unmeasured(path string) string {
	field := lastPart(path)
	if c.LogMissing != "" && (field == "log_lines" || field == "log_suppressed") {
		return "the kernel's log was not read: " + c.LogMissing
	}
	return ""
}

// silent reports whether the kernel's log was read and has no "table full" line.
func (c Conntrack) silent() bool { return c.LogMissing == "" && c.LogLines == 0 }

// Alert is an alert of the form count / max > Share.
type Alert struct {
	Share float64 `json:"share"` // of max, at which it fires: 0.75
	// Fired is the time of the first sample above the share, in seconds from the start of the load.
	// Real rules wait before they page (five minutes are common): this is the earliest moment.
	Fired float64 `json:"fired_s"`
	// Lead is the time from the alert to the first drop, in seconds; negative: after it; nil: no
	// drop.
	Lead *float64 `json:"lead_s,omitempty"`
}

// Fill returns peak / max, 0 when nothing was tracked or max is unlimited (0).
func (c Conntrack) Fill() float64 { return fillOf(c.Peak, c.Max) }

// fillOf returns the part of max that count takes, 0 without a limit.
func fillOf(count, max int64) float64 {
	if max <= 0 {
		return 0
	}
	return float64(count) / float64(max)
}

// Latency is a distribution in milliseconds.
type Latency struct {
	Count int64   `json:"count"` // how many were measured
	Mean  float64 `json:"mean"`  // arithmetic mean
	P50   float64 `json:"p50"`   // median
	P90   float64 `json:"p90"`   // 90th percentile
	P99   float64 `json:"p99"`   // 99th percentile
	P999  float64 `json:"p999"`  // 99.9th percentile
	Max   float64 `json:"max"`   // the longest
}

func (l Latency) unmeasured(path string) string {
	if lastPart(path) != "count" && l.Count == 0 {
		return outerPart(path) + ".count is 0: nothing succeeded whose time it is"
	}
	return ""
}

// Probe holds the attempts of a bystander, which stands for an ssh login or a health check; or of
// all of them together.
type Probe struct {
	Kind string  `json:"kind,omitempty"` // tcp, udp or icmp; empty: all bystanders together
	From string  `json:"from,omitempty"` // the node that it ran on; likewise
	Sent int64   `json:"sent"`           // attempts
	Lost int64   `json:"lost"`           // attempts that failed
	Loss float64 `json:"loss"`           // lost / sent
	// Pending are attempts that were under way when the watch ended, and are in none of these
	// counts.
	Pending int64 `json:"pending,omitempty"`
	// Causes are the losses by cause; a cause that did not occur is 0.
	Causes  map[string]int64 `json:"causes,omitempty"`
	Latency Latency          `json:"latency_ms"` // time of the attempts that succeeded
	Before  ProbePhase       `json:"before"`     // the part before the load
	During  ProbePhase       `json:"during"`     // the part while the load went on
	After   ProbePhase       `json:"after"`      // the part after the load
	// SecondsToRecover is the time from the end of the load until new connections succeeded again:
	// the first successful attempt without a lost one for two seconds or more after it; 0 when the
	// whole trial lost none, and when it began to succeed before that. Nil when it was not watched
	// or did not happen during the watch.
	SecondsToRecover *float64 `json:"seconds_to_recover,omitempty"`
}

func (p Probe) unmeasured(path string) string {
	if lastPart(path) == "loss" && p.Sent == 0 {
		return "nothing was sent"
	}
	return ""
}

// ProbePhase holds the attempts of a probe in a part of a trial.
type ProbePhase struct {
	Sent    int64   `json:"sent"`       // attempts in this part
	Lost    int64   `json:"lost"`       // attempts that failed
	Latency Latency `json:"latency_ms"` // of those answered
}

// ProbeSample is one attempt of a probe.
type ProbeSample struct {
	Probe   string  `json:"probe,omitempty"` // its name; empty in runs of older builds
	Seconds float64 `json:"t"`               // when it was sent, on the axis of Sample
	Millis  float64 `json:"ms"`              // how long it took until it succeeded or was given up
	OK      bool    `json:"ok"`
	Cause   string  `json:"cause,omitempty"` // of the failure
}

// Prediction holds the results of a simulation, in seconds; see [PredictionOf]. It is made before
// the load, and again after it with the times at which the actions came. Low and high bound it
// where the kernel's garbage collector, chance or the pace of the load decides.
type Prediction struct {
	Peak          int64    `json:"peak"`                        // highest number of entries
	PeakLow       int64    `json:"peak_low,omitempty"`          // lower bound of peak
	PeakHigh      int64    `json:"peak_high,omitempty"`         // upper bound of peak
	SecondsToFull *float64 `json:"seconds_to_full,omitempty"`   // nil: never full, or not known
	FullEarly     *float64 `json:"full_early_s,omitempty"`      // lower bound; nil: never full
	FullLate      *float64 `json:"full_late_s,omitempty"`       // upper bound; nil: maybe never
	Rate          float64  `json:"rate_per_s,omitempty"`        // assumed new entries per second
	Residence     float64  `json:"residence_s,omitempty"`       // assumed life of an entry
	Alive         int64    `json:"alive,omitempty"`             // most that have not expired
	Sustainable   float64  `json:"sustainable_per_s,omitempty"` // (max - what stays) / residence
	Overflow      int64    `json:"overflow,omitempty"`          // new entries at a full table
	RefusedShare  float64  `json:"refused_share,omitempty"`     // of overflow, if all are evictable
	Drop          int64    `json:"drop,omitempty"`              // refused packets, SYN repeats too
	DropLow       int64    `json:"drop_low,omitempty"`          // lower bound of drop
	DropHigh      int64    `json:"drop_high,omitempty"`         // upper bound of drop
	EarlyDrop     int64    `json:"early_drop,omitempty"`        // entries evicted for new ones
	NATRefused    int64    `json:"nat_refused,omitempty"`       // new entries without a NAT port
	NATShare      float64  `json:"nat_share,omitempty"`         // of all new entries
	NATPorts      int64    `json:"nat_ports,omitempty"`         // ports that NAT has for the load
	MemoryBytes   int64    `json:"memory_bytes,omitempty"`      // entries at the peak, and the hash
	// Counts is the predicted number of entries over time, as the ends of straight lines.
	Counts []PredictedCount `json:"counts,omitempty"`
	// PeakError is measured / predicted - 1 of the peak; nil where one of the two is missing or 0.
	PeakError *float64 `json:"peak_error,omitempty"`
	FullError *float64 `json:"full_error,omitempty"` // the same of seconds_to_full
	// DropError is the same of drop; nil where the pace of the load is not known.
	DropError *float64 `json:"drop_error,omitempty"`
}

// PredictedCount is the predicted number of entries at one instant.
type PredictedCount struct {
	Seconds float64 `json:"t"`     // since the load started
	Count   int64   `json:"count"` // of entries
}

// Sample is the DUT at one instant.
type Sample struct {
	Seconds  float64  `json:"t"` // since the load started, on ctload's clock; negative before
	Count    int64    `json:"count"`
	Max      int64    `json:"max"`
	Buckets  int64    `json:"buckets"`
	Counters Counters `json:"counters"`
	LogLines int64    `json:"log_lines"`
	LogSupp  int64    `json:"log_suppressed"`
	// Progress is the load's: the sum that [Trial] has as Load, 0 without one.
	Progress
	Entries map[string]Progress `json:"entries,omitempty"` // of the workload, by name
}

// Progress counts what generators had done, as last reported.
type Progress struct {
	Offered int64 `json:"offered,omitempty"` // begun
	Done    int64 `json:"done"`              // completed, or sent without asking for an answer
	Failed  int64 `json:"failed"`
	Broken  int64 `json:"broken,omitempty"` // of those failed: connections that were open and held
}

// Add adds the progress of another generator.
func (p *Progress) Add(other Progress) {
	p.Offered += other.Offered
	p.Done += other.Done
	p.Failed += other.Failed
	p.Broken += other.Broken
}

// Contents counts the entries of the table when the watch over a trial had ended, from one walk
// over it (never during the load), and tells the memory that it took then.
type Contents struct {
	Entries int64        `json:"entries"`          // entries in the table
	Assured int64        `json:"assured"`          // entries that early_drop may not evict
	States  []StateCount `json:"states,omitempty"` // by falling number of entries
	// Sources are the addresses of the most entries, by falling number.
	Sources   []SourceCount `json:"sources,omitempty"`
	Addresses int64         `json:"addresses"` // different source addresses; 0: too many to count
	// Flows are the kinds of flows with the most entries, by falling number.
	Flows     []FlowCount `json:"flows,omitempty"`
	SlabBytes int64       `json:"slab_bytes"` // pages of the slab nf_conntrack; 0: unknown
	HashBytes int64       `json:"hash_bytes"` // memory of the hash
}

// StateCount is the number of entries in one state: UNREPLIED or REPLIED without states.
type StateCount struct {
	Protocol string `json:"protocol"` // as /proc/net/nf_conntrack names it
	State    string `json:"state"`    // of TCP, SCTP or DCCP; else UNREPLIED or REPLIED
	Entries  int64  `json:"entries"`  // number of them
}

// SourceCount is the number of entries from one address: between Entries - Error and Entries.
type SourceCount struct {
	Address string `json:"address"`         // source of the first packet
	Entries int64  `json:"entries"`         // number of them, at most
	Error   int64  `json:"error,omitempty"` // by which entries may be too many
}

// CPU is the time of all the DUT's CPUs in seconds, from the baseline sample to the last.
type CPU struct {
	Count   int     `json:"count"`     // CPUs of the guest
	User    float64 `json:"user_s"`    // time in programs
	System  float64 `json:"system_s"`  // time in the kernel for programs
	IRQ     float64 `json:"irq_s"`     // time in interrupts
	SoftIRQ float64 `json:"softirq_s"` // where packets are received, tracked and filtered
	Steal   float64 `json:"steal_s"`   // taken by the hypervisor; 0 where unknown, as under tcg
	Idle    float64 `json:"idle_s"`    // time without work
}

// StealShare returns the share of the time that the hypervisor gave to others.
func (c CPU) StealShare() float64 { return c.share(c.Steal) }

// SoftIRQShare returns the share of the time in softirq.
func (c CPU) SoftIRQShare() float64 { return c.share(c.SoftIRQ) }

// Busy returns the share of the time that was not idle.
func (c CPU) Busy() float64 { return c.share(c.User + c.System + c.IRQ + c.SoftIRQ + c.Steal) }

func (c CPU) share(part float64) float64 {
	if all := c.User + c.System + c.IRQ + c.SoftIRQ + c.Steal + c.Idle; all > 0 {
		return part / all
	}
	return 0
}
