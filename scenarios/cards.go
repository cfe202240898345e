package scenarios

import (
	"regexp"
	"slices"

	"github.com/ctload/ctload/internal/spelling"
)

// Cards are names of the DUT's network cards.
type Cards []Card

// Card is a name of the card on a link.
type Card struct{ Name, Link string }

func (c *Cards) decodeNode(p *problems, n *node) {
	if n.kind != mapping {
		p.errorf(n.at, "interfaces must be names with links, such as wan0: server, not %s",
			n.what())
		return
	}
	for _, e := range n.entries {
		if link, ok := scalarText(p, e.value); ok {
			*c = append(*c, Card{e.key, link})
		}
	}
}

// tree returns the input of decodeNode.
func (c Cards) tree() *node {
	n := &node{kind: mapping}
	for _, card := range c {
		n.add(card.Name, text(card.Link))
	}
	return n
}

// checkCards checks the names of the DUT's cards.
func checkCards(p *problems, n *node, cards Cards, topology Topology) {
	links := []string{nodeClient}
	if topology.Kind == Router {
		links = append(links, nodeServer)
	}
	seen := map[string]string{}
	for _, card := range cards {
		at := n.keyPlace(card.Name)
		p.refuse(!interfaceForm.MatchString(card.Name) || card.Name == "lo", at,
			"%s is not the name of a network card: at most 15 characters, without / and blanks",
			quote(card.Name))
		p.refuse(!slices.Contains(links, card.Link), n.place(card.Name), "the %s topology has no "+
			"link %s%s", topology.Kind, quote(card.Link), spelling.Hint(card.Link, links))
		p.refuse(seen[card.Link] != "", at, "the card on the link %s has the name %s already",
			card.Link, seen[card.Link])
		seen[card.Link] = card.Name
	}
}

var interfaceForm = regexp.MustCompile(`^[^/\s:]{1,15}$`)

// ownCards are the cards of the DUT, as its kernel names them in the order in which it gets them.
var ownCards = []struct{ link, name string }{{nodeClient, "eth0"}, {nodeServer, "eth1"}}

// Interfaces returns the names of the DUT's interfaces by the link that each is on.
func (c Configuration) Interfaces(topology Topology) map[string]string {
	names := map[string]string{}
	for _, card := range ownCards {
		if card.link == nodeClient || topology.Kind == Router {
			names[card.link] = card.name
		}
	}
	for _, card := range c.Cards {
		names[card.Link] = card.Name
	}
	return names
}

// mostPorts bounds the ports of an entry that the rules are asked about.
const mostPorts = 16
