package scenarios

import (
	"reflect"
	"slices"

	"github.com/ctload/ctload/internal/spelling"
)

// Phase is a named part of the load's time.
type Phase struct {
	Name   string
	Length Duration // more than 0
}

// Phases divide the load's time, one after another from its start. In a file they are names with
// lengths, in order. A generator of a phase starts and ends with it; a probe goes on through all.
type Phases []Phase

// Start returns when a phase begins, counted from the start of the load; false for an unknown name.
func (all Phases) Start(name string) (Duration, bool) {
	var start Duration
	for _, phase := range all {
		if phase.Name == name {
			return start, true
		}
		start += phase.Length
	}
	return 0, false
}

// Total returns the length of all phases together. The load lasts at least that long: phases in
// which nothing begins are pauses.
func (all Phases) Total() Duration {
	var total Duration
	for _, phase := range all {
		total += phase.Length
	}
	return total
}

func (all Phases) length(name string) Duration {
	if i := slices.IndexFunc(all, func(p Phase) bool { return p.Name == name }); i >= 0 {
		return all[i].Length
	}
	return 0
}

func (all Phases) names() []string {
	var names []string
	for _, phase := range all {
		names = append(names, phase.Name)
	}
	return names
}

// Begins returns when an entry of the workload starts, counted from the start of the load: its
// start, after the phases before its own.
func (r Resolved) Begins(e Entry) Duration {
	start, _ := r.Phases.Start(e.Phase)
	return start + e.Start
}

// decodeNode reads phases: names with lengths.
func (all *Phases) decodeNode(p *problems, n *node) {
	if n.kind != mapping {
		p.errorf(n.at, "phases must be names with lengths, as fill: 10s, not %s", n.what())
		return
	}
	for _, e := range n.entries {
		if e.value.taken {
			continue
		}
		phase := Phase{Name: e.key}
		checkName(p, e.at, "phase", e.key)
		decodeValue(p, e.value, reflect.ValueOf(&phase.Length).Elem())
		if at := e.value.at; e.value.kind == null {
			p.errorf(e.at, "the phase %s has no length, as 10s", quote(e.key))
		} else if phase.Length <= 0 && !p.failed(at) {
			p.errorf(at, "the length of a phase must be more than 0s")
		}
		*all = append(*all, phase)
	}
}

// tree returns the input of decodeNode; nil without phases.
func (all Phases) tree() *node {
	if len(all) == 0 {
		return nil
	}
	n := &node{kind: mapping}
	for _, phase := range all {
		n.entries = append(n.entries, entry{key: phase.Name, value: text(phase.Length.String())})
	}
	return n
}

// finishPhase ends an entry with its phase. Held connections stay: their duration says how long.
func finishPhase(e *Entry, n *node, phases Phases) {
	rest := phases.length(e.Phase) - e.Start
	if e.Phase == "" || rest <= 0 || e.Generator == Hold || len(e.Stages) > 0 {
		return
	}
	orDefault(n, "duration", &e.Duration, rest)
}

// checkPhase checks an entry against its phase.
func checkPhase(p *problems, n *node, e *Entry, phases Phases) {
	at := n.get("phase")
	if at == nil || at.kind != scalar || p.failed(at.at) {
		return
	}
	length := phases.length(e.Phase)
	switch names := phases.names(); {
	case len(phases) == 0:
		p.errorf(at.at, "there are no phases; they are a key of the file, names with lengths: phases: {%s: 10s}", e.Phase)
		return
	case !slices.Contains(names, e.Phase):
		p.errorf(at.at, "there is no phase %s%s", quote(e.Phase), spelling.Hint(e.Phase, names))
		return
	case length <= 0: // reported where the phases are read
		return
	}
	if e.Start >= length {
		p.errorf(n.place("start"), "it starts %s into the phase %s, which lasts %s", e.Start, quote(e.Phase), length)
		return
	}
	for _, key := range []string{"duration", "stages"} {
		if value := n.get(key); value != nil && e.Generator != Hold && e.Start+e.Length() > length {
			p.errorf(value.at, "it begins connections for longer than the phase %s goes on: %s of %s are left", quote(e.Phase), length-e.Start, length)
		}
	}
}
