package scenarios

import (
	"fmt"
	"slices"
	"strings"
)

// Answer is what a program does with packets and connections that reach its port.
type Answer string

// The answers.
const (
	// AnswerNothing: the target sends a reset, or ICMP port unreachable.
	AnswerNothing Answer = "nothing listens"
	// AnswerAny: the client sends nothing.
	AnswerAny Answer = "any program that takes connections"
	// AnswerHTTP: the bodies have one size.
	AnswerHTTP Answer = "a web server"
	// AnswerEcho: the program returns the data that it gets.
	AnswerEcho Answer = "a program that answers"
	// AnswerSilent: the program closes after its peer.
	AnswerSilent Answer = "a program that reads and says nothing"
	// AnswerLeak: entries stay in CLOSE_WAIT.
	AnswerLeak Answer = "a program that never closes its side"
	// AnswerDeaf is the answer of listener: full.
	AnswerDeaf Answer = "a program that takes nothing, so that its queue fills up"
)

// Program is what answers at a port.
type Program struct {
	Transport string // tcp or udp
	Answer    Answer
	Body      Size // of a web server's responses
}

// String words what the program does.
func (p Program) String() string {
	if p.Answer == AnswerHTTP && p.Body > 0 {
		return fmt.Sprintf("%s with bodies of %s", p.Answer, p.Body)
	}
	return string(p.Answer)
}

// program returns the program that an entry needs at its ports. There are no ports for an entry
// that goes to none, or that needs them closed: rules may lead it past a program that another entry
// reaches.
func (e Entry) program() (p Program, ports []uint16) {
	ports, p.Transport = e.Ports.Expand(), "tcp"
	if e.Probe != "" {
		ports = []uint16{uint16(e.Port)}
	}
	if e.Generator == UDP || e.Probe == ProbeUDP {
		p.Transport = "udp"
	}
	switch {
	case e.Generator == ICMP, e.Probe == ProbeICMP, e.Listener == ListenerClosed:
		return Program{}, nil
	case e.Listener == ListenerFull:
		p.Answer = AnswerDeaf
	case e.Generator == UDP && e.Silent:
		p.Answer = AnswerSilent
	case p.Transport == "udp":
		p.Answer = AnswerEcho
	case e.Generator == HTTP:
		p.Answer, p.Body = AnswerHTTP, e.Payload
	case e.Close == CloseHalf: // a peer that closed its side too would end the entry in TIME_WAIT
		p.Answer = AnswerLeak
	case e.Payload > 0: // a web server would take the payload for a request
		p.Answer = AnswerSilent
	default: // a SYN too: without a listener the target resets, and the reset ends the entry
		p.Answer = AnswerAny
	}
	return p, ports
}

// joined returns the program that suits both entries that need a and entries that need b, if there
// is one.
func joined(a, b Program) (Program, bool) {
	if a.Answer == AnswerAny {
		return b, true
	}
	return a, a == b || b.Answer == AnswerAny
}

// Listening is a port of a node and what answers there.
type Listening struct {
	Program
	Port uint16
}

// Answering returns the programs at the ports of each node that a workload goes to, by node, in the
// order in which the workload names the ports.
func (r Resolved) Answering(topology Topology) map[string][]Listening {
	all, _ := r.answering(topology)
	return all
}

// clash is a port at which two entries of a workload, given by index, need programs of different
// kinds.
type clash struct {
	first, second int
	node          string
	port          uint16
}

func (r Resolved) answering(topology Topology) (all map[string][]Listening, clashes []clash) {
	type place struct {
		node, transport string
		port            uint16
	}
	type taken struct{ entry, index int }
	found := map[place]taken{}
	all = map[string][]Listening{}
	for i, e := range r.Workload {
		program, ports := e.program()
		for _, node := range r.endsOn(topology, e) {
			clashed := false
			for _, port := range ports {
				at := place{node, program.Transport, port}
				before, there := found[at]
				if !there {
					found[at] = taken{i, len(all[node])}
					all[node] = append(all[node], Listening{program, port})
					continue
				}
				both, ok := joined(all[node][before.index].Program, program)
				all[node][before.index].Program = both
				if !ok && !clashed { // one of its ports is enough to report
					clashed = true
					clashes = append(clashes, clash{before.entry, i, node, port})
				}
			}
		}
	}
	return all, clashes
}

// endsOn returns the nodes that an entry's connections may end on.
func (r Resolved) endsOn(topology Topology, e Entry) []string {
	switch nat := r.DUT.NAT; {
	case topology.Kind == Server || nat == Redirect:
		return []string{nodeDUT}
	case e.Target != nodeDUT:
		return []string{e.Target}
	case nat == DNAT: // it leads to the first server
		return []string{nodeServer}
	case r.DUT.IPVS != "": // services of the DUT's address, with any server behind
		isClient := func(name string) bool { return strings.HasPrefix(name, nodeClient) }
		return slices.DeleteFunc(topology.Nodes(), isClient)
	}
	return []string{nodeDUT}
}

// checkAnswering refuses two entries that need different programs at one port.
func checkAnswering(p *problems, n *node, r *Resolved, topology Topology) {
	_, clashes := r.answering(topology)
	for _, c := range clashes {
		first, second := r.Workload[c.first], r.Workload[c.second]
		key := "ports"
		if second.Probe != "" {
			key = "port"
		}
		at := n.items[c.second].place(key)
		if p.failed(at) || p.failed(n.items[c.first].at) {
			continue
		}
		wants := func(e Entry) string {
			program, _ := e.program()
			return fmt.Sprintf("%s wants %s", quote(e.Name), program)
		}
		hint := ""
		if first.Silent != second.Silent {
			hint = ", or leave out silent"
		}
		p.errorf(at, "one program answers at port %d of %s, and %s, %s: "+
			"give one of them another port%s", c.port, c.node, wants(first), wants(second), hint)
	}
}
