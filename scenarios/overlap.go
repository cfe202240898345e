package scenarios

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/actions"
)

// Holds returns the links, as dut/client, and the nodes that the action owns while it lasts.
// Everything between a node and its link is one thing, and so is whether a node runs: if two
// actions held one at a time, the end of one would end both.
func (a Action) Holds(topology Topology) []string {
	switch a.Kind.Fact().Owns {
	case actions.Node:
		return []string{a.Node}
	case actions.Links:
		return topology.ends(a.Node)
	case actions.Link:
		if node, _, named := strings.Cut(a.Link, "/"); !named {
			return topology.ends(node)
		}
		return []string{a.Link}
	}
	return nil
}

// ends returns all the links of a node, as node/link.
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
				p.errorf(at, "%s and %s have %s at the same time, from %s %s, counted from %s: it takes one action at a time; say all of it in one (loss and delay go together), or let one end before the other begins",
					quote(first.Name), quote(second.Name), what, both.begin, until, fromFirst)
			}
		}
	}
}

// shared returns the first word that is in both lists, or "".
func shared(a, b []string) string {
	if i := slices.IndexFunc(a, func(word string) bool { return slices.Contains(b, word) }); i >= 0 {
		return a[i]
	}
	return ""
}

// meeting returns the first time that is in a span of both lists, which are in order.
func meeting(a, b []span) (both span, ok bool) {
	for len(a) > 0 && len(b) > 0 {
		both = span{max(a[0].begin, b[0].begin), min(a[0].end, b[0].end)}
		if both.begin < both.end || both.begin == both.end && (inside(a[0], b[0]) || inside(b[0], a[0])) {
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
