package scenarios

import (
	"reflect"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/kernels"
	"github.com/ctload/ctload/internal/spelling"
)

// The keys that go with each kind of action, beside those that go with all of them.
var (
	actionCommon = []string{"action", "name", "fix", "at", "phase", "when", "after"}
	actionUndone = []string{"for", "every", "times"} // of what can be taken back
	actionKeys   = map[ActionKind][]string{
		SetSysctl:      {"node", "sysctl"},
		SetBuckets:     {"node", "buckets"},
		RulesLoad:      {"node", "rules", "rules6", "nft", "add"},
		RulesRemove:    {"node"},
		Flush:          {"node"},
		Delete:         append([]string{"node"}, filterKeys...),
		ModuleRemove:   {"node", "modules"},
		ClockJump:      {"node", "by"},
		CPUThrottle:    {"node", "share"},
		MemoryPressure: {"node", "leave"},
		ServerStop:     {"node", "ports"},
		ServerStall:    {"node", "ports"},
		ServerRestart:  {"node", "ports"},
		Pause:          {"node"},
		Reset:          {"node"},
		Network:        append([]string{"link", "direction"}, networkKeys...),
		LinkDown:       {"link"},
		Partition:      {"node"},
		Join:           {"entry"},
	}
	filterKeys  = []string{"protocol", "state", "source", "destination", "port", "source-port", "unassured"}
	networkKeys = []string{"loss", "delay", "jitter", "reorder", "duplicate", "corrupt", "rate"}
	// actionFields are all keys of an action; a key beyond them is reported by decode.
	actionFields = fieldKeys(reflect.TypeFor[Action]())
)

// keysOf are all keys that go with a kind.
func keysOf(kind ActionKind) []string {
	keys := slices.Concat(actionCommon, actionKeys[kind])
	if kind.Undoable() {
		keys = append(keys, actionUndone...)
	}
	return keys
}

const (
	maxTimes    = Count(1000)
	maxThrottle = Share(0.95) // the kernel keeps the rest from real-time processes
)

// checkActions judges the actions of a scenario.
func checkActions(p *problems, n *node, r *Resolved, topology Topology) {
	seen := map[string]bool{}
	for i := range r.Actions {
		a, at := &r.Actions[i], n.items[i]
		if at.kind != mapping {
			continue // reported by decode
		}
		kind := at.get("action")
		if kind == nil {
			p.errorf(at.at, "an action needs action: %s", strings.Join(ActionKind("").Words(), "|"))
			continue
		}
		if p.failed(kind.at) {
			continue
		}
		checkActionKeys(p, at, a)
		checkMoment(p, at, a, r.Phases)
		checkDuration(p, at, a)
		checkPlace(p, at, a, topology)
		checkParameters(p, at, a, r, topology)
		checkName(p, at.at, "action", a.Name)
		if seen[a.Name] {
			p.errorf(at.at, "two actions are called %s", quote(a.Name))
		}
		seen[a.Name] = true
	}
	checkOverlaps(p, n, r, topology)
}

func checkActionKeys(p *problems, n *node, a *Action) {
	valid := keysOf(a.Kind)
	for _, e := range n.entries {
		switch {
		case slices.Contains(valid, e.key) || !slices.Contains(actionFields, e.key):
		case e.key == "buckets" && a.Kind == SetSysctl:
			p.errorf(e.at, "the size of the hash is an action of its own: action: %s", SetBuckets)
		case slices.Contains(actionUndone, e.key):
			p.errorf(e.at, "%s does not go with action: %s, which cannot be taken back", quote(e.key), a.Kind)
		default:
			p.errorf(e.at, "%s does not go with action: %s", quote(e.key), a.Kind)
		}
	}
}

