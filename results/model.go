// Package results is the model of a run and the pure arithmetic on it: accounting, verdicts,
// predictions, statistics, comparison and the run folder. It knows nothing of virtual machines, of
// the network or of how a figure was obtained.
//
// The JSON form of [Run] is run.json, the contract with scripts: a build may add fields; renaming
// one or changing its unit needs a new [SchemaVersion].
//
// [Summarise] reduces the series of a trial to figures, [Validate] gives the reasons not to trust
// them, [Judge] balances the accounts and says what happened. A [Folder] keeps all of it.
package results

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// SchemaVersion is the version of run.json that this build writes.
//
// 2: a trial may have actions. Conntrack is then what the actions left, Max the last one before
// they were undone. Documents of 1 differ in nothing else.
//
// 3: a trial has its entries and probes by name. Load adds up like units only, without hostile
// entries, and is missing where that makes no sum; what asks for no answer is sent and no longer
// completed; a latency holds no time for which connections were held. Documents of 1 and 2 have
// neither entries nor probes, and their load adds up all. A workload is a list of objects, and in
// documents of 1 and 2 the text of one.
const SchemaVersion = 3

// Run is one execution of an experiment.
type Run struct {
	Schema      int       `json:"schema"`                // version of run.json
	ID          string    `json:"id"`                    // name of the run's folder
	Experiment  string    `json:"experiment"`            // its name
	Summary     string    `json:"summary,omitempty"`     // the experiment's, in a line
	Ctload      string    `json:"ctload"`                // version of the program
	Started     time.Time `json:"started"`               // when the run began
	Seconds     float64   `json:"seconds"`               // the whole run, boots included
	Seed        uint64    `json:"seed"`                  // of the trials' order and the tuples
	Interrupted bool      `json:"interrupted,omitempty"` // a signal ended the run
	// Planned is the number of trials of the whole run; 0: a run of an older ctload.
	Planned int `json:"planned,omitempty"`
	// Shard says which part of the run this is; nil: it is none. A shard is judged with the others,
	// once they are merged.
	Shard *Shard `json:"shard,omitempty"`
	// Unfinished is there from the first write on, and goes at a clean end.
	Unfinished  bool        `json:"unfinished,omitempty"`
	Environment Environment `json:"environment"` // what the figures depend on besides
	// Workload are the entries of the workload; compared runs have the same.
	Workload Asked   `json:"workload,omitempty"`
	Phases   []Phase `json:"phases,omitempty"` // of the load's time; none: not divided
	// Tags are the user's own words for the run, by key: those of ctload run --tag.
	Tags map[string]string `json:"tags,omitempty"`
	// Conclusion is the answer, derived from the rest whenever run.json is written; a reader of
	// run.json derives it again.
	Conclusion *Conclusion `json:"conclusion,omitempty"`
	Scenarios  []Scenario  `json:"scenarios"`          // in the order of the experiment
	Warnings   []string    `json:"warnings,omitempty"` // what the reader must know of the host
	Baseline   string      `json:"baseline,omitempty"` // name of the run that was compared with
	// MaxRegression is the share by which a figure may be worse than in the baseline: 0.1 is 10 %.
	MaxRegression float64 `json:"max_regression,omitempty"`
	// Regressions are the figures that became worse by more; see package compare.
	Regressions []Regression `json:"regressions,omitempty"`
	// BaselineScenarios are the compared scenarios: those with valid trials in both runs.
	BaselineScenarios []string `json:"baseline_scenarios,omitempty"`
	// BaselineUnsure are those of them that have too few trials to find any regression but a
	// significant one.
	BaselineUnsure []string `json:"baseline_unsure,omitempty"`
	// BaselineNotes are the allowed differences from the baseline, and what could not be judged.
	BaselineNotes []string `json:"baseline_notes,omitempty"`
}

