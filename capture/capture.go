// Package capture models the known facts of a host's connection tracking at one moment: its sizes,
// settings, counters, log lines, rules and entries. A [Capture] comes from a host or from saved
// outputs (package saved); it is pure data.
package capture

import (
	"net/netip"
	"time"
)

// SchemaVersion is the version of the JSON form that this build writes.
const SchemaVersion = 1

// Capture holds the known facts of one host. A missing part is nil or empty, never zero.
type Capture struct {
	Schema int       `json:"schema"`
	Taken  time.Time `json:"taken,omitzero"`
	Kernel string    `json:"kernel,omitempty"` // uname -r
	// CPUs and MemoryBytes are the host's; 0 is unknown.
	CPUs        int   `json:"cpus,omitempty"`
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	// Own are the addresses of the host's interfaces, but loopback's; none: unknown.
	Own []netip.Addr `json:"own,omitempty"`
	// Untracked tells that nothing on the host tracks connections: no module is loaded.
	Untracked bool  `json:"untracked,omitempty"`
	Sizes     Sizes `json:"sizes"`
	// Counts are the numbers of entries during the watch, each with its time from the first.
	Counts []Count `json:"counts,omitempty"`
	// Settings are the sysctls by the names of current kernels, with dots.
	Settings map[string]string `json:"settings,omitempty"`
	// Counters are readings of the kernel's counters of connection tracking, oldest first.
	Counters []Counters `json:"counters,omitempty"`
	// Network are counters of the network stack by their names in nstat, since boot.
	Network map[string]int64 `json:"network,omitempty"`
	// NetworkBefore are the same at the begin of the watch.
	NetworkBefore map[string]int64 `json:"network_before,omitempty"`
	// Sockets are counts of the host's sockets, oldest first.
	Sockets []Sockets `json:"sockets,omitempty"`
	// Parameters are those of the module nf_conntrack.
	Parameters map[string]string `json:"parameters,omitempty"`
	// Modules are the loaded modules of netfilter.
	Modules []string `json:"modules,omitempty"`
	// Problems are parts of the host that could not be read, each with the reason.
	Problems []string `json:"problems,omitempty"`
	// Neighbours are the entries of the neighbour tables by state: FAILED, REACHABLE.
	Neighbours map[string]int64 `json:"neighbours,omitempty"`
	Log        Log              `json:"log"`
	Rules      Rules            `json:"rules"`
	// Expectations are the connections that helpers expect; they are no entries of the table.
	Expectations []Expectation `json:"expectations,omitempty"`
	// Table is the last field, and its Entries are its last one: [Write] writes these one by one.
	Table Table `json:"table"`
}

// Sizes are the limits of the table and how far it is filled; nil is unknown.
type Sizes struct {
	Count   *int64 `json:"count,omitempty"` // entries, with expired ones that are still in the hash
	Max     *int64 `json:"max,omitempty"`
	Buckets *int64 `json:"buckets,omitempty"`
	// ExpectMax is the limit of the table of expectations.
	ExpectMax *int64 `json:"expect_max,omitempty"`
}

// Count is the number of entries at one time.
type Count struct {
	Seconds float64 `json:"s"` // since the first
	Entries int64   `json:"n"`
}

// Counters is one reading of the counters of connection tracking, since the kernel booted.
type Counters struct {
	// Sum are the counters by their names in the kernel, over the CPUs that were shown.
	Sum  map[string]int64 `json:"sum"`
	CPUs int              `json:"cpus"`
	// FirstCPU tells that the tool showed one CPU only, as conntrack 0.9 and 1.0 did.
	FirstCPU bool `json:"first_cpu,omitempty"`
	// Seconds is the time since the reading before; 0 is unknown.
	Seconds float64 `json:"seconds,omitempty"`
}

// Sockets counts the host's sockets of both address families.
type Sockets struct {
	TCP      int64 `json:"tcp"` // without those in TIME_WAIT
	TimeWait int64 `json:"time_wait"`
	Orphaned int64 `json:"orphaned"` // of TCP: no program has them open
	UDP      int64 `json:"udp"`
}

// Log counts lines of the kernel's log.
type Log struct {
	Read         bool  `json:"read"`                   // whether any log was shown
	TableFull    int64 `json:"table_full"`             // "table full, dropping packet"
	ExpectFull   int64 `json:"expect_full,omitempty"`  // "expectation table full"
	HelperDrops  int64 `json:"helper_drops,omitempty"` // packets that a helper dropped
	Neighbour    int64 `json:"neighbour_overflow,omitempty"`
	Suppressed   int64 `json:"suppressed,omitempty"` // of any rate-limited message
	Suppressions int64 `json:"suppressions,omitempty"`
	// Seconds is the time between the first and the last of these lines, where both have one.
	Seconds float64 `json:"seconds,omitempty"`
}

// Rules are the rules as the tools list them.
type Rules struct {
	// Read tells that the host was asked for all of its rules: none are shown where it has none.
	Read bool   `json:"read,omitempty"`
	IPv4 string `json:"ipv4,omitempty"` // iptables-save
	IPv6 string `json:"ipv6,omitempty"` // ip6tables-save
	NFT  string `json:"nft,omitempty"`  // nft list ruleset
	// Sets are the numbers of entries of the sets of ipset, by name.
	Sets map[string]int64 `json:"sets,omitempty"`
}

// Empty reports whether no rules were shown.
func (r Rules) Empty() bool { return r.IPv4 == "" && r.IPv6 == "" && r.NFT == "" }

// Table holds the entries that were read, and counts of the whole table.
type Table struct {
	// Scope tells which part of the table the entries are.
	Scope Scope `json:"scope"`
	// Cut counts entries whose text ends in the middle: they are not in Entries.
	Cut int `json:"cut,omitempty"`
	// Between is the time, in seconds, between the two listings whose entries are marked with
	// Stays and Gone; 0 for a single one.
	Between float64 `json:"between_s,omitempty"`
	// Whole is the number of living entries in the whole table, where it was shown; 0 is unknown.
	Whole int64 `json:"whole,omitempty"`
	// States are numbers of entries of the whole table by TCP state, as counted on the host.
	States map[string]int64 `json:"states,omitempty"`
	// Stateless is the number of entries of the whole table without a state, as counted there.
	Stateless int64 `json:"stateless,omitempty"`
	// Holders are the sources of most entries of the whole table, as counted on the host.
	Holders []Holder `json:"holders,omitempty"`
	// Entries are the living entries that were read.
	Entries []Entry `json:"entries,omitempty"`
}

// Holder is a number of entries of one source address.
type Holder struct {
	Address netip.Addr `json:"address"`
	Entries int64      `json:"entries"`
}

// Scope tells which part of a table some entries are.
type Scope string

// The scopes. A walk follows a keyed hash, so that a prefix of it is a uniform sample; a selection
// was made by what the entries are, and its shares mean nothing.
const (
	Unknown   Scope = ""
	Whole     Scope = "whole"
	Prefix    Scope = "prefix"
	Selection Scope = "selection"
)

// Expectation is a connection that a helper expects.
type Expectation struct {
	Left   int64  `json:"left"`   // seconds; -1 without a time limit
	Helper string `json:"helper"` // sip
	Class  string `json:"class"`  // audio, signalling
	// Permanent expectations stay after a connection has come, inactive ones wait to be enabled.
	Permanent bool `json:"permanent,omitempty"`
	Inactive  bool `json:"inactive,omitempty"`
}
