package scenarios

import (
	"cmp"
	"fmt"
	"net/netip"
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
	Kind actions.Kind `yaml:"action" jsonschema:"required"`
	Name string       `yaml:"name" matrix:"no"`
	Fix  bool         `yaml:"fix"`

	At    Duration   `yaml:"at"`
	Phase string     `yaml:"phase" matrix:"no"`
	When  Expression `yaml:"when" matrix:"no"`
	After Duration   `yaml:"after"`
	For   Duration   `yaml:"for"`
	Every Duration   `yaml:"every"`
	Times Count      `yaml:"times"`

	Node string `yaml:"node" matrix:"no"`
	Link string `yaml:"link" matrix:"no"`

	Sysctl      Settings          `yaml:"sysctl"`
	Buckets     Count             `yaml:"buckets"`
	Rules       string            `yaml:"rules" matrix:"no"`
	Rules6      string            `yaml:"rules6" matrix:"no"`
	NFT         string            `yaml:"nft" matrix:"no"`
	Add         bool              `yaml:"add"`
	Modules     []string          `yaml:"modules"`
	Protocol    string            `yaml:"protocol"`
	State       string            `yaml:"state"`
	Source      string            `yaml:"source" matrix:"no"`
	Destination string            `yaml:"destination" matrix:"no"`
	Port        Port              `yaml:"port"`
	SourcePort  Port              `yaml:"source-port"`
	Unassured   bool              `yaml:"unassured"`
	By          Offset            `yaml:"by"`
	Share       Share             `yaml:"share"`
	Leave       Size              `yaml:"leave"`
	Ports       Ports             `yaml:"ports"`
	Entry       string            `yaml:"entry" matrix:"no"`
	Loss        Share             `yaml:"loss"`
	Delay       Duration          `yaml:"delay"`
	Jitter      Duration          `yaml:"jitter"`
	Reorder     Share             `yaml:"reorder"`
	Duplicate   Share             `yaml:"duplicate"`
	Corrupt     Share             `yaml:"corrupt"`
	Rate        Bandwidth         `yaml:"rate"`
	Direction   actions.Direction `yaml:"direction"`
}

// Expression is a condition in the expr language (expr-lang.org). This package does not compile it.
type Expression struct {
	Text     string
	Position Position
}

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
	for _, a := range r.Actions {
		if a.Kind == actions.Join && a.Entry == e.Name {
			return a, true
		}
	}
	return Action{}, false
}

// Substitute replaces every placeholder in the rules and addresses of the action, as
// [Configuration.Substitute] does.
func (a Action) Substitute(values map[string]string) (Action, error) {
	err := substitute(values, &a.Rules, &a.Rules6, &a.NFT, &a.Source, &a.Destination)
	return a, err
}

// Where returns the node, the link or the entry that an action is about.
func (a Action) Where() string {
	if a.Kind == actions.Join {
		return a.Entry
	}
	return cmp.Or(a.Link, a.Node)
}

// Fault returns the request for the agent of a node, under an id; its rules are for that backend.
func (a Action) Fault(id string, backend RulesBackend) actions.Fault {
	f := actions.Fault{
		ID: id, Kind: a.Kind, Buckets: int(a.Buckets), Modules: a.Modules,
		Rules: actions.Rules{
			IPv4: a.Rules, IPv6: a.Rules6, NFT: a.NFT, Add: a.Add, Backend: string(backend),
		},
		Delete: actions.Filter{
			Protocol: a.Protocol, State: a.State, Source: a.Source, Destination: a.Destination,
			Port: uint16(a.Port), SourcePort: uint16(a.SourcePort), Unassured: a.Unassured,
		},
		Clock: time.Duration(a.By), CPU: float64(a.Share), Leave: int64(a.Leave),
		Ports: a.Ports.Expand(),
	}
	for _, s := range a.Sysctl {
		f.Sysctl = append(f.Sysctl, kernels.Setting(s))
	}
	return f
}

