package scenarios

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// Addresses give addresses and networks, as the user's own texts have them, to nodes of the lab.
type Addresses []Address

// Address is an address, or a network as 192.0.2.0/24, and its owner: a node, or dut.server for the
// DUT on the link to the servers.
type Address struct{ Address, Owner string }

func (a *Addresses) decodeNode(p *problems, n *node) {
	if n.kind != mapping {
		p.errorf(n.at, "addresses must be addresses with nodes, such as "+
			"203.0.113.5: server, not %s",
			n.what())
		return
	}
	for _, e := range n.entries {
		if owner, ok := scalarText(p, e.value); ok {
			*a = append(*a, Address{e.key, owner})
		}
	}
}

// tree returns the input of decodeNode.
func (a Addresses) tree() *node {
	n := &node{kind: mapping}
	for _, one := range a {
		n.add(one.Address, text(one.Owner))
	}
	return n
}

// placeholder returns the word that stands for the address in the lab; "" where it is malformed.
func (a Address) placeholder() string {
	network, err := netip.ParsePrefix(a.Address)
	whole := err == nil
	if !whole {
		address, err := netip.ParseAddr(a.Address)
		if err != nil {
			return ""
		}
		network = netip.PrefixFrom(address, address.BitLen())
	}
	six := ""
	if network.Addr().Is6() {
		six = IPv6.suffix()
	}
	node, link, dut := strings.Cut(a.Owner, ".")
	switch {
	case node == nodeDUT && !dut:
		link = nodeClient
	case !dut:
		link = strings.TrimRight(node, "0123456789")
	}
	switch {
	case whole && network.Bits() < network.Addr().BitLen():
		return link + ".network" + six
	case node == nodeDUT:
		return nodeDUT + "." + link + ".address" + six
	case dut:
		return ""
	}
	return nodeNamed(node) + ".address" + six
}

// checkAddresses checks the owners of addresses.
func checkAddresses(p *problems, n *node, addresses Addresses, topology Topology) {
	owners := topology.Nodes()
	if topology.Kind == Router {
		owners = append(owners, nodeDUT+"."+nodeServer)
	}
	for _, a := range addresses {
		_, err := netip.ParseAddr(a.Address)
		_, prefixErr := netip.ParsePrefix(a.Address)
		if err != nil && prefixErr != nil {
			p.errorf(n.keyPlace(a.Address), "%s is neither an address nor a network, as "+
				"203.0.113.5 or 192.0.2.0/24", quote(a.Address))
			continue
		}
		p.refuse(!slices.Contains(topology.placeholders(), a.placeholder()), n.place(a.Address),
			"the %s topology has nothing for the address of %s%s (it has %s)", topology.Kind,
			quote(a.Owner), spelling.Hint(a.Owner, owners), strings.Join(owners, ", "))
	}
}

// addressForm matches addresses and networks in texts, and other words that are no addresses.
var addressForm = regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?\b|` +
	`[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:/\d{1,3})?\b`)

// inLab returns a text with placeholders in the place of the addresses.
func (a Addresses) inLab(text string) string {
	type place struct {
		address netip.Addr
		bits    int // -1: an address alone
	}
	words := map[place]string{}
	for _, one := range a {
		if network, err := netip.ParsePrefix(one.Address); err == nil {
			words[place{network.Addr(), network.Bits()}] = one.placeholder()
		} else if address, err := netip.ParseAddr(one.Address); err == nil {
			words[place{address, -1}] = one.placeholder()
		}
	}
	return addressForm.ReplaceAllStringFunc(text, func(found string) string {
		if network, err := netip.ParsePrefix(found); err == nil {
			if word := words[place{network.Addr(), network.Bits()}]; word != "" {
				return "${" + word + "}"
			}
		}
		host, length, _ := strings.Cut(found, "/")
		address, err := netip.ParseAddr(host)
		word := words[place{address, -1}]
		if err != nil || word == "" {
			return found
		}
		if length != "" {
			length = "/" + length
		}
		return "${" + word + "}" + length
	})
}

// addressed returns a dut, a scenario or an action whose texts have placeholders in the place of
// addresses.
func (p normaliser) addressed(n *node) *node {
	if len(p.addresses) == 0 {
		return n
	}
	for _, key := range []string{"rules", "rules6", "nft", "ipset", "ipvs"} {
		n = n.change(key, func(given *node) *node {
			if given.kind != scalar {
				return given
			}
			if p.placed[given] == nil {
				changed := *given
				changed.text = p.addresses.inLab(given.text)
				p.placed[given] = &changed
			}
			return p.placed[given]
		})
	}
	return n
}