// checkMoment judges when an action comes.
func checkMoment(p *problems, n *node, a *Action, phases Phases) {
	at, when := n.get("at"), n.get("when")
	switch {
	case at == nil && when == nil && n.get("phase") == nil:
		p.errorf(n.at, "an action needs a time (at: 10s) or a condition (when: first drop)")
	case at != nil && when != nil:
		p.errorf(when.at, "at and when exclude each other: an action has a time or a condition")
	}
	if after := n.get("after"); after != nil && when == nil {
		p.errorf(after.at, "after needs when: it is the time after the condition has come true")
	}
	if when != nil && when.kind == scalar && strings.TrimSpace(when.text) == "" {
		p.errorf(when.at, "the condition is empty")
	}
	phase := n.get("phase")
	if phase == nil || phase.kind != scalar {
		return
	}
	names := append(phases.names(), PhaseRecovery)
	switch length := phases.length(a.Phase); {
	case when != nil:
		p.errorf(phase.at, "phase needs at, which counts from the start of the phase")
	case !slices.Contains(names, a.Phase):
		p.errorf(phase.at, "there is no phase %s%s", quote(a.Phase), spelling.Hint(a.Phase, names))
	case a.Phase != PhaseRecovery && length > 0 && a.At >= length:
		p.errorf(n.place("at"), "at %s into the phase %s, which lasts %s", a.At, quote(a.Phase), length)
	}
}

// checkDuration judges how long an action lasts and how often it comes.
func checkDuration(p *problems, n *node, a *Action) {
	if !a.Kind.Undoable() {
		return // the keys are reported already
	}
	length, every, times := n.get("for"), n.get("every"), n.get("times")
	if length != nil && !p.failed(length.at) && a.For <= 0 {
		p.errorf(length.at, "for must be more than 0s")
	}
	if a.Kind == Pause && length == nil {
		p.errorf(n.at, "pause needs for, as 5s: a node that is paused until the end of the trial reports nothing")
	}
	switch {
	case every == nil && times == nil:
	case length == nil || every == nil || times == nil:
		p.errorf(n.at, "an action that repeats needs for, every and times")
	case !p.failed(every.at) && a.Every <= a.For:
		p.errorf(every.at, "every must be longer than for (%s), not %s: the action would begin again before it ends", a.For, a.Every)
	case !p.failed(times.at) && (a.Times < 1 || a.Times > maxTimes):
		p.errorf(times.at, "times must be 1 to %d", maxTimes)
	}
}

// checkPlace judges the node or the link of an action.
func checkPlace(p *problems, n *node, a *Action, topology Topology) {
	nodes := topology.Nodes()
	if a.Node == nodeClient+"1" || a.Node == nodeServer+"1" {
		a.Node = strings.TrimSuffix(a.Node, "1")
	}
	if on := n.get("node"); on != nil && on.kind == scalar && !slices.Contains(nodes, a.Node) {
		p.errorf(on.at, "the %s topology has no node %s%s", topology.Kind, quote(a.Node), spelling.Hint(a.Node, nodes))
	}
	if on := n.get("node"); on != nil && a.Kind == Reset && a.Node != nodeDUT {
		p.errorf(on.at, "only the dut can be reset: a client would forget its load, and report nothing")
	}
	link := n.get("link")
	if link == nil || link.kind != scalar {
		return
	}
	node, name, named := strings.Cut(a.Link, "/")
	if node == nodeClient+"1" || node == nodeServer+"1" {
		node = strings.TrimSuffix(node, "1")
		a.Link = strings.Replace(a.Link, "1", "", 1)
	}
	links := topology.LinksOf(node)
	switch {
	case !slices.Contains(nodes, node):
		p.errorf(link.at, "the %s topology has no node %s%s", topology.Kind, quote(node), spelling.Hint(node, nodes))
	case named && !slices.Contains(links, name):
		p.errorf(link.at, "%s has no link %s%s", node, quote(name), spelling.Hint(name, links))
	}
}

// LinksOf are the names of the links that a node is on.
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

