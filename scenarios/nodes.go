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
	sockets := []Generator{HTTP, TCP, Hold, UDP}
	able := e.From != nodeDUT || !e.Crafted && slices.Contains(sockets, e.Generator)
	p.refuse(n.has("from") && !able, n.place("from"), "the DUT makes %s alone; probes and crafted "+
		"packets come from a client", strings.Join(words(sockets...), ", "))
	p.refuse(n.has("sources") && e.From == nodeDUT && e.Sources > 1, n.place("sources"),
		"the DUT has no further addresses to send from")
	p.refuse(n.has("target") && strings.HasPrefix(e.Target, nodeClient), n.place("target"),
		"nothing answers on a client; a load goes to the dut, or behind a router to a server")
}

// placeholders returns the words that stand in rules, rules6, nft and ipvs for values that only the
// lab knows, written ${word}:
//
//	client.interface, server.interface   the DUT's interface on the client or server link
//	client.network, server.network       the network of the link, as 10.0.1.0/24
//	client.address, server.address       the address of the first client or server
//	dut.client.address, dut.server.address  the DUT's own address on the link
//
// and the last three with a 6 appended (client.address6) for IPv6. Those of the server link exist
// in the router topology only.
func (t Topology) placeholders() []string {
	links := []string{nodeClient}
	if t.Kind == Router {
		links = append(links, nodeServer)
	}
	var words []string
	for _, link := range links {
		words = append(words, link+".interface")
		for _, family := range t.Families {
			six := family.suffix()
			words = append(words, link+".network"+six, link+".address"+six,
				"dut."+link+".address"+six)
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
	for _, key := range []string{"nft", "ipvs"} {
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
	var missing []string
	fill := func(text string) string {
		return placeholder.ReplaceAllStringFunc(text, func(found string) string {
			word := found[2 : len(found)-1]
			value, ok := values[word]
			if !ok && !slices.Contains(missing, word) {
				missing = append(missing, word)
			}
			return value
		})
	}
	c.Rules, c.Rules6, c.NFT, c.IPVS = fill(c.Rules), fill(c.Rules6), fill(c.NFT), fill(c.IPVS)
	if len(missing) > 0 {
		words := strings.Join(missing, ", ")
		return c, fmt.Errorf("the lab has no value for the placeholders %s", words)
	}
	return c, nil
}
