package scenarios

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// The names of nodes. client and server are the first of their kind, also called client1 and
// server1.
const (
	nodeDUT    = "dut"
	nodeClient = "client"
	nodeServer = "server"
)

// Nodes returns the names of a topology's nodes: dut, client, client2, ..., server, server2, ...
func (t Topology) Nodes() []string {
	nodes := []string{nodeDUT}
	for i := range t.Clients {
		nodes = append(nodes, nodeNamed(fmt.Sprint(nodeClient, i+1)))
	}
	for i := range t.Servers {
		nodes = append(nodes, nodeNamed(fmt.Sprint(nodeServer, i+1)))
	}
	return nodes
}

// nodeNamed returns the name of a node: client1 and server1 also mean client and server.
func nodeNamed(word string) string {
	if word == nodeClient+"1" || word == nodeServer+"1" {
		return strings.TrimSuffix(word, "1")
	}
	return word
}

func checkNode(p *problems, at Position, name string, topology Topology) {
	if nodes := topology.Nodes(); !slices.Contains(nodes, name) {
		p.errorf(at, "the %s topology has no node %s%s",
			topology.Kind, quote(name), spelling.Hint(name, nodes))
	}
}

func checkNodes(p *problems, n *node, e *Entry, topology Topology) {
	for _, end := range []struct {
		key  string
		name *string
	}{{"from", &e.From}, {"target", &e.Target}} {
		*end.name = nodeNamed(*end.name)
		if value := n.scalar(end.key); value != nil {
			checkNode(p, value.at, *end.name, topology)
		}
	}
	p.refuse(e.From == e.Target && e.From != nodeDUT, n.at,
		"from %s to itself: nothing would pass the DUT", e.From)
	sockets := generatorsThat(func(f GeneratorFact) bool {
		return !f.Crafted && f.Transport != "icmp"
	})
	able := e.From != nodeDUT || !e.Crafted && slices.Contains(sockets, string(e.Generator))
	p.refuse(n.has("from") && !able, n.place("from"), "the DUT makes %s alone; probes and crafted "+
		"packets come from a client", strings.Join(sockets, ", "))
	p.refuse(n.has("sources") && e.From == nodeDUT && e.Sources.Count > 1, n.place("sources"),
		"the DUT has no further addresses to send from")
	p.refuse(n.has("target") && strings.HasPrefix(e.Target, nodeClient), n.place("target"),
		"nothing answers on a client; a load goes to the dut, or behind a router to a server")
}

// placeholders returns the words that stand in rules, rules6, nft, ipvs and addresses for values
// that only the lab knows, written ${word}:
//
//	client.interface, server.interface   the DUT's interface on the client or server link
//	client.network, server.network       the network of the link, as 10.0.1.0/24
//	client.address, server2.address, ... the address of a client or server
//	dut.client.address, dut.server.address  the DUT's own address on the link
//
// and the last three with a 6 appended (client.address6) for IPv6. Those of the server link exist
// in the router topology only.
func (t Topology) placeholders() []string {
	links := []string{nodeClient}
	if t.Kind == Router {
		links = append(links, nodeServer)
	}
	nodes := map[string]int{nodeClient: t.Clients, nodeServer: t.Servers}
	var words []string
	for _, link := range links {
		words = append(words, link+".interface")
		for _, family := range t.Families {
			six := family.suffix()
			words = append(words, link+".network"+six)
			for i := range max(1, nodes[link]) {
				words = append(words, nodeNamed(fmt.Sprint(link, i+1))+".address"+six)
			}
			words = append(words, "dut."+link+".address"+six)
		}
	}
	return words
}

var placeholder = regexp.MustCompile(`\$\{([^}]*)\}`)

func checkPlaceholders(p *problems, at Position, text string, topology Topology) {
	for _, found := range placeholder.FindAllStringSubmatch(text, -1) {
		words := topology.placeholders()
		p.refuse(!slices.Contains(words, found[1]), at, "%s is not a placeholder of the %s "+
			"topology%s", quote(found[0]), topology.Kind, spelling.Hint(found[1], words))
	}
}

// checkTexts checks the placeholders in the rules and scripts of a dut or an action.
func checkTexts(p *problems, n *node, topology Topology) {
	for _, key := range rulesKeys {
		for _, t := range rulesOf(n.get(key)) {
			for _, line := range t.Lines {
				checkPlaceholders(p, t.place(line.At), line.Text, topology)
			}
		}
	}
	for _, key := range []string{"nft", "ipset", "ipvs"} {
		if script := n.scalar(key); script != nil {
			for i, line := range strings.Split(script.text, "\n") {
				checkPlaceholders(p, script.lineAt(i), line, topology)
			}
		}
	}
}

// Substitute replaces every placeholder in the configuration's rules and script by the lab's value.
// A placeholder without a value is an error.
func (c Configuration) Substitute(values map[string]string) (Configuration, error) {
	err := substitute(values, &c.Rules, &c.Rules6, &c.NFT, &c.IPSet, &c.IPVS)
	return c, err
}

