package scenarios

import "slices"

// Action is a fault, or an emergency fix, on the time line of a trial. It comes at a time or on a
// condition, exactly one of which is given, and is taken back after For or else at the end of the trial.
type Action struct {
	Kind ActionKind `yaml:"action,omitempty" jsonschema:"required" jsonschema_description:"what is done"`
	Name string     `yaml:"name,omitempty" matrix:"no" jsonschema_description:"for reports and for overrides in scenarios; default: the kind, with -2, -3, ... appended when it is taken"`
	Fix  bool       `yaml:"fix,omitempty" jsonschema_description:"it is meant to heal: the steady state need not hold before it, and the time to heal counts from it; default false"`

	At    Duration   `yaml:"at,omitempty" jsonschema_description:"when, counted from the start of the load or of phase"`
	Phase string     `yaml:"phase,omitempty" matrix:"no" jsonschema_description:"with at: the phase of the load that at counts from, or recovery: it counts from the end of the load"`
	When  Expression `yaml:"when,omitempty" matrix:"no" jsonschema_description:"the condition, over the fields of the time line; or first drop, which is when it has risen above 0; likewise the other counters of conntrack, failed and loss"`
	After Duration   `yaml:"after,omitempty" jsonschema_description:"with when: how long after it has come true; default 0"`
	For   Duration   `yaml:"for,omitempty" jsonschema_description:"how long, for what can be taken back; default: until the end of the trial"`
	Every Duration   `yaml:"every,omitempty" jsonschema_description:"with for and times: from one beginning to the next"`
	Times Count      `yaml:"times,omitempty" jsonschema_description:"with for and every: how often; default 1"`

	Node string `yaml:"node,omitempty" matrix:"no" jsonschema_description:"the node; default dut"`
	Link string `yaml:"link,omitempty" matrix:"no" jsonschema_description:"network, link-down: NODE/LINK, or NODE alone for all its links; default dut/client"`

	Sysctl      Settings  `yaml:"sysctl,omitempty" jsonschema_description:"sysctl: kernel settings, applied in this order"`
	Buckets     Count     `yaml:"buckets,omitempty" jsonschema_description:"buckets: the new size of the conntrack hash"`
	Rules       string    `yaml:"rules,omitempty" matrix:"no" jsonschema_description:"rules-load: iptables-save text; each table in it replaces the same table"`
	Rules6      string    `yaml:"rules6,omitempty" matrix:"no" jsonschema_description:"rules-load: ip6tables-save text"`
	NFT         string    `yaml:"nft,omitempty" matrix:"no" jsonschema_description:"rules-load: an nft script"`
	Add         bool      `yaml:"add,omitempty" jsonschema_description:"rules-load: keep what is in the tables, as iptables-restore --noflush; default false"`
	Modules     []string  `yaml:"modules,omitempty" jsonschema_description:"module-remove: which, after all rules; default nf_conntrack"`
	Protocol    string    `yaml:"protocol,omitempty" jsonschema_description:"delete: tcp, udp, icmp, ... or a number"`
	State       string    `yaml:"state,omitempty" jsonschema_description:"delete: a state of TCP, as TIME_WAIT"`
	Source      string    `yaml:"source,omitempty" matrix:"no" jsonschema_description:"delete: address or network of the source"`
	Destination string    `yaml:"destination,omitempty" matrix:"no" jsonschema_description:"delete: address or network of the destination"`
	Port        Port      `yaml:"port,omitempty" jsonschema_description:"delete: port of the destination"`
	SourcePort  Port      `yaml:"source-port,omitempty" jsonschema_description:"delete: port of the source"`
	Unassured   bool      `yaml:"unassured,omitempty" jsonschema_description:"delete: only entries that are not ASSURED; default false"`
	By          Offset    `yaml:"by,omitempty" jsonschema_description:"clock-jump: how far the clock is set, as 30s or -30s"`
	Share       Share     `yaml:"share,omitempty" jsonschema_description:"cpu-throttle: the share of each CPU that is taken, at most 95%"`
	Leave       Size      `yaml:"leave,omitempty" jsonschema_description:"memory-pressure: how much memory stays free; default: so little that allocations fail"`
	Ports       Ports     `yaml:"ports,omitempty" jsonschema_description:"server-stop, server-stall, server-restart: the servers at these ports; default all of the node"`
	Entry       string    `yaml:"entry,omitempty" matrix:"no" jsonschema_description:"join: the entry of the workload that starts with the action"`
	Loss        Share     `yaml:"loss,omitempty" jsonschema_description:"network: share of frames that are lost, in each direction"`
	Delay       Duration  `yaml:"delay,omitempty" jsonschema_description:"network: in each direction"`
	Jitter      Duration  `yaml:"jitter,omitempty" jsonschema_description:"network: the delay varies by as much, up and down"`
	Reorder     Share     `yaml:"reorder,omitempty" jsonschema_description:"network: share of frames that overtake those delayed"`
	Duplicate   Share     `yaml:"duplicate,omitempty" jsonschema_description:"network: share of frames that come twice"`
	Corrupt     Share     `yaml:"corrupt,omitempty" jsonschema_description:"network: share of frames with a wrong bit"`
	Rate        Bandwidth `yaml:"rate,omitempty" jsonschema_description:"network: the most that passes, as 10Mbit/s"`
	Direction   Direction `yaml:"direction,omitempty" jsonschema_description:"network: to or from the node, or both (default)"`
}

