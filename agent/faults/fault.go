// Package faults makes faults and emergency fixes on a running node, and takes them back: changes of the
// kernel's configuration under load, entries removed from the table, the clock set wrong, CPUs and memory
// taken away, servers stopped, a network card that loses frames.
//
// Every change is read back from the kernel before and after it ([Reading]). [Set] remembers what was
// there, and puts it back when the fault is reverted or the set is closed, which the agent does when its
// stream ends: a run that is killed leaves nothing on a node that outlives it.
package faults

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/internal/spelling"
)

// Kind is what a fault does.
type Kind string

// The kinds of fault. Those without "undone" in their comment change the kernel in a way that cannot be
// taken back: entries that are gone are gone.
const (
	// Sysctl sets kernel parameters, in their order. Undone: the values of before.
	Sysctl Kind = "sysctl"
	// Buckets resizes the hash of connection tracking, which stops all tracking for up to a fifth of a
	// second. Only in the initial network namespace. Undone: the size of before.
	Buckets Kind = "buckets"
	// RulesLoad loads rules with iptables-restore, ip6tables-restore or nft -f. Undone: the rules of
	// before, their counters from zero.
	RulesLoad Kind = "rules-load"
	// RulesRemove removes all packet filter rules of the network namespace, of iptables and nft.
	// Undone as RulesLoad.
	RulesRemove Kind = "rules-remove"
	// Flush removes every entry from the table, as conntrack -F.
	Flush Kind = "flush"
	// Delete removes the entries that match a filter, as conntrack -D.
	Delete Kind = "delete"
	// ModuleRemove removes all rules and then modules, each after those that depend on it. Undone: the
	// modules are loaded again, then the rules and the parameters of connection tracking of before.
	ModuleRemove Kind = "module-remove"
	// ClockJump sets CLOCK_REALTIME by an offset. Undone: it is set to where it would be without.
	ClockJump Kind = "clock-jump"
	// CPUThrottle takes a share of each CPU from all processes. Undone.
	CPUThrottle Kind = "cpu-throttle"
	// MemoryPressure takes memory until little is left. Undone.
	MemoryPressure Kind = "memory-pressure"
	// ServerStop ends responders with all their connections; connecting to them is refused. Undone:
	// they listen again.
	ServerStop Kind = "server-stop"
	// ServerStall stops responders without closing anything, as a process that hangs: the kernel still
	// accepts for them until their queues are full. Undone.
	ServerStall Kind = "server-stall"
	// ServerRestart ends responders and starts them again at once.
	ServerRestart Kind = "server-restart"
	// Network makes the node's own card lose, delay or change frames (netem in the node's kernel),
	// for labs whose links cannot. Undone.
	Network Kind = "network"
)

// kinds are all kinds of fault.
func kinds() []Kind {
	return []Kind{
		Sysctl, Buckets, RulesLoad, RulesRemove, Flush, Delete, ModuleRemove, ClockJump, CPUThrottle,
		MemoryPressure, ServerStop, ServerStall, ServerRestart, Network,
	}
}

// Fault is one fault with what its kind needs.
type Fault struct {
	ID   string `json:"id"` // names it in Revert; no two at a time share one
	Kind Kind   `json:"kind"`

	Sysctl  []tuning.Sysctl `json:"sysctl,omitempty"`  // Sysctl
	Buckets int             `json:"buckets,omitempty"` // Buckets; the kernel rounds it up to whole pages
	Rules   Rules           `json:"rules,omitzero"`    // RulesLoad
	Delete  Filter          `json:"delete,omitzero"`   // Delete
	Modules []string        `json:"modules,omitempty"` // ModuleRemove; empty: nf_conntrack
	Clock   time.Duration   `json:"clock,omitempty"`   // ClockJump: forwards, or backwards where negative
	// CPU is the share of each CPU that is taken, above 0 and at most 0.95 (CPUThrottle).
	CPU float64 `json:"cpu,omitempty"`
	// Leave is how much memory in bytes stays free (MemoryPressure); 0: so little that allocations in
	// interrupts, as those of connection tracking, fail under load.
	Leave int64 `json:"leave,omitempty"`
	// Ports choose the responders that have one of them (ServerStop, ServerStall, ServerRestart); empty:
	// all of the node.
	Ports []uint16 `json:"ports,omitempty"`
	// Card and Conditions are for Network: the MAC of the card, empty for the only one. The carrier is
	// not the node's own to take away.
	Card       string          `json:"card,omitempty"`
	Conditions link.Conditions `json:"conditions,omitzero"`
}