// substitute replaces every placeholder in texts by its value.
func substitute(values map[string]string, texts ...*string) error {
	var missing []string
	for _, text := range texts {
		*text = placeholder.ReplaceAllStringFunc(*text, func(found string) string {
			word := found[2 : len(found)-1]
			value, ok := values[word]
			if !ok && !slices.Contains(missing, word) {
				missing = append(missing, word)
			}
			return value
		})
	}
	if len(missing) > 0 {
		words := strings.Join(missing, ", ")
		return fmt.Errorf("the lab has no value for the placeholders %s", words)
	}
	return nil
}

// Answer says how a program treats packets and connections that reach its port.
type Answer string

// The answers.
const (
	// AnswerNothing: the target sends a reset, or ICMP port unreachable.
	AnswerNothing Answer = "nothing listens"
	// AnswerAny: the client sends nothing.
	AnswerAny Answer = "any program that takes connections"
	// AnswerHTTP: the bodies have one size.
	AnswerHTTP Answer = "a web server"
	// AnswerGreeting: the program speaks first, and then reads.
	AnswerGreeting Answer = "a program that speaks first"
	// AnswerEcho: the program returns the data that it gets.
	AnswerEcho Answer = "a program that answers"
	// AnswerSilent: the program closes after its peer.
	AnswerSilent Answer = "a program that reads and says nothing"
	// AnswerLeak: entries stay in CLOSE_WAIT.
	AnswerLeak Answer = "a program that never closes its side"
	// AnswerDeaf is the answer of listener: full.
	AnswerDeaf Answer = "a program that takes nothing, so that its queue fills up"
)

// Program answers at a port.
type Program struct {
	Transport string // tcp or udp
	Answer    Answer
	Body      Size     // of a web server's responses, or of a greeting
	Delay     Duration // before each answer
}

// String words what the program does.
func (p Program) String() string {
	words := string(p.Answer)
	switch {
	case p.Answer == AnswerGreeting:
		words += " with " + p.Body.String()
	case p.Body > 0:
		words += " with bodies of " + p.Body.String()
	}
	if p.Delay > 0 {
		words += " after " + p.Delay.String()
	}
	return words
}

// program returns the program that an entry needs at its ports. There are no ports for an entry
// that goes to none, or that needs them closed: rules may lead it past a program that another entry
// reaches.
func (e Entry) program() (p Program, ports []uint16) {
	ports, p.Transport = e.Ports.Expand(), e.Transport()
	if e.Probe != "" {
		ports = []uint16{uint16(e.Port)}
	}
	switch {
	case p.Transport == "icmp", e.Listener == ListenerClosed:
		return Program{}, nil
	case e.Listener == ListenerFull:
		p.Answer = AnswerDeaf
	case e.Silent:
		p.Answer = AnswerSilent
	case p.Transport == "udp":
		p.Answer, p.Delay = AnswerEcho, e.AnswerDelay
	case e.Generator == HTTP:
		p.Answer, p.Body, p.Delay = AnswerHTTP, e.Payload, e.AnswerDelay
	case e.Greeting > 0:
		p.Answer, p.Body = AnswerGreeting, e.Greeting
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
	// need adds what an entry needs at a port, and reports whether another one needs something
	// else.
	need := func(entry int, at place, program Program) (clashed bool) {
		before, there := found[at]
		if !there {
			found[at] = taken{entry, len(all[at.node])}
			all[at.node] = append(all[at.node], Listening{program, at.port})
			return false
		}
		both, ok := joined(all[at.node][before.index].Program, program)
		all[at.node][before.index].Program = both
		return !ok
	}
	own := firewall{Ruleset: r.DUT.Ruleset()}
	led := make([][]lead, len(r.Workload))
	for i, e := range r.Workload {
		program, ports := e.program()
		var surely bool
		if led[i], surely = own.leads(topology, e, &r.DUT); surely {
			continue
		}
		for _, node := range r.endsOn(topology, e) {
			clashed := false
			for _, port := range ports {
				at := place{node, program.Transport, port}
				if need(i, at, program) && !clashed { // one of its ports is enough to report
					clashed = true
					clashes = append(clashes, clash{found[at].entry, i, node, port})
				}
			}
		}
	}
	// Where rules lead an entry whose listener is closed, nothing listens for others either: a
	// backend that has gone.
	closed := map[place]bool{}
	for i, e := range r.Workload {
		for _, to := range led[i] {
			if e.Listener == ListenerClosed {
				closed[place{to.node, e.Transport(), to.port}] = true
			}
		}
	}
	for i, e := range r.Workload {
		program, ports := e.program()
		for _, to := range led[i] {
			at := place{to.node, program.Transport, to.port}
			if len(ports) > 0 && to.node != "" && !closed[at] {
				need(i, at, program)
			}
		}
	}
	for _, text := range r.DUT.Listen {
		l, ok := parseListen(text)
		if !ok {
			continue // checkListen reports it
		}
		for _, port := range (Ports{l.PortRange}).Expand() {
			program := Program{Transport: l.transport, Answer: AnswerAny}
			if l.transport == "udp" {
				program.Answer = AnswerEcho
			}
			need(-1, place{l.node, l.transport, port}, program)
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
