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
