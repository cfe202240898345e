package scenarios

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
)

// Action is a fault, or an emergency fix, on the time line of a trial. It comes at a time or on a
// condition, exactly one of which is given, and is undone after For or else at the end of the
// trial.
type Action struct {
	Kind actions.Kind `yaml:"action,omitempty" jsonschema:"required" jsonschema_description:"what is done"`
	Name string       `yaml:"name,omitempty" matrix:"no" jsonschema_description:"for reports and for overrides in scenarios; default: the kind, with -2, -3, ... appended when it is taken"`
	Fix  bool         `yaml:"fix,omitempty" jsonschema_description:"it is meant to heal: the steady state need not hold before it, and the time to heal counts from it; default false"`

	At    Duration   `yaml:"at,omitempty" jsonschema_description:"when, counted from the start of the load or of phase"`
	Phase string     `yaml:"phase,omitempty" matrix:"no" jsonschema_description:"with at: the phase of the load that at counts from, or recovery: it counts from the end of the load"`
	When  Expression `yaml:"when,omitempty" matrix:"no" jsonschema_description:"the condition, over the fields of the time line; or first drop, which is when it has risen above 0; likewise the other counters of conntrack, failed and loss"`
	After Duration   `yaml:"after,omitempty" jsonschema_description:"with when: how long after it has come true; default 0"`
	For   Duration   `yaml:"for,omitempty" jsonschema_description:"how long, for what can be taken back; default: until the end of the trial"`
	Every Duration   `yaml:"every,omitempty" jsonschema_description:"with for and times: from one beginning to the next"`
	Times Count      `yaml:"times,omitempty" jsonschema_description:"with for and every: how often; default 1"`

	Node string `yaml:"node,omitempty" matrix:"no" jsonschema_description:"the node; default dut"`
	Link string `yaml:"link,omitempty" matrix:"no" jsonschema_description:"network, link-down: NODE/LINK, or NODE alone for all its links; default dut/client"`

	Sysctl      Settings          `yaml:"sysctl,omitempty" jsonschema_description:"sysctl: kernel settings, applied in this order"`
	Buckets     Count             `yaml:"buckets,omitempty" jsonschema_description:"buckets: the new size of the conntrack hash"`
	Rules       string            `yaml:"rules,omitempty" matrix:"no" jsonschema_description:"rules-load: iptables-save text; each table in it replaces the same table"`
	Rules6      string            `yaml:"rules6,omitempty" matrix:"no" jsonschema_description:"rules-load: ip6tables-save text"`
	NFT         string            `yaml:"nft,omitempty" matrix:"no" jsonschema_description:"rules-load: an nft script"`
	Add         bool              `yaml:"add,omitempty" jsonschema_description:"rules-load: keep what is in the tables, as iptables-restore --noflush; default false"`
	Modules     []string          `yaml:"modules,omitempty" jsonschema_description:"module-remove: which, after all rules; default nf_conntrack"`
	Protocol    string            `yaml:"protocol,omitempty" jsonschema_description:"delete: tcp, udp, icmp, ... or a number"`
	State       string            `yaml:"state,omitempty" jsonschema_description:"delete: a state of TCP, as TIME_WAIT"`
	Source      string            `yaml:"source,omitempty" matrix:"no" jsonschema_description:"delete: address or network of the source"`
	Destination string            `yaml:"destination,omitempty" matrix:"no" jsonschema_description:"delete: address or network of the destination"`
	Port        Port              `yaml:"port,omitempty" jsonschema_description:"delete: port of the destination"`
	SourcePort  Port              `yaml:"source-port,omitempty" jsonschema_description:"delete: port of the source"`
	Unassured   bool              `yaml:"unassured,omitempty" jsonschema_description:"delete: only entries that are not ASSURED; default false"`
	By          Offset            `yaml:"by,omitempty" jsonschema_description:"clock-jump: how far the clock is set, as 30s or -30s"`
	Share       Share             `yaml:"share,omitempty" jsonschema_description:"cpu-throttle: the share of each CPU that is taken, at most 95%"`
	Leave       Size              `yaml:"leave,omitempty" jsonschema_description:"memory-pressure: how much memory stays free; default: so little that allocations fail"`
	Ports       Ports             `yaml:"ports,omitempty" jsonschema_description:"server-stop, server-stall, server-restart: the servers at these ports; default all of the node"`
	Entry       string            `yaml:"entry,omitempty" matrix:"no" jsonschema_description:"join: the entry of the workload that starts with the action"`
	Loss        Share             `yaml:"loss,omitempty" jsonschema_description:"network: share of frames that are lost, in each direction"`
	Delay       Duration          `yaml:"delay,omitempty" jsonschema_description:"network: in each direction"`
	Jitter      Duration          `yaml:"jitter,omitempty" jsonschema_description:"network: the delay varies by as much, up and down"`
	Reorder     Share             `yaml:"reorder,omitempty" jsonschema_description:"network: share of frames that overtake those delayed"`
	Duplicate   Share             `yaml:"duplicate,omitempty" jsonschema_description:"network: share of frames that come twice"`
	Corrupt     Share             `yaml:"corrupt,omitempty" jsonschema_description:"network: share of frames with a wrong bit"`
	Rate        Bandwidth         `yaml:"rate,omitempty" jsonschema_description:"network: the most that passes, as 10Mbit/s"`
	Direction   actions.Direction `yaml:"direction,omitempty" jsonschema_description:"network: to or from the node, or both (default)"`
}

