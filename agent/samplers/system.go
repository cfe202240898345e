package samplers

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/results"
)

// systemInterval is the time between samples that hold [System], which costs several times the
// rest of a sample.
const systemInterval = time.Second

// System holds other causes of a failed connection or an untrustworthy figure: time, memory and the
// losses of the other parts of the network stack. Counters and times are since the last Mark
// (without one, since the first sample that held them); fields called gauges are of the moment. The
// network figures are the namespace's, time and memory the machine's.
type System struct {
	Took time.Duration `json:"took_ns"` // time that this reading took
	CPU  CPU           `json:"cpu"`
	// MemoryAvailable and SlabUnreclaimable are gauges in bytes. The latter includes the entries of
	// connection tracking and their extensions, among the kernel's other allocations.
	MemoryTotal       int64 `json:"memory_total"`
	MemoryAvailable   int64 `json:"memory_available"`
	SlabUnreclaimable int64 `json:"slab_unreclaimable"`
	// Network holds counters of the network stack since the mark.
	Network results.NetCounters `json:"network"`
	Links   []LinkLoss          `json:"links,omitempty"`
	// Expectations is a gauge: connections that helpers wait for; -1 when unknown.
	Expectations int64 `json:"expectations"`
	// Drops are packets by the kernel's reason for dropping them, of the whole machine; nil unless
	// WatchDrops has succeeded. Reasons are spelt as in enum skb_drop_reason, without its prefix.
	Drops    map[string]int64 `json:"drops,omitempty"`
	Problems []string         `json:"problems,omitempty"` // unreadable sources; their figures are 0
}

// CPU is time in seconds since the mark, summed over all CPUs; the kernel counts it in ticks of 10
// ms.
type CPU struct {
	Count   int     `json:"count"` // CPUs online
	User    float64 `json:"user"`  // with nice
	System  float64 `json:"system"`
	IRQ     float64 `json:"irq"`
	SoftIRQ float64 `json:"softirq"` // receives and tracks packets
	Steal   float64 `json:"steal"`   // taken by the hypervisor; 0 where unknown, as under TCG
	Idle    float64 `json:"idle"`    // with iowait
}

func (c CPU) since(base CPU) CPU {
	c.User -= base.User
	c.System -= base.System
	c.IRQ -= base.IRQ
	c.SoftIRQ -= base.SoftIRQ
	c.Steal -= base.Steal
	c.Idle -= base.Idle
	return c
}

// systemReader reads the machine's figures since boot.
type systemReader struct {
	proc      procfs.FS
	protocols procFiles
	links     *netlink.Handle // needs no privilege
	drops     *dropWatcher    // nil until WatchDrops
	buffer    []byte
}

func newSystemReader(proc string) (*systemReader, error) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return nil, fmt.Errorf("open procfs on %s: %w", proc, err)
	}
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &systemReader{
		proc: fs, protocols: protocolFiles(proc), links: links, buffer: make([]byte, 64<<10),
	}, nil
}

func (r *systemReader) close() error {
	r.links.Close()
	return errors.Join(r.protocols.close(), r.drops.close())
}

// read reads every readable figure; each other one is a problem.
func (r *systemReader) read() System {
	s := System{Expectations: -1}
	problem := func(what string, err error) {
		s.Problems = append(s.Problems, fmt.Sprintf("read %s: %v", what, err))
	}
	if stat, err := r.proc.Stat(); err != nil {
		problem("the CPUs' time", err)
	} else {
		t := stat.CPUTotal
		s.CPU = CPU{
			Count: len(stat.CPU), User: t.User + t.Nice, System: t.System, IRQ: t.IRQ,
			SoftIRQ: t.SoftIRQ, Steal: t.Steal, Idle: t.Idle + t.Iowait,
		}
	}
	if memory, err := r.proc.Meminfo(); err != nil {
		problem("the memory", err)
	} else {
		s.MemoryTotal = value(memory.MemTotalBytes)
		s.MemoryAvailable = value(memory.MemAvailableBytes)
		s.SlabUnreclaimable = value(memory.SUnreclaimBytes)
	}
	if softnet, err := r.proc.NetSoftnetStat(); err != nil {
		problem("the backlog of reception", err)
	} else {
		for _, cpu := range softnet {
			s.Network.SoftnetProcessed += int64(cpu.Processed)
			s.Network.SoftnetDropped += int64(cpu.Dropped)
			s.Network.SoftnetSqueezed += int64(cpu.TimeSqueezed)
		}
	}
	if err := readProtocols(r.protocols, &s.Network, r.buffer); err != nil {
		problem("the protocols' counters", err)
	}
	if r.drops != nil {
		var err error
		if s.Drops, err = r.drops.read(); err != nil {
			problem("the reasons of drops", err)
		}
	}
	var err error
	if s.Links, err = r.readLinks(); err != nil {
		problem("the links", err)
	}
	return s
}

