package results

import (
	"reflect"
	"slices"
	"strings"
)

// The structs in this file are the table of the counters: a field for each, with these tags
//
//	json    its name in run.json, in the agent's samples, in expressions, charts and other formats
//	kernel  its place in /proc/net/netstat and /proc/net/snmp, for IPv6 as well: the prefix, and
//	        the name if it is not the field's; [agent/samplers] reads every counter that has one
//	bits    "32" for one that wraps there
//	column  the head of its column in the table of a report, two lines separated by "|"
//	chart   its colour in the chart of refusals and evictions
//
// "rare" at the end of column or chart omits a counter that did not rise. Expressions, the schema
// of run.json, CSV and docs/fields.md have every counter, with its comment.

// Counters are the per-CPU counters of nf_conntrack, summed over the CPUs. In a [Trial] they are
// the difference between the end and the start of the trial; in a [Sample] they count from the
// baseline sample. Names follow the kernel's netlink attributes (CTA_STATS_*), except
// early_drop and chain_toolong, which have the spelling that operators know.
type Counters struct {
	// Drop counts the packets for new entries that the kernel refused, retries included.
	Drop int64 `json:"drop" column:"|drop" chart:"bad"`
	// EarlyDrop counts the entries not yet ASSURED that were evicted for new ones.
	EarlyDrop int64 `json:"early_drop" column:"early_|drop" chart:"c4"`
	// InsertFailed counts the packets dropped for a lost race or a chain that was too long.
	InsertFailed int64 `json:"insert_failed" column:"insert_|failed" chart:"c3,rare"`
	// ChainTooLong counts the packets dropped for a hash chain that was too long.
	ChainTooLong int64 `json:"chain_toolong" column:"chain_|toolong,rare"`
	// ClashResolve counts the races for a tuple that were resolved without a loss.
	ClashResolve  int64 `json:"clash_resolve" column:"clash_|resolve,rare"`
	Invalid       int64 `json:"invalid"`        // packets that could not be tracked
	Found         int64 `json:"found"`          // lookups for a free NAT tuple that found it in use
	SearchRestart int64 `json:"search_restart"` // lookups begun again since the hash was resized
	Error         int64 `json:"error"`          // packets that a tracker refused as broken
}

// NetCounters are counters of the network stack, IPv4 and IPv6 together, under the kernel's names.
type NetCounters struct {
	ListenOverflows int64 `json:"listen_overflows" kernel:"TcpExt"` // the accept queue was full
	// SYNs and ACKs that a listener dropped, overflows included.
	ListenDrops     int64 `json:"listen_drops" kernel:"TcpExt"`
	SyncookiesSent  int64 `json:"syncookies_sent" kernel:"TcpExt"`
	ReqQFullDrop    int64 `json:"reqq_full_drop" kernel:"TcpExt TCPReqQFullDrop"`
	OutRsts         int64 `json:"out_rsts" kernel:"Tcp"` // a closed port answers so
	UDPNoPorts      int64 `json:"udp_no_ports" kernel:"Udp NoPorts"`
	UDPInErrors     int64 `json:"udp_in_errors" kernel:"Udp InErrors"` // full buffers included
	UDPRcvbufErrors int64 `json:"udp_rcvbuf_errors" kernel:"Udp RcvbufErrors"`
	ICMPInErrors    int64 `json:"icmp_in_errors" kernel:"Icmp InErrors"`
	ICMPOutUnreach  int64 `json:"icmp_out_unreach" kernel:"Icmp OutDestUnreachs"`
	// SoftnetDropped is the second column of /proc/net/softnet_stat: the backlog was full.
	SoftnetDropped int64 `json:"softnet_dropped" bits:"32"`
	// SoftnetProcessed is the first column of /proc/net/softnet_stat.
	SoftnetProcessed int64 `json:"softnet_processed,omitempty" bits:"32"`
	// SoftnetSqueezed is the third column: rounds of reception that ended early for want of time.
	SoftnetSqueezed  int64 `json:"softnet_squeezed,omitempty" bits:"32"`
	SyncookiesFailed int64 `json:"syncookies_failed,omitempty" kernel:"TcpExt"`
	TCPTimeouts      int64 `json:"tcp_timeouts,omitempty" kernel:"TcpExt"`
	TCPAbortOnMemory int64 `json:"tcp_abort_on_memory,omitempty" kernel:"TcpExt"`
	TCPBacklogDrop   int64 `json:"tcp_backlog_drop,omitempty" kernel:"TcpExt"`
	// Sockets closed at once, since tcp_max_tw_buckets was reached.
	TCPTimeWaitOverflow int64 `json:"tcp_time_wait_overflow,omitempty" kernel:"TcpExt"`
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
	IPReversePathFilter int64 `json:"ip_reverse_path_filter,omitempty" kernel:"TcpExt"` // rp_filter
}

// Stack holds the other counters of the DUT's network stack in a trial, as differences between its
// end and its start: they explain failures that conntrack's counters do not.
type Stack struct {
	NetCounters
	LinkDropped  int64 `json:"link_dropped"`  // rx_dropped + tx_dropped of the links under test
	QdiscDropped int64 `json:"qdisc_dropped"` // of the links under test
	RulesDropped int64 `json:"rules_dropped"` // by DROP and REJECT rules and policies
	// MemoryFaults counts lines of the kernel's log about exhausted memory: a failed allocation, a
	// killed process. The kernel limits them: their presence says more. 0 where the log was not
	// read.
	MemoryFaults int64 `json:"memory_faults,omitempty"`
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
			Name: name, index: f.Index, Kernel: f.Tag.Get("kernel"),
			Wraps: f.Tag.Get("bits") == "32",
		}
		if c.Kernel != "" && !strings.Contains(c.Kernel, " ") {
			c.Kernel += " " + f.Name
		}
		c.Column, c.RareColumn = strings.CutSuffix(f.Tag.Get("column"), ",rare")
		c.Chart, c.RareCurve = strings.CutSuffix(f.Tag.Get("chart"), ",rare")
		rows = append(rows, c)
	})
	return rows
}

// Named returns the conntrack counter of that name, which must be in the table.
func Named(name string) Counter[Counters] {
	isNamed := func(c Counter[Counters]) bool { return c.Name == name }
	return ConntrackCounters[slices.IndexFunc(ConntrackCounters, isNamed)]
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
