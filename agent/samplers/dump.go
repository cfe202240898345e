package samplers

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/ctload/ctload/agent/ctnetlink"
	"github.com/ctload/ctload/capture"
	"github.com/ctload/ctload/results"
)

// topAddresses is the number of source addresses, and of kinds of flows, that a dump names.
const topAddresses = 10

// Composition holds the contents of the table, from one walk over it.
type Composition struct {
	Entries int64         `json:"entries"` // seen by the walk, without those that expired meanwhile
	Assured int64         `json:"assured"` // early_drop may not evict these
	Took    time.Duration `json:"took_ns"`
	Source  string        `json:"source"` // sourceNetlink or sourceProcfs
	// States are sorted by falling number of entries.
	States []StateCount `json:"states,omitempty"`
	// Sources are the addresses with the most entries (of the original direction), sorted by
	// falling number of entries.
	Sources []results.SourceCount `json:"sources,omitempty"`
	// Addresses is the number of different source addresses; 0 when they were too many to count.
	Addresses int64 `json:"addresses,omitempty"`
	// Flows are the kinds of flows with the most entries, sorted by falling number of entries.
	Flows []results.FlowCount `json:"flows,omitempty"`
}

// StateCount counts the entries of one protocol in one state.
type StateCount struct {
	Protocol string `json:"protocol"` // tcp, udp, icmp, ..., or its number
	// State is as /proc/net/nf_conntrack spells it for protocols that have states (SYN_SENT,
	// TIME_WAIT); for others it is UNREPLIED or REPLIED.
	State   string `json:"state"`
	Entries int64  `json:"entries"`
	Assured int64  `json:"assured"`
}

// Dump walks the whole table once and returns its composition. Call it after the load: the walk
// locks bucket by bucket, frees expired entries, and takes 0.2 s or more for 100,000 entries on an
// idle machine. It reads entries in pieces of 64 KiB and counts them at once, which bounds memory.
//
// It asks ctnetlink (CAP_NET_ADMIN), which makes the kernel load nf_conntrack_netlink, else reads
// /proc/net/nf_conntrack (root, CONFIG_NF_CONNTRACK_PROCFS). A missing table is empty. When ctx
// ends first, Dump returns the counts so far with ctx's error.
func (s *Sampler) Dump(ctx context.Context) (Composition, error) {
	table, err := s.Table()
	if err != nil || !table.Loaded && !s.counters.present() {
		return Composition{}, err
	}
	started, tally := Monotonic(), newTableTally()
	source, err := tally.walk(ctx, filepath.Join(s.options.Proc, "net/nf_conntrack"))
	c := tally.composition(topAddresses)
	c.Source, c.Took = source, Monotonic()-started
	if err != nil {
		return c, fmt.Errorf("list the connection-tracking table: %w", err)
	}
	return c, nil
}

// walk counts the entries through ctnetlink, or through the file at path if that does not answer.
func (t *tableTally) walk(ctx context.Context, path string) (source string, err error) {
	err = ctnetlink.Walk(ctx, func(e ctnetlink.Entry) error { t.add(e); return nil })
	if err == nil || t.total > 0 || ctx.Err() != nil {
		return sourceNetlink, err
	}
	if fileErr := walkProc(ctx, path, t.add); fileErr != nil {
		return sourceProcfs, errors.Join(err, fileErr)
	}
	return sourceProcfs, nil
}

// tableTally counts entries in bounded memory.
type tableTally struct {
	total     int64
	states    map[stateKey]*StateCount
	addresses *heavyHitters[netip.Addr]
	flows     *heavyHitters[flowKey]
}

type stateKey struct {
	protocol, state uint8
	replied         bool
}

// flowKey holds the values that all entries of one kind of flow share.
type flowKey struct {
	stateKey
	to, leads netip.AddrPort // leads is zero without destination NAT
	from      netip.Addr     // that source NAT gives; zero without
}

// count returns the key in the words of the report.
func (k flowKey) count(entries, mistake int64) results.FlowCount {
	e := ctnetlink.Entry{State: k.state, Replied: k.replied}
	e.Protocol = k.protocol
	c := results.FlowCount{
		Protocol: e.ProtocolName(), State: e.StateName(), Destination: k.to.String(),
		Entries: entries, Error: mistake,
	}
	if k.leads.IsValid() {
		c.Leads = k.leads.String()
	}
	if k.from.IsValid() {
		c.From = k.from.String()
	}
	return c
}

// compare orders kinds of flows with equally many entries.
func (k flowKey) compare(other flowKey) int {
	return cmp.Or(k.to.Compare(other.to), k.leads.Compare(other.leads),
		k.from.Compare(other.from), cmp.Compare(k.protocol, other.protocol),
		cmp.Compare(k.state, other.state))
}

// keptAddresses bounds the memory for source addresses, at some 2 MiB. That many counters find
// every address with more than 1/16384 of the entries.
const keptAddresses = 1 << 14

// keptFlows does the same for kinds of flows, at some 1 MiB.
const keptFlows = 1 << 12

