// Package actions tells in one table what each kind of action is, a fault or an emergency fix on
// the time line of a trial. docs/language.md says what a kind does; [agent/faults] does it on a
// node, or else the orchestrator.
package actions

import (
	"time"

	"github.com/ctload/ctload/internal/kernels"
)

// Kind is what an action does.
type Kind string

// The kinds of action.
const (
	Sysctl         Kind = "sysctl"
	Buckets        Kind = "buckets"
	RulesLoad      Kind = "rules-load"
	RulesRemove    Kind = "rules-remove"
	Flush          Kind = "flush"
	Delete         Kind = "delete"
	ModuleRemove   Kind = "module-remove"
	ClockJump      Kind = "clock-jump"
	CPUThrottle    Kind = "cpu-throttle"
	MemoryPressure Kind = "memory-pressure"
	ServerStop     Kind = "server-stop"
	ServerStall    Kind = "server-stall"
	ServerRestart  Kind = "server-restart"
	Pause          Kind = "pause"
	Reset          Kind = "reset"
	Network        Kind = "network"
	LinkDown       Kind = "link-down"
	Partition      Kind = "partition"
	Join           Kind = "join"
)

// Owned is what an action has for itself while it lasts: of two actions on it at a time the end of
// one would be the end of both.
type Owned string

// What an action can own.
const (
	Nothing Owned = ""
	Node    Owned = "the node"
	Links   Owned = "the node's links" // all of them
	Link    Owned = "the link"         // or all links of the node, where it names only that
)

// Fact is a row of the table.
type Fact struct {
	Kind Kind
	Keys []string // of the language, beside those of every action
	// Words say in reports what was done; empty where that depends on the action's parameters.
	Words   string
	Once    bool   // it is over at once, and nothing can be taken back
	Owns    Owned  // while it lasts
	Stops   bool   // the DUT gives no samples meanwhile
	Starves bool   // allocations may fail: such lines in the kernel's log are the point
	Stays   bool   // it lasts until the last sample was taken, which it does not disturb
	Host    string // what would change for the whole host, were the node a namespace of it
}

// Table has the kinds in the order of the documentation.
var Table = []Fact{
	{Kind: Sysctl, Keys: []string{"node", "sysctl"}, Stays: true},
	{Kind: Buckets, Keys: []string{"node", "buckets"}, Stays: true},
	{
		Kind: RulesLoad, Keys: []string{"node", "rules", "rules6", "nft", "add"},
		Words: "rules loaded",
	},
	{Kind: RulesRemove, Keys: []string{"node"}, Words: "all rules removed"},
	{Kind: Flush, Keys: []string{"node"}, Words: "all entries removed", Once: true},
	{Kind: Delete, Keys: append([]string{"node"}, FilterKeys...), Once: true},
	{Kind: ModuleRemove, Keys: []string{"node", "modules"}, Host: "the kernel's modules"},
	{Kind: ClockJump, Keys: []string{"node", "by"}, Host: "the clock"},
	{Kind: CPUThrottle, Keys: []string{"node", "share"}, Host: "the CPUs"},
	{Kind: MemoryPressure, Keys: []string{"node", "leave"}, Starves: true, Host: "the memory"},
	{Kind: ServerStop, Keys: []string{"node", "ports"}, Words: "servers stopped"},
	{Kind: ServerStall, Keys: []string{"node", "ports"}, Words: "servers stalled"},
	{Kind: ServerRestart, Keys: []string{"node", "ports"}, Words: "servers restarted", Once: true},
	{Kind: Pause, Keys: []string{"node"}, Words: "paused", Owns: Node, Stops: true},
	{
		Kind: Reset, Keys: []string{"node"}, Words: "reset without warning", Once: true,
		Owns: Node, Stops: true,
	},
	{Kind: Network, Keys: append([]string{"link", "direction"}, ConditionKeys...), Owns: Link},
	{Kind: LinkDown, Keys: []string{"link"}, Owns: Link},
	{Kind: Partition, Keys: []string{"node"}, Owns: Links},
	{Kind: Join, Keys: []string{"entry"}, Once: true},
}