// value returns a figure, or 0 when the kernel lacks it.
func value(p *uint64) int64 {
	if p == nil {
		return 0
	}
	return int64(*p)
}

// system reads the machine's figures, relative to the mark.
func (s *Sampler) system(loaded bool) *System {
	started := Monotonic()
	now := s.machine.read()
	if s.base == nil {
		base := now
		base.Links, base.Drops = slices.Clone(now.Links), maps.Clone(now.Drops)
		s.base = &base
	}
	now.CPU = now.CPU.since(s.base.CPU)
	now.Network = now.Network.Since(s.base.Network)
	now.Links = linksSince(now.Links, s.base.Links)
	now.Drops = dropsSince(now.Drops, s.base.Drops)
	now.Expectations = s.counters.expectations(loaded)
	now.Took = Monotonic() - started
	return &now
}

// WatchDrops begins to count dropped packets by the kernel's reason, for System.Drops. It needs
// Linux 5.17 with BTF, and CAP_BPF and CAP_PERFMON in the initial user namespace; the error says
// what is missing. Each dropped packet costs some ten instructions, and the start takes a moment to
// read the kernel's types.
func (s *Sampler) WatchDrops() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine.drops != nil {
		return nil
	}
	drops, err := watchDrops()
	if err != nil {
		return fmt.Errorf("watch the reasons of drops: %w", err)
	}
	s.machine.drops = drops
	return nil
}

// LinkLoss counts a link's packets and losses since the mark, in packets. A link that appeared
// after the mark counts in full.
type LinkLoss struct {
	Name         string `json:"name"`
	RxPackets    int64  `json:"rx_packets"`
	TxPackets    int64  `json:"tx_packets"`
	RxDropped    int64  `json:"rx_dropped"` // no buffer, or no receiving protocol
	TxDropped    int64  `json:"tx_dropped"`
	RxErrors     int64  `json:"rx_errors"`
	TxErrors     int64  `json:"tx_errors"`
	RxMissed     int64  `json:"rx_missed"` // lost by the device itself
	QdiscDropped int64  `json:"qdisc_dropped"`
	// QueueLength is a gauge: packets that wait in the queueing discipline.
	QueueLength int64 `json:"queue_length"`

	qdiscDropped uint32 // as the kernel counts: 32 bits
}

// readLinks asks rtnetlink for the counters of links and their root queueing disciplines.
func (r *systemReader) readLinks() ([]LinkLoss, error) {
	links, err := r.links.LinkList()
	// An interrupted dump is complete but may mix two states: good enough for counters.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list the links: %w", err)
	}
	losses := make([]LinkLoss, 0, len(links))
	places := make(map[int]int, len(links))
	for _, link := range links {
		attributes := link.Attrs()
		loss := LinkLoss{Name: attributes.Name}
		if s := attributes.Statistics; s != nil {
			loss.RxPackets, loss.TxPackets = int64(s.RxPackets), int64(s.TxPackets)
			loss.RxDropped, loss.TxDropped = int64(s.RxDropped), int64(s.TxDropped)
			loss.RxErrors, loss.TxErrors = int64(s.RxErrors), int64(s.TxErrors)
			loss.RxMissed = int64(s.RxMissedErrors)
		}
		places[attributes.Index] = len(losses)
		losses = append(losses, loss)
	}
	queues, err := r.links.QdiscList(nil)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return losses, fmt.Errorf("list the queueing disciplines: %w", err)
	}
	for _, queue := range queues {
		attributes := queue.Attrs()
		place, known := places[attributes.LinkIndex]
		s := attributes.Statistics
		// A root counts its children's drops.
		if !known || attributes.Parent != netlink.HANDLE_ROOT || s == nil || s.Queue == nil {
			continue
		}
		losses[place].qdiscDropped = s.Queue.Drops
		losses[place].QdiscDropped = int64(s.Queue.Drops)
		losses[place].QueueLength = int64(s.Queue.Qlen)
	}
	return losses, nil
}

