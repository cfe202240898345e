package results

import (
	"reflect"
	"slices"
	"strings"
)

// The structs in this file are the table of the counters: one field for each, with these tags
//
//	json    its name in run.json, in the agent's samples, in expressions, charts and other formats
//	kernel  its place in the kernel: the prefix and the name in /proc/net/netstat and
//	        /proc/net/snmp, for IPv6 as well; [agent/samplers] reads every counter that has one
//	bits    "32" for one that wraps there
//	column  the head of its column in the table of a report, two lines separated by "|"
//	chart   its colour in the chart of refusals and evictions
//	words   what it counts, for sentences about failures
//	cause   the only cause of failure for which sentences use the words
//
// "rare" at the end of column or chart omits a counter that did not rise. Expressions, the schema
// of run.json, CSV and docs/fields.md have every counter, with its comment.

// Counters are the per-CPU counters of nf_conntrack, summed over the CPUs. In a [Trial] they are
// the difference between the end and the start of the trial; in a [Sample] they count from the
// baseline sample. Names follow the kernel's netlink attributes (CTA_STATS_*), except
// early_drop and chain_toolong, which have the spelling that operators know.
type Counters struct {
	Drop          int64 `json:"drop" column:"|drop" chart:"bad"`                       // packets for new entries that the kernel refused, SYN retries included
	EarlyDrop     int64 `json:"early_drop" column:"early_|drop" chart:"c4"`            // entries not yet ASSURED that were evicted for new ones
	InsertFailed  int64 `json:"insert_failed" column:"insert_|failed" chart:"c3,rare"` // packets dropped since their entry could not be inserted: a lost race, or a chain that was too long
	ChainTooLong  int64 `json:"chain_toolong" column:"chain_|toolong,rare"`            // packets dropped since the hash chain of their entry was too long
	ClashResolve  int64 `json:"clash_resolve" column:"clash_|resolve,rare"`            // races for a tuple that were resolved without a loss
	Invalid       int64 `json:"invalid"`                                               // packets that could not be tracked
	Found         int64 `json:"found"`                                                 // lookups for a free NAT tuple that found it in use
	SearchRestart int64 `json:"search_restart"`                                        // lookups that began again since the hash was resized
	Error         int64 `json:"error"`                                                 // packets that a protocol's tracker refused as broken
}

// NetCounters are counters of the network stack, the sums of IPv4 and IPv6. Names are the kernel's,
// in snake case.
type NetCounters struct {
	ListenOverflows     int64 `json:"listen_overflows" kernel:"TcpExt ListenOverflows" words:"listen queue overflows"` // the accept queue was full
	ListenDrops         int64 `json:"listen_drops" kernel:"TcpExt ListenDrops"`                                        // SYNs and ACKs that a listener dropped, overflows included
	SyncookiesSent      int64 `json:"syncookies_sent" kernel:"TcpExt SyncookiesSent"`
	ReqQFullDrop        int64 `json:"reqq_full_drop" kernel:"TcpExt TCPReqQFullDrop" words:"SYNs dropped at a full queue"`
	OutRsts             int64 `json:"out_rsts" kernel:"Tcp OutRsts" words:"resets sent by the DUT" cause:"refused"` // a closed port answers so
	UDPNoPorts          int64 `json:"udp_no_ports" kernel:"Udp NoPorts" words:"UDP datagrams to a closed port"`
	UDPInErrors         int64 `json:"udp_in_errors" kernel:"Udp InErrors"` // full buffers included
	UDPRcvbufErrors     int64 `json:"udp_rcvbuf_errors" kernel:"Udp RcvbufErrors" words:"UDP datagrams past a full buffer"`
	ICMPInErrors        int64 `json:"icmp_in_errors" kernel:"Icmp InErrors"`
	ICMPOutUnreach      int64 `json:"icmp_out_unreach" kernel:"Icmp OutDestUnreachs"`
	SoftnetDropped      int64 `json:"softnet_dropped" bits:"32" words:"packets dropped in softirq (softnet)"` // second column of /proc/net/softnet_stat: the backlog was full
	SoftnetProcessed    int64 `json:"softnet_processed,omitempty" bits:"32"`                                  // first column of /proc/net/softnet_stat
	SoftnetSqueezed     int64 `json:"softnet_squeezed,omitempty" bits:"32"`                                   // third column of /proc/net/softnet_stat: rounds of reception that ended early for want of time
	SyncookiesFailed    int64 `json:"syncookies_failed,omitempty" kernel:"TcpExt SyncookiesFailed"`
	TCPTimeouts         int64 `json:"tcp_timeouts,omitempty" kernel:"TcpExt TCPTimeouts"`
	TCPAbortOnMemory    int64 `json:"tcp_abort_on_memory,omitempty" kernel:"TcpExt TCPAbortOnMemory"`
	TCPBacklogDrop      int64 `json:"tcp_backlog_drop,omitempty" kernel:"TcpExt TCPBacklogDrop"`
	TCPTimeWaitOverflow int64 `json:"tcp_time_wait_overflow,omitempty" kernel:"TcpExt TCPTimeWaitOverflow"` // tcp_max_tw_buckets was reached
	TCPRetransSegs      int64 `json:"tcp_retrans_segs,omitempty" kernel:"Tcp RetransSegs"`
	TCPInErrs           int64 `json:"tcp_in_errs,omitempty" kernel:"Tcp InErrs"`
	TCPAttemptFails     int64 `json:"tcp_attempt_fails,omitempty" kernel:"Tcp AttemptFails"`
	UDPSndbufErrors     int64 `json:"udp_sndbuf_errors,omitempty" kernel:"Udp SndbufErrors"`
	ICMPOutErrors       int64 `json:"icmp_out_errors,omitempty" kernel:"Icmp OutErrors"`
	ICMPInUnreach       int64 `json:"icmp_in_unreach,omitempty" kernel:"Icmp InDestUnreachs"`
	IPInDiscards        int64 `json:"ip_in_discards,omitempty" kernel:"Ip InDiscards"`
	IPOutDiscards       int64 `json:"ip_out_discards,omitempty" kernel:"Ip OutDiscards"`
	IPOutNoRoutes       int64 `json:"ip_out_no_routes,omitempty" kernel:"Ip OutNoRoutes"`
	IPInHdrErrors       int64 `json:"ip_in_hdr_errors,omitempty" kernel:"Ip InHdrErrors"`
	IPInAddrErrors      int64 `json:"ip_in_addr_errors,omitempty" kernel:"Ip InAddrErrors"`
	IPReversePathFilter int64 `json:"ip_reverse_path_filter,omitempty" kernel:"TcpExt IPReversePathFilter"` // rp_filter
}