// Phase is a named part of the load's time.
type Phase struct {
	Name    string  `json:"name"`    // as the experiment gives it
	Start   float64 `json:"start"`   // seconds after the start of the load
	Seconds float64 `json:"seconds"` // its length
}

// Environment holds the facts besides the experiment that the figures depend on.
type Environment struct {
	Driver          string `json:"driver"`                     // libvirt, vagrant, netns
	Accelerator     string `json:"accelerator"`                // kvm, tcg, none
	AcceleratorNote string `json:"accelerator_note,omitempty"` // why not kvm
	Box             string `json:"box,omitempty"`              // vagrant: name or file of the box
	BoxVersion      string `json:"box_version,omitempty"`      // the catalogue's; a file's identity
	Kernel          string `json:"kernel"`                     // uname -r of the first trial
	QEMU            string `json:"qemu,omitempty"`             // version number alone: 7.2.17
	Libvirt         string `json:"libvirt,omitempty"`          // likewise
	HostKernel      string `json:"host_kernel"`                // uname -r
	HostCPU         string `json:"host_cpu"`                   // model, by /proc/cpuinfo
	HostCPUs        int    `json:"host_cpus"`                  // that ctload may use
	HostMemoryBytes int64  `json:"host_memory_bytes"`          // MemTotal
	// HostLoad are the host's load averages over 1, 5 and 15 minutes when the run started.
	HostLoad []float64 `json:"host_load,omitempty"`
	// Modules are the modules that the DUT's kernel had loaded in every trial.
	Modules []string `json:"modules,omitempty"`
}

// Boxed returns the box of the DUT with its version, in words; empty without a box.
func (e Environment) Boxed() string { return strings.TrimSpace(e.Box + " " + e.BoxVersion) }

// Scenario is one kernel configuration of the DUT with its trials.
type Scenario struct {
	Name          string        `json:"name"`              // unique in the run
	Summary       string        `json:"summary,omitempty"` // the experiment's, in a line
	Configuration Configuration `json:"configuration"`     // what was asked of the DUT
	// Workload are the entries of the load where they are not the first scenario's.
	Workload Asked `json:"workload,omitempty"`
	// Actions are the faults and fixes as asked for; compared runs have the same.
	Actions    Asked     `json:"actions,omitempty"`
	Trials     []Trial   `json:"trials"`               // by number, INVALID ones too
	Thresholds []Outcome `json:"thresholds,omitempty"` // as judged at the end of the run
}

// Configuration holds the values that were requested of the DUT's kernel.
type Configuration struct {
	Kernel      string            `json:"kernel"`            // as requested: debian/bookworm
	VCPUs       int               `json:"vcpus"`             // CPUs of the DUT
	MemoryBytes int64             `json:"memory_bytes"`      // memory of the DUT
	Sysctl      map[string]string `json:"sysctl,omitempty"`  // values by key
	Buckets     int               `json:"buckets,omitempty"` // 0: the kernel's own
	Rules       string            `json:"rules,omitempty"`   // iptables-save format
	Rules6      string            `json:"rules6,omitempty"`  // ip6tables-save format
	NFT         string            `json:"nft,omitempty"`     // a script for nft -f
	IPVS        string            `json:"ipvs,omitempty"`    // input of ipvsadm -R
	IPSet       string            `json:"ipset,omitempty"`   // input of ipset restore
}