// Rules are rules to load. Exactly as the real tools do, a text of iptables-save replaces the tables that
// it names and leaves the others alone, and an nft script does what its statements say (it begins with
// flush ruleset where it is to replace).
type Rules struct {
	IPv4    string `json:"ipv4,omitempty"`    // in the format of iptables-save
	IPv6    string `json:"ipv6,omitempty"`    // in that of ip6tables-save
	Backend string `json:"backend,omitempty"` // of both; nft (the default) or tuning.BackendLegacy
	NFT     string `json:"nft,omitempty"`     // a script, loaded after the others
	// Add keeps what is in the tables that IPv4 and IPv6 name, as iptables-restore --noflush: -A lines
	// add to it, -D lines delete from it.
	Add bool `json:"add,omitempty"`
}

// Filter chooses entries of the table by what is known of their original direction. A field that is empty
// matches every entry, but not all may be empty: that is Flush.
type Filter struct {
	Protocol string `json:"protocol,omitempty"` // tcp, udp, icmp, icmpv6, sctp, dccp, gre, udplite or a number
	State    string `json:"state,omitempty"`    // of tcp, as /proc/net/nf_conntrack spells it: TIME_WAIT
	// Source and Destination are addresses or networks in CIDR notation.
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	Port        uint16 `json:"port,omitempty"`        // of the destination
	SourcePort  uint16 `json:"source_port,omitempty"` // of the source
	Unassured   bool   `json:"unassured,omitempty"`   // only entries that early_drop may evict
}

// empty reports whether the filter matches every entry.
func (f Filter) empty() bool { return f == Filter{} }

// maxCPU is the largest share of a CPU that CPUThrottle takes: the kernel itself keeps 5 % from real-time
// processes (sched_rt_runtime_us).
const maxCPU = 0.95

// Reading is what a fault did, as the kernel told before and after it.
type Reading struct {
	ID      string   `json:"id"`
	Figures []Figure `json:"figures,omitempty"`
	// Began is the node's CLOCK_MONOTONIC when the change began, the clock of its samples; Took is the
	// change alone, without the readings around it.
	Began time.Duration `json:"began_ns"`
	Took  time.Duration `json:"took_ns"`
	// Sent and Received are what netem does to the node's card after it (Network).
	Sent     link.Conditions `json:"sent,omitzero"`
	Received link.Conditions `json:"received,omitzero"`
	// Remarks are what else a reader should know, a sentence each: that the kernel rounded a number, that a
	// module had to be loaded for it.
	Remarks []string `json:"remarks,omitempty"`
}

// Figure is one thing before and after. What is not there is empty.
type Figure struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Undoable reports whether Revert has anything to put back.
func (k Kind) Undoable() bool {
	return !slices.Contains([]Kind{Flush, Delete, ServerRestart}, k)
}

// Validate says what in the fault is missing, out of range or not for its kind, without looking at any
// kernel.
func (f Fault) Validate() error {
	if !slices.Contains(kinds(), f.Kind) {
		return fmt.Errorf("fault %q: no such kind%s", f.Kind, spelling.Hint(f.Kind, kinds()))
	}
	if err := f.parameters(); err != nil {
		return fmt.Errorf("%s: %w", f.Kind, err)
	}
	return nil
}

func (f Fault) parameters() error {
	switch f.Kind {
	case Sysctl:
		if len(f.Sysctl) == 0 {
			return errors.New("no parameter is given")
		}
		return tuning.Settings{Sysctl: f.Sysctl}.Validate()
	case Buckets:
		if f.Buckets <= 0 {
			return fmt.Errorf("%d buckets: not a size", f.Buckets)
		}
	case RulesLoad:
		if f.Rules.IPv4+f.Rules.IPv6+f.Rules.NFT == "" {
			return errors.New("no rules are given")
		}
		return f.Rules.settings().Validate()
	case Delete:
		if f.Delete.empty() {
			return fmt.Errorf("no filter is given; for all entries there is %s", Flush)
		}
		_, err := f.Delete.compile()
		return err
	case ModuleRemove:
		return tuning.Settings{RemoveModules: f.modules()}.Validate()
	case ClockJump:
		if f.Clock == 0 {
			return errors.New("by no time at all")
		}
	case CPUThrottle:
		if !(f.CPU > 0 && f.CPU <= maxCPU) {
			return fmt.Errorf("share %v: not above 0 and at most %v", f.CPU, maxCPU)
		}
	case MemoryPressure:
		if f.Leave < 0 {
			return fmt.Errorf("%d bytes to be left", f.Leave)
		}
	case Network:
		if f.Conditions.Down {
			return errors.New("a node cannot take its own carrier away; the lab can")
		}
		return f.Conditions.Validate()
	}
	return nil
}

func (f Fault) modules() []string {
	if len(f.Modules) == 0 {
		return []string{"nf_conntrack"}
	}
	return f.Modules
}

func (r Rules) settings() tuning.Settings {
	return tuning.Settings{Rules: r.IPv4, Rules6: r.IPv6, NFT: r.NFT, RulesBackend: r.Backend}
}
