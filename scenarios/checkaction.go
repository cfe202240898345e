package scenarios

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/spelling"
)

// The keys that go with all actions, beside those of each kind.
var (
	actionCommon = []string{"action", "name", "fix", "at", "phase", "when", "after"}
	actionUndone = []string{"for", "every", "times"} // of actions that can be undone
	// actionFields are all keys of an action; decode reports any other key.
	actionFields = fieldKeys(reflect.TypeFor[Action]())
)

func keysOf(kind actions.Kind) []string {
	keys := slices.Concat(actionCommon, kind.Fact().Keys)
	if kind.Undoable() {
		keys = append(keys, actionUndone...)
	}
	return keys
}

const maxTimes = Count(1000)

func checkActions(p *problems, n *node, r *Resolved, topology Topology) {
	seen := map[string]bool{}
	for i := range r.Actions {
		a, at := &r.Actions[i], n.items[i]
		if at.kind != mapping {
			continue // reported by decode
		}
		if at.get("action") == nil {
			words := strings.Join(a.Kind.Words(), "|")
			p.errorf(at.at, "an action needs action: %s", words)
			continue
		}
		if p.failed(at.place("action")) {
			continue
		}
		checkActionKeys(p, at, a)
		checkMoment(p, at, a, r.Phases)
		checkDuration(p, at, a)
		checkPlace(p, at, a, topology)
		checkParameters(p, at, a, r, topology)
		checkName(p, at.at, "an action", a.Name)
		p.refuse(seen[a.Name], at.at, "two actions are called %s", quote(a.Name))
		seen[a.Name] = true
	}
	checkOverlaps(p, n, r, topology)
}

func checkActionKeys(p *problems, n *node, a *Action) {
	valid := keysOf(a.Kind)
	for _, e := range n.entries {
		switch {
		case slices.Contains(valid, e.key) || !slices.Contains(actionFields, e.key):
		case e.key == "buckets" && a.Kind == actions.Sysctl:
			p.errorf(e.at, "the size of the hash has its own action: %s", actions.Buckets)
		case slices.Contains(actionUndone, e.key):
			p.errorf(e.at, "%s does not go with action: %s, which cannot be taken back",
				quote(e.key), a.Kind)
		default:
			p.errorf(e.at, "%s does not go with action: %s", quote(e.key), a.Kind)
		}
	}
}

func checkMoment(p *problems, n *node, a *Action, phases Phases) {
	at, when := n.get("at"), n.get("when")
	switch {
	case at == nil && when == nil && n.get("phase") == nil:
		p.errorf(n.at, "an action needs a time (at: 10s) or a condition (when: first drop)")
	case at != nil && when != nil:
		p.errorf(when.at, "at and when exclude each other: an action has a time or a condition")
	}
	p.refuse(n.has("after") && when == nil, n.place("after"),
		"after needs when: it is the time after the condition has come true")
	blank := n.scalar("when") != nil && strings.TrimSpace(when.text) == ""
	p.refuse(blank, n.place("when"), "the condition is empty")
	phase := n.scalar("phase")
	if phase == nil {
		return
	}
	names := append(phases.names(), PhaseRecovery)
	switch length := phases.length(a.Phase); {
	case when != nil:
		p.errorf(phase.at, "phase needs at, which counts from the start of the phase")
	case !slices.Contains(names, a.Phase):
		hint := spelling.Hint(a.Phase, names)
		p.errorf(phase.at, "there is no phase %s%s", quote(a.Phase), hint)
	case a.Phase != PhaseRecovery && length > 0 && a.At >= length:
		p.errorf(n.place("at"), "at %s into the phase %s, which lasts %s",
			a.At, quote(a.Phase), length)
	}
}

func checkDuration(p *problems, n *node, a *Action) {
	if !a.Kind.Undoable() {
		return // the keys are reported already
	}
	length, every, times := n.get("for"), n.get("every"), n.get("times")
	p.require(length == nil || a.For > 0, n.place("for"), "for must be more than 0s")
	p.refuse(a.Kind == actions.Pause && length == nil, n.at,
		"pause needs for, such as 5s: a node that is paused until the end of the trial reports "+
			"nothing")
	switch {
	case every == nil && times == nil:
	case length == nil || every == nil || times == nil:
		p.errorf(n.at, "an action that repeats needs for, every and times")
	case !p.failed(every.at) && a.Every <= a.For:
		p.errorf(every.at, "every must be longer than for (%s), not %s: "+
			"the action would begin again before it ends", a.For, a.Every)
	case !p.failed(times.at) && (a.Times < 1 || a.Times > maxTimes):
		p.errorf(times.at, "times must be 1 to %d", maxTimes)
	}
}