// Trial is one fresh boot of one scenario under the workload.
type Trial struct {
	Number   int       `json:"number"`            // from 1, in the scenario
	Folder   string    `json:"folder"`            // in the run folder
	Started  time.Time `json:"started"`           // when the load began
	Seconds  float64   `json:"seconds"`           // the load alone
	Kernel   string    `json:"kernel"`            // uname -r in the guest
	Verdict  Verdict   `json:"verdict"`           // what happened, see docs/reading.md
	Also     Verdict   `json:"also,omitempty"`    // a second thing that happened
	Sentence string    `json:"sentence"`          // the evidence in words
	Invalid  []string  `json:"invalid,omitempty"` // the reasons why a verdict is invalid
	// InvalidCodes are the kinds of those reasons, in their order; docs/reading.md has them.
	InvalidCodes []Code `json:"invalid_codes,omitempty"`
	// RepeatedAs is the number of the trial that measured the same again, since the host had spoilt
	// this one, which does not count; 0: none did.
	RepeatedAs int `json:"repeated_as,omitempty"`
	// Died is the line of the console by which the DUT's kernel ran out of memory under the load
	// and ended; empty where it lived.
	Died string `json:"died,omitempty"`
	// Remarks are the settings that the DUT's kernel follows, but not to the letter: a rounded
	// hash.
	Remarks   []string  `json:"remarks,omitempty"`
	Conntrack Conntrack `json:"conntrack"` // what connection tracking did
	// Load is the sum of the entries that are not hostile; nil where they count unlike units, or
	// where some of them ask for no answer and others do.
	Load *Load `json:"load,omitempty"`
	// Entries are the generators of the workload, by name.
	Entries    map[string]Entry `json:"entries,omitempty"`
	Accounting Accounting       `json:"accounting"`      // failures, beside what explains them
	Probe      *Probe           `json:"probe,omitempty"` // what the bystanders saw, or nil
	// Probes are the bystanders, by name.
	Probes     map[string]Probe `json:"probes,omitempty"`
	Stack      *Stack           `json:"stack,omitempty"`      // nil when it was not read
	Transit    *Transit         `json:"transit,omitempty"`    // frames of the links, or nil
	Prediction *Prediction      `json:"prediction,omitempty"` // what a simulation predicted
	// Refused are faulty commands, and what came of them.
	Refused []Refusal `json:"refused_commands,omitempty"`
	Actions []Action  `json:"actions,omitempty"` // faults and fixes, in time order
	// Heal is the trial's departure from its steady state, and its return; nil where no steady
	// state is defined.
	Heal *Heal `json:"heal,omitempty"`
	// Recovery is the watch over the trial after its load; nil when the trial ended before.
	Recovery *Recovery `json:"recovery,omitempty"`
	// MemoryBytes is the memory that the guest's kernel has (MemTotal); it sizes the table.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	// Modules are the kernel modules that the guest had loaded when the load began, by name.
	Modules  []string  `json:"modules,omitempty"`
	CPU      *CPU      `json:"cpu,omitempty"`      // where the guest's CPU time went, or nil
	Contents *Contents `json:"contents,omitempty"` // what the table held at the end; nil: not read
	// Meaning is the meaning of the kernel's counters; nil where no figure depends on it, or where
	// the experiment failed.
	Meaning *CounterMeaning `json:"counter_meaning,omitempty"`
	// Rules are the rules and policies that packets met, the busiest first, and then those that
	// have an effect but no counter.
	Rules    []RuleCount `json:"rules,omitempty"`
	NAT      *NAT        `json:"nat,omitempty"`      // nil without destination NAT, or unknown
	Tracking *Tracking   `json:"tracking,omitempty"` // as read back before the load; nil: unknown
	// Timeouts are the timeouts of connection tracking in seconds, as read back, by the end of
	// their names: tcp_timeout_established.
	Timeouts map[string]int64 `json:"timeouts,omitempty"`
	// Silences are the silences that entries of the load plan within a connection or a flow.
	Silences []Silence `json:"silences,omitempty"`
	// Clock is the agreement of the guest's times with the client's; nil when it was not measured.
	Clock *Clock `json:"clock,omitempty"`
	// Steal is the share of the guest's CPU time that its hypervisor gave to others, as the guest
	// counted it (it cannot under tcg).
	Steal float64 `json:"steal,omitempty"`
	// LostCPU is the share of the load's time that ready guest CPUs waited, as the host counted it.
	LostCPU float64 `json:"lost_cpu,omitempty"`
	Stages  []Stage `json:"stages,omitempty"` // how long each stage of the trial took
}

