package samplers

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/procfs"

	"github.com/ctload/ctload/results"
)

// DefaultSystemInterval is the default time between samples that hold [System], which costs several
// times the rest of a sample.
const DefaultSystemInterval = time.Second

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
	return CPU{
		Count: c.Count, User: c.User - base.User, System: c.System - base.System, IRQ: c.IRQ - base.IRQ,
		SoftIRQ: c.SoftIRQ - base.SoftIRQ, Steal: c.Steal - base.Steal, Idle: c.Idle - base.Idle,
	}
}

// systemReader reads the machine's figures since boot.
type systemReader struct {
	proc      procfs.FS
	protocols *protocolReader
	links     *linkReader
	drops     *dropWatcher // nil until WatchDrops
	buffer    []byte
}

func newSystemReader(proc string) (*systemReader, error) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return nil, fmt.Errorf("open procfs on %s: %w", proc, err)
	}
	return &systemReader{proc: fs, protocols: newProtocolReader(proc), buffer: make([]byte, 64<<10)}, nil
}

func (r *systemReader) close() error {
	if r.links != nil {
		r.links.close()
	}
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
	if err := r.protocols.read(&s.Network, r.buffer); err != nil {
		problem("the protocols' counters", err)
	}
	if r.drops != nil {
		var err error
		if s.Drops, err = r.drops.read(); err != nil {
			problem("the reasons of drops", err)
		}
	}
	if r.links == nil {
		var err error
		if r.links, err = newLinkReader(); err != nil {
			problem("the links", err)
			return s
		}
	}
	var err error
	if s.Links, err = r.links.read(); err != nil {
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
	started := monotonic()
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
	now.Took = monotonic() - started
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