// Expression is a condition in the expr language (expr-lang.org). This package does not compile it.
type Expression struct {
	Text     string
	Position Position
}

// MarshalText returns the text.
func (e Expression) MarshalText() ([]byte, error) { return []byte(e.Text), nil }

func (e *Expression) decodeNode(p *problems, n *node) {
	if word, ok := scalarText(p, n); ok {
		*e = Expression{word, n.at}
	}
}

// PhaseRecovery is the phase of an action that begins when the load has ended.
const PhaseRecovery = "recovery"

// ActionBegins returns the time of an action with At, counted from the start of the load. Known is
// false where only the trial tells: for a condition, and after the end of the load.
func (r Resolved) ActionBegins(a Action) (at Duration, known bool) {
	if a.When.Text != "" || a.Phase == PhaseRecovery {
		return a.At, false
	}
	start, _ := r.Phases.Start(a.Phase)
	return start + a.At, true
}

// Joined returns the action that an entry of the workload waits for; false when the entry starts by
// itself.
func (r Resolved) Joined(e Entry) (Action, bool) {
	i := slices.IndexFunc(r.Actions, func(a Action) bool { return a.Kind == actions.Join && a.Entry == e.Name })
	if i < 0 {
		return Action{}, false
	}
	return r.Actions[i], true
}

// Substitute replaces every placeholder in the rules of the action, as [Configuration.Substitute]
// does.
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
	case a.Kind == actions.Join:
		return a.Entry
	default:
		return a.Node
	}
}

// Fault returns the request for the agent of a node, under an id; its rules are for that backend.
func (a Action) Fault(id string, backend RulesBackend) actions.Fault {
	f := actions.Fault{
		ID: id, Kind: a.Kind, Buckets: int(a.Buckets), Modules: a.Modules,
		Rules: actions.Rules{IPv4: a.Rules, IPv6: a.Rules6, NFT: a.NFT, Add: a.Add, Backend: string(backend)},
		Delete: actions.Filter{
			Protocol: a.Protocol, State: a.State, Source: a.Source, Destination: a.Destination,
			Port: uint16(a.Port), SourcePort: uint16(a.SourcePort), Unassured: a.Unassured,
		},
		Clock: time.Duration(a.By), CPU: float64(a.Share), Leave: int64(a.Leave), Ports: a.Ports.Expand(),
	}
	for _, s := range a.Sysctl {
		f.Sysctl = append(f.Sysctl, kernels.Setting(s))
	}
	return f
}

// Conditions returns what the action does to links.
func (a Action) Conditions() actions.Conditions {
	switch a.Kind {
	case actions.LinkDown:
		return actions.Conditions{Down: true}
	case actions.Partition:
		return actions.Conditions{Partitioned: true}
	}
	return actions.Conditions{
		Direction: a.Direction, Loss: float64(a.Loss),
		Delay: time.Duration(a.Delay), Jitter: time.Duration(a.Jitter),
		Reorder: float64(a.Reorder), Duplicate: float64(a.Duplicate), Corrupt: float64(a.Corrupt), Rate: int64(a.Rate),
	}
}

// Asked words what the action asks for.
func (a Action) Asked() string {
	if words := a.Kind.Fact().Words; words != "" {
		return words
	}
	switch a.Kind {
	case actions.Sysctl:
		var words []string
		for _, s := range a.Sysctl {
			words = append(words, fmt.Sprintf("%s = %s", strings.TrimPrefix(s.Key, "net.netfilter."), s.Value))
		}
		return strings.Join(words, ", ")
	case actions.Buckets:
		return fmt.Sprintf("%d buckets", a.Buckets)
	case actions.Delete:
		return "entries removed: " + filterWords(a)
	case actions.ModuleRemove:
		if len(a.Modules) == 0 {
			return "rules and nf_conntrack removed"
		}
		return "rules and " + strings.Join(a.Modules, ", ") + " removed"
	case actions.ClockJump:
		return "time of day set by " + a.By.String()
	case actions.CPUThrottle:
		return a.Share.String() + " of each CPU taken"
	case actions.MemoryPressure:
		if a.Leave > 0 {
			return "memory taken until " + a.Leave.String() + " are left"
		}
		return "memory taken until allocations fail"
	case actions.Join:
		return a.Entry + " starts"
	default:
		return a.Conditions().String()
	}
}