func newTableTally() *tableTally {
	return &tableTally{
		states:    map[stateKey]*StateCount{},
		addresses: newHeavyHitters[netip.Addr](keptAddresses),
		flows:     newHeavyHitters[flowKey](keptFlows),
	}
}

func (t *tableTally) add(e ctnetlink.Entry) {
	t.total++
	key := stateKey{protocol: e.Protocol, state: e.State}
	if e.State == ctnetlink.NoState {
		key.replied = e.Replied
	}
	count := t.states[key]
	if count == nil {
		count = &StateCount{Protocol: e.ProtocolName(), State: e.StateName()}
		t.states[key] = count
	}
	count.Entries++
	if e.Assured {
		count.Assured++
	}
	if e.Source.IsValid() {
		t.addresses.add(e.Source)
	}
	flow := flowKey{stateKey: key, to: netip.AddrPortFrom(e.Destination, e.DestinationPort)}
	if r := e.Reply; r.Source.IsValid() { // NAT translates where answers are not the reverse
		if leads := netip.AddrPortFrom(r.Source, r.SourcePort); leads != flow.to {
			flow.leads = leads
		}
		if r.Destination != e.Source || r.DestinationPort != e.SourcePort {
			flow.from = r.Destination
		}
	}
	t.flows.add(flow)
}

func (t *tableTally) composition(top int) Composition {
	c := Composition{Entries: t.total}
	for _, count := range t.states {
		c.Assured += count.Assured
		c.States = append(c.States, *count)
	}
	slices.SortFunc(c.States, func(a, b StateCount) int {
		return cmp.Or(cmp.Compare(b.Entries, a.Entries),
			cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.State, b.State))
	})
	for _, a := range t.addresses.top(top, netip.Addr.Compare) {
		c.Sources = append(c.Sources, results.SourceCount{
			Address: a.String(), Entries: t.addresses.count(a), Error: t.addresses.lowered,
		})
	}
	if t.addresses.lowered == 0 {
		c.Addresses = int64(len(t.addresses.counts))
	}
	for _, f := range t.flows.top(top, flowKey.compare) {
		c.Flows = append(c.Flows, f.count(t.flows.count(f), t.flows.lowered))
	}
	return c
}

// walkProc lists the table through /proc/net/nf_conntrack, line by line.
func walkProc(ctx context.Context, path string, each func(ctnetlink.Entry)) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 4<<10), 64<<10)
	for n := 0; lines.Scan(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		e, err := parseTableLine(lines.Text())
		if err != nil {
			return err
		}
		each(e)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// parseTableLine reads one line of /proc/net/nf_conntrack.
func parseTableLine(line string) (ctnetlink.Entry, error) {
	c, err := capture.ParseEntry(line)
	if err != nil {
		return ctnetlink.Entry{}, fmt.Errorf("%w: %.80q", err, line)
	}
	e := ctnetlink.Entry{
		Tuple: tupleOf(c.Original), Reply: tupleOf(c.Reply), State: ctnetlink.NoState,
		Replied: !c.Unreplied, Assured: c.Assured,
	}
	number, known := ctnetlink.Protocols[c.Protocol]
	if !known {
		n, err := strconv.ParseUint(c.Protocol, 10, 8)
		if err != nil {
			return ctnetlink.Entry{}, fmt.Errorf("protocol number: %w", err)
		}
		number = uint8(n)
	}
	e.Protocol = number
	if i := slices.Index(e.States(), c.State); i >= 0 {
		e.State = uint8(i)
	}
	return e, nil
}

func tupleOf(t capture.Tuple) ctnetlink.Tuple {
	return ctnetlink.Tuple{
		Source: t.Source, Destination: t.Destination,
		SourcePort: t.SourcePort, DestinationPort: t.DestinationPort,
	}
}

// heavyHitters counts the most frequent values of a stream in bounded memory: exactly up to as many
// different ones as its capacity, then by the algorithm of Misra and Gries (Finding Repeated
// Elements, 1982): a newcomer without room lowers every count by one, and values at 0 go.
type heavyHitters[K comparable] struct {
	capacity int
	counts   map[K]int64
	lowered  int64 // by how much every count may be too low
}

func newHeavyHitters[K comparable](capacity int) *heavyHitters[K] {
	return &heavyHitters[K]{capacity: capacity, counts: map[K]int64{}}
}

func (h *heavyHitters[K]) add(value K) {
	h.counts[value]++
	if len(h.counts) <= h.capacity {
		return
	}
	h.lowered++
	for v := range h.counts {
		if h.counts[v]--; h.counts[v] == 0 {
			delete(h.counts, v)
		}
	}
}

// count returns the most that a value may have come.
func (h *heavyHitters[K]) count(value K) int64 { return h.counts[value] + h.lowered }

// top returns the n most frequent values, equally frequent ones in the order of compare.
func (h *heavyHitters[K]) top(n int, compare func(a, b K) int) []K {
	values := slices.SortedFunc(maps.Keys(h.counts), func(a, b K) int {
		return cmp.Or(cmp.Compare(h.counts[b], h.counts[a]), compare(a, b))
	})
	return values[:min(n, len(values))]
}