// checkParameters judges what each kind needs.
func checkParameters(p *problems, n *node, a *Action, r *Resolved, topology Topology) {
	given := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(key string) bool { return n.get(key) != nil })
	}
	need := func(key, example string) bool {
		if !given(key) {
			p.errorf(n.at, "%s needs %s, as %s", a.Kind, key, example)
			return false
		}
		return !p.failed(n.get(key).at)
	}
	switch a.Kind {
	case SetSysctl:
		if need("sysctl", "{"+kernels.KeyMax+": 262144}") && len(a.Sysctl) == 0 && !given("buckets") {
			p.errorf(n.get("sysctl").at, "no setting is given")
		}
	case SetBuckets:
		if need("buckets", "65536") && (a.Buckets < 1 || a.Buckets > 1<<31) {
			p.errorf(n.get("buckets").at, "buckets must be 1 to %d", 1<<31)
		}
	case RulesLoad:
		if !given("rules", "rules6", "nft") {
			p.errorf(n.at, "%s needs rules, rules6 or nft; to remove them all there is %s", a.Kind, RulesRemove)
		}
		checkActionRules(p, n, topology)
	case Delete:
		if !given(filterKeys...) {
			p.errorf(n.at, "%s needs one of %s; %s removes all entries", a.Kind, strings.Join(filterKeys, ", "), Flush)
		}
	case ModuleRemove:
		for _, name := range a.Modules {
			if !moduleForm.MatchString(name) || strings.Contains(name, " ") {
				p.errorf(n.place("modules"), "%s is not a module, such as nf_conntrack", quote(name))
			}
		}
	case ClockJump:
		if need("by", "30s or -30s") && a.By == 0 {
			p.errorf(n.get("by").at, "by must not be 0s")
		}
	case CPUThrottle:
		if need("share", "50%") && (a.Share <= 0 || a.Share > maxThrottle) {
			p.errorf(n.get("share").at, "share must be more than 0%% and at most %s", maxThrottle)
		}
	case Network:
		checkNetwork(p, n, a)
	case Join:
		if need("entry", "the name of a generator of the workload") {
			checkJoin(p, n, a, r)
		}
	}
}

func checkActionRules(p *problems, n *node, topology Topology) {
	for _, key := range rulesKeys {
		for _, t := range rulesOf(n.get(key)) {
			for _, line := range t.lines {
				checkPlaceholders(p, line.at, line.Text, topology)
			}
		}
		if rules := n.get(key); rules != nil && rules.kind == scalar && rules.text == noRules {
			p.errorf(rules.at, "%s without rules; to remove them all there is action: %s", RulesLoad, RulesRemove)
		}
	}
	if nft := n.get("nft"); nft != nil && nft.kind == scalar {
		checkScript(p, nft, false)
		for i, line := range strings.Split(nft.text, "\n") {
			checkPlaceholders(p, nft.lineAt(i), line, topology)
		}
	}
}

// checkNetwork judges what is asked of a link. A share of 0% is a link in order, for the sake of a matrix.
func checkNetwork(p *problems, n *node, a *Action) {
	if !slices.ContainsFunc(networkKeys, func(key string) bool { return n.get(key) != nil }) {
		p.errorf(n.at, "%s needs one of %s; %s and %s let no frame pass",
			Network, strings.Join(networkKeys, ", "), LinkDown, Partition)
	}
	if jitter := n.get("jitter"); jitter != nil && !p.failed(jitter.at) && a.Jitter > a.Delay {
		p.errorf(jitter.at, "jitter must be at most the delay %s, not %s: a frame cannot arrive before it was sent", a.Delay, a.Jitter)
	}
	if reorder := n.get("reorder"); reorder != nil && !p.failed(reorder.at) && a.Reorder > 0 && a.Delay == 0 {
		p.errorf(reorder.at, "reorder needs a delay: frames overtake those that wait")
	}
}

// checkJoin judges the entry that an action starts.
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