func filterWords(a Action) string {
	var words []string
	add := func(name, value string) {
		if value != "" {
			words = append(words, strings.TrimSpace(name+" "+value))
		}
	}
	number := func(p Port) string {
		if p == 0 {
			return ""
		}
		return fmt.Sprint(p)
	}
	add("", a.Protocol)
	add("", a.State)
	add("from", a.Source)
	add("to", a.Destination)
	add("port", number(a.Port))
	add("source port", number(a.SourcePort))
	if a.Unassured {
		words = append(words, "not ASSURED")
	}
	return strings.Join(words, ", ")
}

const maxThrottle = Share(0.95) // the kernel keeps the rest from real-time processes

// checkParameters checks what each kind needs.
func checkParameters(p *problems, n *node, a *Action, r *Resolved, topology Topology) {
	need := func(key, example string) bool {
		if !n.has(key) {
			p.errorf(n.at, "%s needs %s, as %s", a.Kind, key, example)
			return false
		}
		return !p.failed(n.get(key).at)
	}
	switch a.Kind {
	case actions.Sysctl:
		given := need("sysctl", "{"+kernels.KeyMax+": 262144}")
		if given && len(a.Sysctl) == 0 && !n.has("buckets") {
			p.errorf(n.get("sysctl").at, "no setting is given")
		}
	case actions.Buckets:
		if need("buckets", "65536") {
			checkBuckets(p, n.get("buckets").at, a.Buckets)
		}
	case actions.RulesLoad:
		if !n.has("rules", "rules6", "nft") {
			p.errorf(n.at, "%s needs rules, rules6 or nft; to remove them all there is %s", a.Kind, actions.RulesRemove)
		}
		checkActionRules(p, n, topology)
	case actions.Delete:
		if !n.has(actions.FilterKeys...) {
			p.errorf(n.at, "%s needs one of %s; %s removes all entries", a.Kind, strings.Join(actions.FilterKeys, ", "), actions.Flush)
		}
	case actions.ModuleRemove:
		for _, name := range a.Modules {
			if !moduleForm.MatchString(name) || strings.Contains(name, " ") {
				p.errorf(n.place("modules"), "%s is not a module, such as nf_conntrack", quote(name))
			}
		}
	case actions.ClockJump:
		if need("by", "30s or -30s") && a.By == 0 {
			p.errorf(n.get("by").at, "by must not be 0s")
		}
	case actions.CPUThrottle:
		if need("share", "50%") && (a.Share <= 0 || a.Share > maxThrottle) {
			p.errorf(n.get("share").at, "share must be more than 0%% and at most %s", maxThrottle)
		}
	case actions.Network:
		checkNetwork(p, n, a)
	case actions.Join:
		if need("entry", "the name of a generator of the workload") {
			checkJoin(p, n, a, r)
		}
	}
}

func checkActionRules(p *problems, n *node, topology Topology) {
	checkTexts(p, n, topology)
	for _, key := range rulesKeys {
		if rules := n.get(key); rules != nil && rules.kind == scalar && rules.text == noRules {
			p.errorf(rules.at, "%s without rules; to remove them all there is action: %s", actions.RulesLoad, actions.RulesRemove)
		}
	}
	if nft := n.get("nft"); nft != nil && nft.kind == scalar {
		checkScript(p, nft, false)
	}
}

// checkNetwork checks the effects on a link. A share of 0% stands for a link in order, so that a
// matrix can have one.
func checkNetwork(p *problems, n *node, a *Action) {
	if !n.has(actions.ConditionKeys...) {
		p.errorf(n.at, "%s needs one of %s; %s and %s let no frame pass",
			actions.Network, strings.Join(actions.ConditionKeys, ", "), actions.LinkDown, actions.Partition)
	}
	p.require(a.Jitter <= a.Delay, n.place("jitter"),
		"jitter must be at most the delay %s, not %s: a frame cannot arrive before it was sent",
		a.Delay, a.Jitter)
	p.require(a.Reorder <= 0 || a.Delay > 0, n.place("reorder"),
		"reorder needs a delay: frames overtake those that wait")
}

// checkJoin checks the entry that an action starts.
func checkJoin(p *problems, n *node, a *Action, r *Resolved) {
	var names []string
	for _, e := range r.Workload {
		if e.Generator != "" {
			names = append(names, e.Name)
		}
	}
	at := n.get("entry").at
	i := slices.IndexFunc(r.Workload, func(e Entry) bool { return e.Name == a.Entry && e.Generator != "" })
	if i < 0 {
		p.errorf(at, "the workload has no generator %s%s", quote(a.Entry), spelling.Hint(a.Entry, names))
		return
	}
	if e := r.Workload[i]; e.Start > 0 || e.Phase != "" {
		p.errorf(at, "%s starts with the action: it must have no start and no phase of its own", quote(a.Entry))
	}
	if len(names) == 1 {
		p.errorf(at, "%s is the whole load: nothing goes on before it joins", quote(a.Entry))
	}
	if other, _ := r.Joined(Entry{Name: a.Entry}); other.Name != a.Name {
		p.errorf(at, "%s joins twice", quote(a.Entry))
	}
}
