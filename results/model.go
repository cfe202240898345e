// Package results is the model of a run and the pure arithmetic on it: accounting, verdicts,
// predictions, statistics, comparison and the run folder. It knows nothing of virtual machines,
// of the network or of how a figure was obtained.
//
// The JSON form of [Run] is run.json, the contract with scripts: fields are added, never renamed
// or given another unit without a new [SchemaVersion].
package results

import "time"

// SchemaVersion is the version of run.json that this build writes.
const SchemaVersion = 1

// Run is one execution of an experiment.
type Run struct {
	Schema      int         `json:"schema"`
	ID          string      `json:"id"`
	Experiment  string      `json:"experiment"`
	Summary     string      `json:"summary,omitempty"`
	Ctload      string      `json:"ctload"` // version of the program
	Started     time.Time   `json:"started"`
	Seconds     float64     `json:"seconds"`
	Seed        uint64      `json:"seed"`
	Interrupted bool        `json:"interrupted,omitempty"`
	Environment Environment `json:"environment"`
	Scenarios   []Scenario  `json:"scenarios"`
	Warnings    []string    `json:"warnings,omitempty"`
}

// Environment is what the figures depend on besides the experiment.
type Environment struct {
	Driver          string `json:"driver"`                     // libvirt, vagrant, netns
	Accelerator     string `json:"accelerator"`                // kvm, tcg, none
	AcceleratorNote string `json:"accelerator_note,omitempty"` // why not kvm
	Kernel          string `json:"kernel"`                     // uname -r of the DUT in the first trial
	QEMU            string `json:"qemu,omitempty"`
	Libvirt         string `json:"libvirt,omitempty"`
	HostKernel      string `json:"host_kernel"`
	HostCPU         string `json:"host_cpu"`
	HostCPUs        int    `json:"host_cpus"`
	HostMemoryBytes int64  `json:"host_memory_bytes"`
}

// Scenario is one kernel configuration of the DUT with its trials.
type Scenario struct {
	Name          string        `json:"name"`
	Summary       string        `json:"summary,omitempty"`
	Configuration Configuration `json:"configuration"`
	Trials        []Trial       `json:"trials"`
}

// Configuration is what was asked of the DUT's kernel.
type Configuration struct {
	Kernel      string            `json:"kernel"` // the name asked for, as debian/bookworm
	VCPUs       int               `json:"vcpus"`
	MemoryBytes int64             `json:"memory_bytes"`
	Sysctl      map[string]string `json:"sysctl,omitempty"`
	Buckets     int               `json:"buckets,omitempty"` // 0: the kernel's own
	Rules       string            `json:"rules,omitempty"`   // iptables-save format
	NFT         string            `json:"nft,omitempty"`
}

// Trial is one fresh boot of one scenario under the workload.
type Trial struct {
	Number     int         `json:"number"` // from 1, in the scenario
	Folder     string      `json:"folder"` // in the run folder
	Started    time.Time   `json:"started"`
	Seconds    float64     `json:"seconds"` // the load alone
	Kernel     string      `json:"kernel"`  // uname -r as the guest said it
	Verdict    Verdict     `json:"verdict"`
	Also       Verdict     `json:"also,omitempty"`    // a second thing that happened
	Sentence   string      `json:"sentence"`          // the evidence in words
	Invalid    []string    `json:"invalid,omitempty"` // the reasons, when Verdict is invalid
	Conntrack  Conntrack   `json:"conntrack"`
	Load       Load        `json:"load"`
	Probe      *Probe      `json:"probe,omitempty"`
	Prediction *Prediction `json:"prediction,omitempty"`
	Stages     []Stage     `json:"stages,omitempty"` // how long each stage of the trial took
}