// Refusal is a command line with a mistake in it that the DUT ran and its tool refused.
type Refusal struct {
	Command string `json:"command"` // the faulty command line
	// Status is the exit status of the tool; 0: it refused nothing, and the trial is invalid.
	Status int    `json:"status"`
	Said   string `json:"said"` // the first line of its complaint
}

// Clock holds the comparison of the guest's clock with that of the machine that runs ctload,
// before, during and after the load. Times of the guest are corrected by linear interpolation.
type Clock struct {
	// ErrorMillis bounds the remaining error: half the round trip of the slowest comparison used,
	// or the distance of a comparison from the line between its neighbours, whichever is more.
	ErrorMillis float64 `json:"error_ms"`
	// DriftPPM is the rate at which the guest's clock gained on the other, in parts per million.
	DriftPPM float64 `json:"drift_ppm"`
	Readings int     `json:"readings"` // comparisons used
	// StartSkewMillis is the longest time between the instant of the axis at which a load should
	// begin and its beginning, by the compared clocks of the nodes.
	StartSkewMillis float64 `json:"start_skew_ms,omitempty"`
}

// Stage is a named part of a trial and its wall time in seconds. That of the boot is shorter where
// the DUT began to boot during the trial before it.
type Stage struct {
	Name    string  `json:"name"`    // boot, configure, load and so on
	Seconds float64 `json:"seconds"` // its length
}

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
	LongestGap  float64 `json:"longest_gap_s"` // longest time between two samples
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

// Regression is a figure of a scenario that became worse than in a baseline run.
type Regression struct {
	Scenario string `json:"scenario"` // its name
	Metric   string `json:"metric"`   // path in run.json
	Before   string `json:"before"`   // the baseline's median, with its unit
	After    string `json:"after"`    // this run's median, with its unit
	// Effect tells how much worse it is, with an interval: "1.42 x, 1.31 to 1.55", or an amount
	// where a trial has 0. It is empty for verdicts, and with fewer than three trials on a side.
	Effect string `json:"effect,omitempty"`
}

// Failure words the regression with its mark.
func (r Regression) Failure() string {
	return RegressionMark + " " + r.Scenario + ": " + r.Change()
}

// Change returns the metric with its values before and after.
func (r Regression) Change() string {
	text := fmt.Sprintf("%s was %s and is %s", r.Metric, r.Before, r.After)
	if r.Effect != "" {
		text += " (" + r.Effect + ")"
	}
	return text
}

// Scenario returns the scenario of that name, or nil.
func (r *Run) Scenario(name string) *Scenario {
	if i := slices.IndexFunc(r.Scenarios, func(s Scenario) bool { return s.Name == name }); i >= 0 {
		return &r.Scenarios[i]
	}
	return nil
}

// Trials returns the trials of all scenarios.
func (r *Run) Trials() (list []*Trial) {
	for i := range r.Scenarios {
		for j := range r.Scenarios[i].Trials {
			list = append(list, &r.Scenarios[i].Trials[j])
		}
	}
	return list
}

// ValidTrials returns the valid trials of the scenario, in their order.
func (s *Scenario) ValidTrials() iter.Seq[*Trial] {
	return func(yield func(*Trial) bool) {
		for i := range s.Trials {
			if t := &s.Trials[i]; t.Verdict != Invalid && !yield(t) {
				return
			}
		}
	}
}

// Valid returns how many trials of the scenario are valid.
func (s *Scenario) Valid() int { return len(slices.Collect(s.ValidTrials())) }

// Worst returns the worst verdict among the valid trials, [Invalid] without any.
func (s *Scenario) Worst() Verdict {
	v := Invalid
	for _, t := range s.Trials {
		if t.Verdict.Compare(v) > 0 {
			v = t.Verdict
		}
	}
	return v
}
