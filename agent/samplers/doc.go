// Package samplers reads the kernel under load: the fill of the connection-tracking table and its
// counters, the kernel log, and other causes of a failed connection.
//
// Sampling never walks the table: a sample costs the same at a thousand entries and at a million.
// Reading changes as little as possible: it does not load nf_conntrack, so that a guest without
// connection tracking stays without it, and it opens no listener for events, since the kernel then
// keeps more for each entry. [Sampler.Dump] walks the table; call it after the load.
//
// The source of each figure, the oldest kernel that has it, and the result without:
//
//	count, max, buckets    /proc/sys/net/netfilter, any kernel; hidden from an ordinary user's
//	                       namespace before 5.7: then ctnetlink (max since 4.18), without buckets
//	counters               /proc/net/stat/nf_conntrack (CONFIG_NF_CONNTRACK_PROCFS: Debian yes,
//	                       Ubuntu no), else ctnetlink (CAP_NET_ADMIN); search_restart since
//	                       2.6.35, clash_resolve since 5.10, chain_toolong since 5.15: see
//	                       Sources.Absent
//	expectations           the same
//	kernel log             /dev/kmsg, 3.5; CAP_SYSLOG where kernel.dmesg_restrict is 1; else
//	                       Sample.Log is nil
//	time, memory, losses   /proc/stat, /proc/meminfo (available memory since 3.14), /proc/net,
//	                       rtnetlink; no privilege
//	drops by reason        a program at the tracepoint kfree_skb, 5.17 with BTF; CAP_BPF and
//	                       CAP_PERFMON; else WatchDrops says why not
//	contents of the table  ctnetlink, else /proc/net/nf_conntrack (root)
//	memory of the entries  /proc/slabinfo (root); else an error that is ErrNoSlab
//
// The table's figures, counters and losses are those of the network namespace of the process; the
// kernel log, time, memory, slab and drops by reason are the machine's.
package samplers