// Stage is a named part of a trial and its wall time in seconds.
type Stage struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Counters are the per-CPU counters of nf_conntrack, summed over the CPUs. In a [Trial] they are
// the difference between the end and the start of the trial; in a [Sample] they count from the
// baseline sample. Names follow the kernel's netlink attributes (CTA_STATS_*), but for
// early_drop and chain_toolong, which are spelt as operators read them.
type Counters struct {
	Drop          int64 `json:"drop"`
	EarlyDrop     int64 `json:"early_drop"`
	InsertFailed  int64 `json:"insert_failed"`
	ChainTooLong  int64 `json:"chain_toolong"`
	ClashResolve  int64 `json:"clash_resolve"`
	Invalid       int64 `json:"invalid"`
	Found         int64 `json:"found"`
	SearchRestart int64 `json:"search_restart"`
	Error         int64 `json:"error"`
}

// Conntrack is what the DUT's connection tracking did in a trial.
type Conntrack struct {
	Counters
	Tracked   bool  `json:"tracked"`  // whether anything was tracked at all
	Baseline  int64 `json:"baseline"` // entries before the load
	Peak      int64 `json:"peak"`     // highest count sampled
	Final     int64 `json:"final"`    // entries at the end of the trial
	Max       int64 `json:"max"`      // nf_conntrack_max as read back
	Buckets   int64 `json:"buckets"`  // as read back
	LogLines  int64 `json:"log_lines"`
	LogSupp   int64 `json:"log_suppressed"` // "callbacks suppressed" that appeared in this trial
	LogMissed int64 `json:"log_missed,omitempty"`
	// SecondsToFull is the time from the start of the load to the first sample with count >= max;
	// nil when the table was never full.
	SecondsToFull *float64 `json:"seconds_to_full,omitempty"`
	// SecondsToRecover is the time from the end of the load until a new connection succeeded;
	// nil when it was not watched or did not happen while it was watched.
	SecondsToRecover *float64 `json:"seconds_to_recover,omitempty"`
}

// Fill is peak / max, 0 when nothing was tracked or max is unlimited (0).
func (c Conntrack) Fill() float64 {
	if c.Max <= 0 {
		return 0
	}
	return float64(c.Peak) / float64(c.Max)
}

// Latency is a distribution in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

// Load is what a generator offered and what came of it: Offered = Completed + Failed, and Failed
// is the sum of Causes.
type Load struct {
	Generator string           `json:"generator"`
	Unit      string           `json:"unit"` // requests, connections, flows
	Offered   int64            `json:"offered"`
	Completed int64            `json:"completed"`
	Failed    int64            `json:"failed"`
	Causes    map[string]int64 `json:"causes,omitempty"`
	Seconds   float64          `json:"seconds"`
	Rate      float64          `json:"rate_per_s"` // completed per second
	Connect   Latency          `json:"connect_ms"`
	Latency   Latency          `json:"latency_ms"` // total: from the intended start to the last byte
	Late      float64          `json:"late_share"` // share of sends that left late (open loop)
	Limits    []string         `json:"limits,omitempty"`
}

// Probe is the bystander: what an ssh login or a health check saw.
type Probe struct {
	Sent    int64   `json:"sent"`
	Lost    int64   `json:"lost"`
	Latency Latency `json:"latency_ms"`
}

// Prediction is what the arithmetic said before the trial.
type Prediction struct {
	Peak          int64    `json:"peak"`
	SecondsToFull *float64 `json:"seconds_to_full,omitempty"`
}

// Sample is the DUT at one instant.
type Sample struct {
	// Seconds since the load started, on the clock of the machine that runs ctload; negative before.
	Seconds  float64  `json:"t"`
	Count    int64    `json:"count"`
	Max      int64    `json:"max"`
	Buckets  int64    `json:"buckets"`
	Counters Counters `json:"counters"`
	LogLines int64    `json:"log_lines"`
	LogSupp  int64    `json:"log_suppressed"`
	// Done is how many requests, connections or flows the generators had completed, Failed how many
	// had failed, as last heard.
	Done   int64 `json:"done"`
	Failed int64 `json:"failed"`
}