// Conditions returns what the action does to links.
func (a Action) Conditions() actions.Conditions {
	return actions.Conditions{
		Down: a.Kind == actions.LinkDown, Partitioned: a.Kind == actions.Partition,
		Direction: a.Direction, Loss: float64(a.Loss),
		Delay: time.Duration(a.Delay), Jitter: time.Duration(a.Jitter),
		Reorder: float64(a.Reorder), Duplicate: float64(a.Duplicate),
		Corrupt: float64(a.Corrupt), Rate: int64(a.Rate),
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
			words = append(words, strings.TrimPrefix(s.Key, "net.netfilter.")+" = "+s.Value)
		}
		return strings.Join(words, ", ")
	case actions.Buckets:
		return fmt.Sprintf("%d buckets", a.Buckets)
	case actions.Delete:
		return "entries removed: " + filterWords(a)
	case actions.ModuleRemove:
		names := cmp.Or(strings.Join(a.Modules, ", "), kernels.Module)
		return "rules and " + names + " removed"
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
	add := func(given bool, format string, args ...any) {
		if given {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(a.Protocol != "", "%s", a.Protocol)
	add(a.State != "", "%s", a.State)
	add(a.Source != "", "from %s", a.Source)
	add(a.Destination != "", "to %s", a.Destination)
	add(a.Port != 0, "port %d", a.Port)
	add(a.SourcePort != 0, "source port %d", a.SourcePort)
	add(a.Unassured, "not ASSURED")
	return strings.Join(words, ", ")
}

const maxThrottle = Share(0.95) // the kernel keeps the rest from real-time processes

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
		p.require(!given || len(a.Sysctl) > 0 || n.has("buckets"), n.place("sysctl"),
			"no setting is given")
	case actions.Buckets:
		if need("buckets", "65536") {
			checkBuckets(p, n.get("buckets").at, a.Buckets)
		}
	case actions.RulesLoad:
		p.refuse(!n.has("rules", "rules6", "nft"), n.at,
			"%s needs rules, rules6 or nft; %s removes them all", a.Kind, actions.RulesRemove)
		checkActionRules(p, n, topology)
	case actions.Delete:
		p.refuse(!n.has(actions.FilterKeys...), n.at, "%s needs one of %s; %s removes all entries",
			a.Kind, strings.Join(actions.FilterKeys, ", "), actions.Flush)
		for _, key := range []string{"source", "destination"} {
			if address := n.scalar(key); address != nil {
				checkAddress(p, address, topology)
			}
		}
	case actions.ModuleRemove:
		for _, name := range a.Modules {
			module := moduleForm.MatchString(name) && !strings.Contains(name, " ")
			p.refuse(!module, n.place("modules"), "%s is not a module, such as nf_conntrack",
				quote(name))
		}
	case actions.ClockJump:
		p.require(!need("by", "30s or -30s") || a.By != 0, n.place("by"), "by must not be 0s")
	case actions.CPUThrottle:
		p.require(!need("share", "50%") || a.Share > 0 && a.Share <= maxThrottle, n.place("share"),
			"share must be more than 0%% and at most %s", maxThrottle)
	case actions.Network:
		checkNetwork(p, n, a)
	case actions.Join:
		if need("entry", "the name of a generator of the workload") {
			checkJoin(p, n.get("entry").at, a, r)
		}
	}
}

// checkAddress checks an address or a network, which a placeholder may stand for.
func checkAddress(p *problems, n *node, topology Topology) {
	if placeholder.MatchString(n.text) {
		checkPlaceholders(p, n.at, n.text, topology)
		return
	}
	_, err := netip.ParseAddr(n.text)
	_, networkErr := netip.ParsePrefix(n.text)
	p.refuse(err != nil && networkErr != nil, n.at, "%s is not an address or a network, "+
		"such as 10.0.0.2, 10.1.0.0/16 or ${client.address}", quote(n.text))
}

func checkActionRules(p *problems, n *node, topology Topology) {
	checkTexts(p, n, topology)
	for _, key := range rulesKeys {
		rules := n.scalar(key)
		p.refuse(rules != nil && rules.text == noRules, n.place(key),
			"%s without rules; action: %s removes them all", actions.RulesLoad, actions.RulesRemove)
	}
	if nft := n.scalar("nft"); nft != nil {
		checkScript(p, nft, false)
	}
}

// checkNetwork checks the effects on a link. A share of 0% stands for a link in order, so that a
// matrix can have one.
func checkNetwork(p *problems, n *node, a *Action) {
	p.refuse(!n.has(actions.ConditionKeys...), n.at,
		"%s needs one of %s; %s and %s let no frame pass", actions.Network,
		strings.Join(actions.ConditionKeys, ", "), actions.LinkDown, actions.Partition)
	p.require(a.Jitter <= a.Delay, n.place("jitter"),
		"jitter must be at most the delay %s, not %s: a frame cannot arrive before it was sent",
		a.Delay, a.Jitter)
	p.require(a.Reorder <= 0 || a.Delay > 0, n.place("reorder"),
		"reorder needs a delay: frames overtake those that wait")
}

func checkJoin(p *problems, at Position, a *Action, r *Resolved) {
	var names []string
	for _, e := range r.Workload {
		if e.Generator == "" {
			continue
		}
		names = append(names, e.Name)
		p.refuse(e.Name == a.Entry && (e.Start > 0 || e.Phase != ""), at,
			"%s starts with the action: it must have no start and no phase", quote(a.Entry))
	}
	if !slices.Contains(names, a.Entry) {
		hint := spelling.Hint(a.Entry, names)
		p.errorf(at, "the workload has no generator %s%s", quote(a.Entry), hint)
		return
	}
	p.refuse(len(names) == 1, at, "%s is the whole load: nothing goes on before it joins",
		quote(a.Entry))
	other, _ := r.Joined(Entry{Name: a.Entry})
	p.refuse(other.Name != a.Name, at, "%s joins twice", quote(a.Entry))
}