// Keys of which an action needs one.
var (
	FilterKeys = []string{
		"protocol", "state", "source", "destination", "port", "source-port", "unassured",
	}
	ConditionKeys = []string{"loss", "delay", "jitter", "reorder", "duplicate", "corrupt", "rate"}
)

// Fact returns the row of a kind; the zero Fact where the table has none.
func (k Kind) Fact() Fact {
	for _, fact := range Table {
		if fact.Kind == k {
			return fact
		}
	}
	return Fact{}
}

// OnLinks reports whether the action changes links of a node.
func (f Fact) OnLinks() bool { return f.Owns == Link || f.Owns == Links }

// Undoable reports whether there is anything to take back: entries that are gone are gone.
func (k Kind) Undoable() bool { return !k.Fact().Once }

// Words are the valid values.
func (Kind) Words() []string {
	words := make([]string, len(Table))
	for i, fact := range Table {
		words[i] = string(fact.Kind)
	}
	return words
}

// Fault is one fault with what its kind needs.
type Fault struct {
	ID   string `json:"id"` // names it in Revert; no two at a time share one
	Kind Kind   `json:"kind"`

	Sysctl  []kernels.Setting `json:"sysctl,omitempty"`  // Sysctl
	Buckets int               `json:"buckets,omitempty"` // Buckets; the kernel rounds up to pages
	Rules   Rules             `json:"rules,omitzero"`    // RulesLoad
	Delete  Filter            `json:"delete,omitzero"`   // Delete
	Modules []string          `json:"modules,omitempty"` // ModuleRemove; empty: nf_conntrack
	Clock   time.Duration     `json:"clock,omitempty"`   // ClockJump: backwards where negative
	CPU     float64           `json:"cpu,omitempty"`     // CPUThrottle: the share taken, 0 to 0.95
	// Leave is how much memory in bytes stays free (MemoryPressure); 0: so little that allocations
	// in interrupts, as those of connection tracking, fail under load.
	Leave int64 `json:"leave,omitempty"`
	// Ports choose the responders that have one of them (ServerStop, ServerStall, ServerRestart);
	// empty: all of the node.
	Ports []uint16 `json:"ports,omitempty"`
	// Card and Conditions are for Network: the MAC of the card, empty for the only one. The carrier
	// is not the node's own to take away.
	Card       string     `json:"card,omitempty"`
	Conditions Conditions `json:"conditions,omitzero"`
}

// Rules are rules to load, exactly as the real tools do: a text of iptables-save replaces the
// tables that it names, and an nft script does what its statements say. To replace all rules it
// begins with flush ruleset.
type Rules struct {
	IPv4    string `json:"ipv4,omitempty"`    // in the format of iptables-save
	IPv6    string `json:"ipv6,omitempty"`    // in that of ip6tables-save
	Backend string `json:"backend,omitempty"` // of both; nft (the default) or legacy
	NFT     string `json:"nft,omitempty"`     // a script, loaded after the others
	// Add keeps what is in the tables that IPv4 and IPv6 name, as iptables-restore --noflush: -A
	// lines add to it, -D lines delete from it.
	Add bool `json:"add,omitempty"`
}

// Filter chooses entries of the table by their original direction. A field that is empty matches
// every entry, but not all may be empty: that is Flush.
type Filter struct {
	// Protocol is tcp, udp, icmp, icmpv6, sctp, dccp, gre, udplite or a number.
	Protocol string `json:"protocol,omitempty"`
	State    string `json:"state,omitempty"` // of TCP, as /proc/net/nf_conntrack has it: TIME_WAIT
	// Source and Destination are addresses or networks in CIDR notation.
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	Port        uint16 `json:"port,omitempty"`        // of the destination
	SourcePort  uint16 `json:"source_port,omitempty"` // of the source
	Unassured   bool   `json:"unassured,omitempty"`   // only entries that early_drop may evict
}