func checkPlace(p *problems, n *node, a *Action, topology Topology) {
	a.Node = nodeNamed(a.Node)
	if on := n.scalar("node"); on != nil {
		checkNode(p, on.at, a.Node, topology)
	}
	p.refuse(n.has("node") && a.Kind == actions.Reset && a.Node != nodeDUT, n.place("node"),
		"only the dut can be reset: a client would forget its load, and report nothing")
	link := n.scalar("link")
	if link == nil {
		return
	}
	word, name, named := strings.Cut(a.Link, "/")
	node := nodeNamed(word)
	a.Link = node + strings.TrimPrefix(a.Link, word)
	checkNode(p, link.at, node, topology)
	links := topology.LinksOf(node)
	p.require(!named || slices.Contains(links, name), link.at,
		"%s has no link %s%s", node, quote(name), spelling.Hint(name, links))
}

// LinksOf returns the names of the links that a node is on.
func (t Topology) LinksOf(node string) []string {
	switch {
	case node == nodeDUT && t.Kind == Router:
		return []string{nodeClient, nodeServer}
	case strings.HasPrefix(node, nodeServer):
		return []string{nodeServer}
	default:
		return []string{nodeClient}
	}
}

// Holds returns the links, as dut/client, and the nodes that the action owns while it lasts.
// Everything between a node and its link is one thing, and so is whether a node runs: if two
// actions held one at a time, the end of one would end both.
func (a Action) Holds(topology Topology) []string {
	switch owned := a.Kind.Fact().Owns; {
	case owned == actions.Node:
		return []string{a.Node}
	case owned == actions.Links:
		return topology.ends(a.Node)
	case owned == actions.Link && strings.Contains(a.Link, "/"):
		return []string{a.Link}
	case owned == actions.Link:
		return topology.ends(a.Link)
	}
	return nil
}

func (t Topology) ends(node string) []string {
	var list []string
	for _, link := range t.LinksOf(node) {
		list = append(list, node+"/"+link)
	}
	return list
}

// span is one time that an action lasts, counted from the origin of its moment.
type span struct{ begin, end Duration }

// forever is the end of an action that lasts until the end of the trial.
const forever Duration = math.MaxInt64

// spans returns when an action holds, and the origin of its times: actions with different origins
// cannot be compared before the trial.
func (r Resolved) spans(a Action) (from string, list []span) {
	begin := a.At
	switch at, known := r.ActionBegins(a); {
	case known:
		from, begin = "the start of the load", at
	case a.When.Text != "":
		from, begin = a.When.Text, a.After
	default:
		from = "the end of the load"
	}
	if a.For == 0 && a.Kind.Undoable() {
		return from, []span{{begin, forever}}
	}
	for range max(1, a.Times) {
		list = append(list, span{begin, begin + a.For})
		begin += a.Every
	}
	return from, list
}

// checkOverlaps refuses two actions that own the same thing at a time. The trial refuses those of
// which only it shows that they do.
func checkOverlaps(p *problems, n *node, r *Resolved, topology Topology) {
	for i := range r.Actions {
		for j := range i {
			first, second, at := r.Actions[j], r.Actions[i], n.items[i].at
			what := shared(first.Holds(topology), second.Holds(topology))
			if what == "" || p.failed(at) || p.failed(n.items[j].at) {
				continue
			}
			fromFirst, ofFirst := r.spans(first)
			fromSecond, ofSecond := r.spans(second)
			if fromFirst != fromSecond {
				continue
			}
			if both, ok := meeting(ofFirst, ofSecond); ok {
				until := "on"
				if both.end != forever {
					until = fmt.Sprintf("until %s", both.end)
				}
				p.errorf(at, "%s and %s have %s at the same time, from %s %s, counted from %s: "+
					"it takes one action at a time; say all of it in one (loss and delay go "+
					"together), or let one end before the other begins",
					quote(first.Name), quote(second.Name), what, both.begin, until, fromFirst)
			}
		}
	}
}

func shared(a, b []string) string {
	for _, word := range a {
		if slices.Contains(b, word) {
			return word
		}
	}
	return ""
}

// meeting returns the first time that is in a span of both lists, which are in order.
func meeting(a, b []span) (both span, ok bool) {
	for len(a) > 0 && len(b) > 0 {
		both = span{max(a[0].begin, b[0].begin), min(a[0].end, b[0].end)}
		moment := both.begin == both.end && (inside(a[0], b[0]) || inside(b[0], a[0]))
		if both.begin < both.end || moment {
			return both, true
		}
		if a[0].end <= b[0].end {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return both, false
}

// inside reports whether a moment, a span without a length, lies within another span.
func inside(moment, s span) bool {
	return moment.begin == moment.end && s.begin <= moment.begin && moment.begin < s.end
}
