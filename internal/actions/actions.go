// Package actions tells in one table what each kind of action is, a fault or an emergency fix on
// the time line of a trial. docs/language.md says what a kind does; [agent/faults] does it on a
// node, or else the orchestrator.
package actions

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/internal/kernels"
)

// Kind names the effect of an action.
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

// Owned names the part of the lab that an action has for itself while it lasts: of two actions on
// it at a time the end of one would be the end of both.
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
	GivesUp string // what the DUT lacks afterwards, where the action is a fix
}

// Table has the kinds in the order of the documentation.
var Table = []Fact{
	{Kind: Sysctl, Keys: []string{"node", "sysctl"}, Stays: true},
	{Kind: Buckets, Keys: []string{"node", "buckets"}, Stays: true},
	{
		Kind: RulesLoad, Keys: []string{"node", "rules", "rules6", "nft", "add"},
		Words: "rules loaded",
	},
	{
		Kind: RulesRemove, Keys: []string{"node"}, Words: "all rules removed",
		GivesUp: "firewall gone",
	},
	{Kind: Flush, Keys: []string{"node"}, Words: "all entries removed", Once: true},
	{Kind: Delete, Keys: append([]string{"node"}, FilterKeys...), Once: true},
	{
		Kind: ModuleRemove, Keys: []string{"node", "modules"}, Host: "the kernel's modules",
		GivesUp: "firewall gone",
	},
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

// Words returns the valid values.
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
	// Leave is the memory, in bytes, that stays free (MemoryPressure); 0: so little that
	// allocations in interrupts, as those of connection tracking, fail under load.
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

// Conditions describe what a link does to the frames between one node and the rest of the link. The
// zero value is a link in order. A share is between 0 and 1.
//
// The words are those of netem (tc-netem(8)), which makes all but the last two. They hold for each
// direction on its own: 10 ms on both are 20 ms on a round trip, and a loss of 5 % on both costs an
// exchange of two frames with a probability of 9.75 %.
type Conditions struct {
	Direction Direction     `json:"direction,omitempty"` // empty: both
	Loss      float64       `json:"loss,omitempty"`      // share of frames
	Delay     time.Duration `json:"delay,omitempty"`
	Jitter    time.Duration `json:"jitter,omitempty"`    // ±; frames may overtake each other
	Reorder   float64       `json:"reorder,omitempty"`   // share of frames not delayed
	Duplicate float64       `json:"duplicate,omitempty"` // share of frames sent twice
	Corrupt   float64       `json:"corrupt,omitempty"`   // share of frames with a bit turned
	Rate      int64         `json:"rate,omitempty"`      // bits per second; 0: as fast as it goes

	// Partitioned lets no frame pass, while the node still sees a carrier.
	Partitioned bool `json:"partitioned,omitempty"`
	// Down takes the carrier away, as a cable that is pulled out.
	Down bool `json:"down,omitempty"`
}

// Direction is the way of the frames that conditions hold for, seen from the node.
type Direction string

// The directions.
const (
	Both Direction = "both"
	To   Direction = "to"   // towards the node
	From Direction = "from" // from the node
)

// Words returns the valid values.
func (Direction) Words() []string { return []string{string(Both), string(To), string(From)} }

// Holds reports whether the conditions are for that one direction.
func (c Conditions) Holds(direction Direction) bool {
	return c.Direction == "" || c.Direction == Both || c.Direction == direction
}

// Shapes reports whether a link needs netem, which loses, delays, copies or changes frames.
func (c Conditions) Shapes() bool {
	c.Direction, c.Partitioned, c.Down = "", false, false
	return c != Conditions{}
}

// longestDelay is far above any network's; netem keeps every frame for so long.
const longestDelay = time.Minute

// Validate returns an error for each condition that is out of its range or contradicts another.
func (c Conditions) Validate() error {
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for i, share := range []float64{c.Loss, c.Reorder, c.Duplicate, c.Corrupt} {
		name := []string{"loss", "reorder", "duplicate", "corrupt"}[i]
		inRange := share >= 0 && share <= 1 // false for NaN
		refuse(!inRange, "%s %v: a share lies between 0 and 1", name, share)
	}
	for i, time := range []time.Duration{c.Delay, c.Jitter} {
		refuse(time < 0 || time > longestDelay, "%s %v: not between 0 and %v",
			[]string{"delay", "jitter"}[i], time, longestDelay)
	}
	refuse(c.Jitter > c.Delay, "jitter %v is over the delay %v: a frame cannot arrive before it "+
		"was sent", c.Jitter, c.Delay)
	refuse(c.Reorder > 0 && c.Delay == 0, "reorder needs a delay: frames overtake those that wait")
	refuse(c.Rate < 0 || c.Rate > 0 && c.Rate < 8,
		"rate %d: not a number of bits per second, of 8 or more", c.Rate)
	refuse(c.Direction != "" && !slices.Contains(c.Direction.Words(), string(c.Direction)),
		"direction %q: none of %q, %q, %q", c.Direction, Both, To, From)
	refuse((c.Down || c.Partitioned) && !(c.Holds(To) && c.Holds(From)),
		"a link that is down or partitioned is so in both directions")
	refuse(c == Conditions{Direction: c.Direction}, "no condition is given")
	return errors.Join(errs...)
}

// String words the conditions: "loss 5%, delay 50ms".
func (c Conditions) String() string {
	var words []string
	add := func(on bool, format string, args ...any) {
		if on {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(c.Down, "down")
	add(c.Partitioned, "partitioned")
	add(c.Loss > 0, "loss %.4g%%", 100*c.Loss)
	add(c.Delay > 0, "delay %v", c.Delay)
	add(c.Jitter > 0, "jitter %v", c.Jitter)
	add(c.Reorder > 0, "reorder %.4g%%", 100*c.Reorder)
	add(c.Duplicate > 0, "duplicate %.4g%%", 100*c.Duplicate)
	add(c.Corrupt > 0, "corrupt %.4g%%", 100*c.Corrupt)
	add(c.Rate > 0, "rate %dbit/s", c.Rate)
	if len(words) == 0 {
		return "in order"
	}
	add(!c.Holds(From), "towards the node alone")
	add(!c.Holds(To), "from the node alone")
	return strings.Join(words, ", ")
}

// Near reports whether conditions that were read back are the requested ones, to the precision of
// netem's units.
func (c Conditions) Near(want Conditions) bool {
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-6 }
	nearTime := func(a, b time.Duration) bool { return (a - b).Abs() < time.Microsecond }
	return near(c.Loss, want.Loss) && near(c.Reorder, want.Reorder) &&
		near(c.Duplicate, want.Duplicate) && near(c.Corrupt, want.Corrupt) &&
		nearTime(c.Delay, want.Delay) && nearTime(c.Jitter, want.Jitter) && c.Rate/8 == want.Rate/8
}

// Split returns the conditions of each direction, seen from the node; a partition is a loss of all.
func (c Conditions) Split() (to, from Conditions) {
	one := c
	one.Direction, one.Partitioned, one.Down = "", false, false
	if c.Partitioned {
		one.Loss = 1
	}
	if c.Holds(To) {
		to = one
	}
	if c.Holds(From) {
		from = one
	}
	return to, from
}