// Stack holds the other counters of the DUT's network stack in a trial, as differences between its
// end and its start: they explain failures that conntrack's counters do not.
type Stack struct {
	NetCounters
	LinkDropped  int64 `json:"link_dropped" words:"packets dropped at the link"`                 // rx_dropped + tx_dropped of the links under test
	QdiscDropped int64 `json:"qdisc_dropped" words:"packets dropped in the queueing discipline"` // of the links under test
	RulesDropped int64 `json:"rules_dropped" words:"packets dropped by rules"`                   // packets counted by DROP and REJECT rules and policies
	// MemoryFaults counts lines of the kernel's log about exhausted memory: a failed allocation, a
	// process killed for it. The kernel limits such lines: their presence says more than their
	// number. 0 where the log was not read.
	MemoryFaults int64 `json:"memory_faults,omitempty" words:"lines in the log of memory that ran out"`
	// DropReasons counts freed packets by the kernel's drop reason (kfree_skb, 5.17 and later).
	DropReasons map[string]int64 `json:"drop_reasons,omitempty"`
	// DropReasonsMissing says why they were not counted.
	DropReasonsMissing string `json:"drop_reasons_missing,omitempty"`
}

// Counter is a row of the table: a counter in the struct T.
type Counter[T any] struct {
	Name          string
	Kernel        string // prefix and name; empty where neither file has it
	Wraps         bool   // at 32 bits
	Column, Chart string // empty without one
	RareColumn    bool   // the column is left out where the counter did not rise
	RareCurve     bool   // so is the curve
	Words, Cause  string
	index         []int
}

// In returns a pointer to the counter in a struct that holds it.
func (c Counter[T]) In(all *T) *int64 {
	return reflect.ValueOf(all).Elem().FieldByIndex(c.index).Addr().Interface().(*int64)
}

// The rows of the table, in the order of the fields.
var (
	ConntrackCounters = counterTable[Counters]()
	NetworkCounters   = counterTable[NetCounters]()
	stackCounters     = counterTable[Stack]()
)

func counterTable[T any]() []Counter[T] {
	var rows []Counter[T]
	eachField(reflect.TypeFor[T](), func(name string, f reflect.StructField) {
		if f.Type.Kind() != reflect.Int64 {
			return
		}
		c := Counter[T]{
			Name: name, Kernel: f.Tag.Get("kernel"), Wraps: f.Tag.Get("bits") == "32",
			Words: f.Tag.Get("words"), Cause: f.Tag.Get("cause"), index: f.Index,
		}
		c.Column, c.RareColumn = strings.CutSuffix(f.Tag.Get("column"), ",rare")
		c.Chart, c.RareCurve = strings.CutSuffix(f.Tag.Get("chart"), ",rare")
		if _, file, named := strings.Cut(c.Kernel, " "); named && c.Words != "" {
			c.Words += " (" + file + ")"
		}
		rows = append(rows, c)
	})
	return rows
}

// Named returns the conntrack counter of that name, which must be in the table.
func Named(name string) Counter[Counters] {
	return ConntrackCounters[slices.IndexFunc(ConntrackCounters, func(c Counter[Counters]) bool { return c.Name == name })]
}

// Add adds the counts of other.
func (c *Counters) Add(other Counters) {
	for _, counter := range ConntrackCounters {
		*counter.In(c) += *counter.In(&other)
	}
}

// Since returns the difference to an earlier reading.
func (n NetCounters) Since(base NetCounters) NetCounters {
	for _, counter := range NetworkCounters {
		value := counter.In(&n)
		if *value -= *counter.In(&base); counter.Wraps && *value < 0 {
			*value += 1 << 32
		}
	}
	return n
}