// linksSince returns the difference from an earlier reading, link by link.
func linksSince(now, base []LinkLoss) []LinkLoss {
	for i := range now {
		n := &now[i]
		place := slices.IndexFunc(base, func(b LinkLoss) bool { return b.Name == n.Name })
		if place < 0 {
			continue
		}
		b := base[place]
		n.RxPackets -= b.RxPackets
		n.TxPackets -= b.TxPackets
		n.RxDropped -= b.RxDropped
		n.TxDropped -= b.TxDropped
		n.RxErrors -= b.RxErrors
		n.TxErrors -= b.TxErrors
		n.RxMissed -= b.RxMissed
		n.QdiscDropped = int64(n.qdiscDropped - b.qdiscDropped) // modulo 2^32
	}
	return now
}

// netCounter is the place of a counter.
type netCounter = results.Counter[results.NetCounters]

// The counters of these files in the table of results: of netstat and snmp by the kernel's prefix
// and name, of snmp6 by its one word for both.
var (
	netCounters  = map[string]map[string]netCounter{}
	netCounters6 = map[string]netCounter{}
)

func init() {
	for _, c := range results.NetworkCounters {
		prefix, name, ok := strings.Cut(c.Kernel, " ")
		if !ok {
			continue
		}
		if netCounters[prefix] == nil {
			netCounters[prefix] = map[string]netCounter{}
		}
		netCounters[prefix][name] = c
		netCounters6[prefix+"6"+name] = c
	}
}

// protocolFiles returns the files with the protocols' counters.
func protocolFiles(proc string) procFiles {
	return newProcFiles(filepath.Join(proc, "net"), "netstat", "snmp", "snmp6")
}

// readProtocols adds the protocols' counters to n. prometheus/procfs reads these files too, at five
// times the cost: it converts each of some 400 counters.
func readProtocols(files procFiles, n *results.NetCounters, buffer []byte) error {
	for i := range files {
		text, err := files[i].read(buffer)
		six := filepath.Base(files[i].path) == "snmp6"
		switch {
		case six && errors.Is(err, unix.ENOENT):
			return nil // IPv6 is off
		case err != nil:
			return err
		case six:
			err = addCounters6(n, text)
		default:
			err = addCounters(n, text)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", files[i].path, err)
		}
	}
	return nil
}

var errCounterFormat = errors.New("not a table of counters")

// addCounters reads pairs of lines, the first with the names and the second with the values, both
// after the same prefix. Names that older kernels lack stay 0.
func addCounters(n *results.NetCounters, text []byte) error {
	for len(text) > 0 {
		var names, values []byte
		names, text, _ = bytes.Cut(text, []byte("\n"))
		values, text, _ = bytes.Cut(text, []byte("\n"))
		prefix, names, ok := bytes.Cut(names, []byte(":"))
		prefix2, values, ok2 := bytes.Cut(values, []byte(":"))
		if !ok || !ok2 || !bytes.Equal(prefix, prefix2) {
			return fmt.Errorf("%w: %.40q above %.40q", errCounterFormat, prefix, prefix2)
		}
		wanted := netCounters[string(prefix)]
		if wanted == nil {
			continue
		}
		for {
			var name, value []byte
			name, names = nextWord(names)
			value, values = nextWord(values)
			if len(name) == 0 && len(value) == 0 {
				break
			}
			if len(name) == 0 || len(value) == 0 {
				return fmt.Errorf("%w: not as many values as names of %q", errCounterFormat, prefix)
			}
			if err := addValue(n, wanted, name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// addCounters6 reads lines of a name and a value.
func addCounters6(n *results.NetCounters, text []byte) error {
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		name, rest := nextWord(line)
		value, _ := nextWord(rest)
		if err := addValue(n, netCounters6, name, value); err != nil {
			return err
		}
	}
	return nil
}

// addValue adds a value to its counter, if that is wanted.
func addValue(n *results.NetCounters, wanted map[string]netCounter, name, text []byte) error {
	counter, ok := wanted[string(name)]
	if !ok {
		return nil
	}
	value, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", name, errCounterFormat, err)
	}
	*counter.In(n) += value
	return nil
}

// nextWord cuts the first word from a line, empty at its end.
func nextWord(line []byte) (word, rest []byte) {
	line = bytes.TrimLeft(line, " \t")
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		return line[:i], line[i:]
	}
	return line, nil
}