// Expression is a condition in the expr language (expr-lang.org). This package does not compile it.
type Expression struct {
	Text     string
	Position Position
}

// MarshalText is the text.
func (e Expression) MarshalText() ([]byte, error) { return []byte(e.Text), nil }

func (e *Expression) decodeNode(p *problems, n *node) {
	if word, ok := scalarText(p, n); ok {
		*e = Expression{word, n.at}
	}
}

// PhaseRecovery is the phase of an action that begins when the load has ended.
const PhaseRecovery = "recovery"

// ActionKind is what an action does.
type ActionKind string

// The kinds of action.
const (
	SetSysctl      ActionKind = "sysctl"          // kernel settings changed live
	SetBuckets     ActionKind = "buckets"         // the hash resized
	RulesLoad      ActionKind = "rules-load"      // rules loaded, as iptables-restore and nft -f do
	RulesRemove    ActionKind = "rules-remove"    // all rules removed
	Flush          ActionKind = "flush"           // every entry removed, as conntrack -F
	Delete         ActionKind = "delete"          // some entries removed, as conntrack -D
	ModuleRemove   ActionKind = "module-remove"   // rules and modules removed
	ClockJump      ActionKind = "clock-jump"      // the time of day set wrong
	CPUThrottle    ActionKind = "cpu-throttle"    // a share of each CPU taken away
	MemoryPressure ActionKind = "memory-pressure" // memory taken until little is left
	ServerStop     ActionKind = "server-stop"     // what answers ended
	ServerStall    ActionKind = "server-stall"    // what answers hangs
	ServerRestart  ActionKind = "server-restart"  // what answers ended and started again
	Pause          ActionKind = "pause"           // the node stands still
	Reset          ActionKind = "reset"           // the machine boots again, without warning
	Network        ActionKind = "network"         // frames lost, delayed, reordered, ...
	LinkDown       ActionKind = "link-down"       // the carrier gone
	Partition      ActionKind = "partition"       // no frame passes from or to the node
	Join           ActionKind = "join"            // an entry of the workload starts
)

// Words are the valid values.
func (ActionKind) Words() []string {
	return []string{
		string(SetSysctl), string(SetBuckets), string(RulesLoad), string(RulesRemove), string(Flush), string(Delete),
		string(ModuleRemove), string(ClockJump), string(CPUThrottle), string(MemoryPressure), string(ServerStop),
		string(ServerStall), string(ServerRestart), string(Pause), string(Reset), string(Network), string(LinkDown),
		string(Partition), string(Join),
	}
}

// Undoable reports whether there is anything to take back: entries that are gone are gone.
func (k ActionKind) Undoable() bool {
	return !slices.Contains([]ActionKind{Flush, Delete, ServerRestart, Reset, Join}, k)
}

// Direction is the way of the frames that an action on a link concerns, seen from the node.
type Direction string

// The directions.
const (
	BothWays Direction = "both"
	ToNode   Direction = "to"
	FromNode Direction = "from"
)

// Words are the valid values.
func (Direction) Words() []string {
	return []string{string(BothWays), string(ToNode), string(FromNode)}
}

// ActionBegins is the time of an action with At, counted from the start of the load. Known is false where only
// the trial tells: for a condition, and after the end of the load.
func (r Resolved) ActionBegins(a Action) (at Duration, known bool) {
	if a.When.Text != "" || a.Phase == PhaseRecovery {
		return a.At, false
	}
	start, _ := r.Phases.Start(a.Phase)
	return start + a.At, true
}

// Joined is the action that an entry of the workload waits for; false when it starts by itself.
func (r Resolved) Joined(e Entry) (Action, bool) {
	i := slices.IndexFunc(r.Actions, func(a Action) bool { return a.Kind == Join && a.Entry == e.Name })
	if i < 0 {
		return Action{}, false
	}
	return r.Actions[i], true
}

// Substitute is the action with every placeholder in its rules replaced, as [Configuration.Substitute].
func (a Action) Substitute(values map[string]string) (Action, error) {
	c, err := Configuration{Rules: a.Rules, Rules6: a.Rules6, NFT: a.NFT}.Substitute(values)
	a.Rules, a.Rules6, a.NFT = c.Rules, c.Rules6, c.NFT
	return a, err
}

// Where returns the node, the link or the entry that an action is about.
func (a Action) Where() string {
	switch {
	case a.Link != "":
		return a.Link
	case a.Kind == Join:
		return a.Entry
	default:
		return a.Node
	}
}
