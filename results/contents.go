package results

import "fmt"

// Contents is what the table held when the watch over a trial had ended, from one walk over it
// (never during the load), and the memory that it took then.
type Contents struct {
	Entries int64        `json:"entries"`          // entries in the table
	Assured int64        `json:"assured"`          // entries that early_drop may not evict
	States  []StateCount `json:"states,omitempty"` // by falling number of entries
	// Sources are the addresses of the most entries, by falling number.
	Sources   []SourceCount `json:"sources,omitempty"`
	Addresses int64         `json:"addresses"`  // different source addresses; 0: too many to count
	SlabBytes int64         `json:"slab_bytes"` // pages of the slab nf_conntrack; 0: unknown
	HashBytes int64         `json:"hash_bytes"` // memory of the hash
}

// StateCount is the number of entries of one protocol in one state, which is UNREPLIED or REPLIED
// for protocols without states.
type StateCount struct {
	Protocol string `json:"protocol"`
	State    string `json:"state"`
	Entries  int64  `json:"entries"`
}

// SourceCount is the number of entries from one address: between Entries - Error and Entries.
type SourceCount struct {
	Address string `json:"address"`
	Entries int64  `json:"entries"`
	Error   int64  `json:"error,omitempty"`
}

// CPU is the time of the DUT's CPUs in seconds, summed over all of them, from the baseline sample
// to the last; the kernel counts it in ticks.
type CPU struct {
	Count   int     `json:"count"`     // CPUs of the guest
	User    float64 `json:"user_s"`    // time in programs
	System  float64 `json:"system_s"`  // time in the kernel for programs
	IRQ     float64 `json:"irq_s"`     // time in interrupts
	SoftIRQ float64 `json:"softirq_s"` // where packets are received, tracked and filtered
	Steal   float64 `json:"steal_s"`   // taken by the hypervisor; 0 where unknown, as under tcg
	Idle    float64 `json:"idle_s"`    // time without work
}

// total returns the sum of all times.
func (c CPU) total() float64 { return c.User + c.System + c.IRQ + c.SoftIRQ + c.Steal + c.Idle }

// StealShare returns the share of the time that the hypervisor gave to others.
func (c CPU) StealShare() float64 { return c.share(c.Steal) }

// SoftIRQShare returns the share of the time in softirq.
func (c CPU) SoftIRQShare() float64 { return c.share(c.SoftIRQ) }

func (c CPU) share(part float64) float64 {
	if all := c.total(); all > 0 {
		return part / all
	}
	return 0
}

// contentsWords words what a troubled trial left in the table: the states that hold half of it or
// more, and the address of the most entries.
func contentsWords(t *Trial) string {
	c := t.Contents
	if c == nil || !troubled(t) || c.Entries == 0 {
		return ""
	}
	s := fmt.Sprintf("At the end the table held %s, %s of them ASSURED", entries(c.Entries), Count(c.Assured))
	for i, state := range c.States[:min(2, len(c.States))] {
		if i > 0 && 20*state.Entries < c.Entries {
			break
		}
		s += fmt.Sprintf(", %s %s %s", Count(state.Entries), state.Protocol, state.State)
	}
	if len(c.Sources) > 0 {
		top := c.Sources[0]
		s += fmt.Sprintf("; the most from one address were %s (%s)", Count(top.Entries), top.Address)
	}
	if c.SlabBytes > 0 {
		s += fmt.Sprintf("; they took %s of slab memory, and the hash %s", Bytes(c.SlabBytes), Bytes(c.HashBytes))
	}
	return s + "."
}
