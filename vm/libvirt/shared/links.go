package shared

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/generators"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/guest"
	"github.com/ctload/ctload/vm/journal"
	"github.com/ctload/ctload/vm/libvirt"
)

// linker makes the links of a shared lab and connects a machine's card to one.
type linker interface {
	card(ctx context.Context, h *hypervisor, link string) (libvirt.Card, error)
	// hint says what to do when nothing passes; it is empty unless a link crosses equipment of
	// others, so that the lab must test it.
	hint() string
}

// newLinker chooses networks of the user, or isolated ones on a single host, or else a VXLAN.
func newLinker(options Options, hosts []*hypervisor) (linker, error) {
	switch {
	case len(options.Networks) > 0:
		return &namedLinks{networks: options.Networks, links: map[string]string{}}, nil
	case len(hosts) == 1:
		return isolatedLinks{}, nil
	}
	return newVXLAN(options, hosts)
}

// isolatedLinks are libvirt networks without a way out, on one host.
type isolatedLinks struct{}

func (isolatedLinks) card(ctx context.Context, h *hypervisor, link string) (libvirt.Card, error) {
	network, err := h.network(ctx, link, 0)
	return libvirt.Card{Network: network}, err
}

func (isolatedLinks) hint() string { return "" }

// network returns the name of a libvirt network for a link. The first call makes it: transient,
// isolated, without addresses, without DHCP. mtu 0 is the default.
func (h *hypervisor) network(ctx context.Context, link string, mtu uint) (string, error) {
	h.making.Lock()
	defer h.making.Unlock()
	if name, ok := h.networks[link]; ok {
		return name, nil
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	made, err := h.record(journal.Network, h.options.objectName(link), newUUID())
	if err != nil {
		return "", err
	}
	text, err := networkXML(made, h.options.Run, mtu)
	if err != nil {
		return "", err
	}
	if _, err := libvirt.Ask(ctx, h.virt, h.virt.NetworkCreateXML, text); err != nil {
		return "", h.refused(err, "make network "+made.Name)
	}
	h.networks[link] = made.Name
	return made.Name, nil
}

func networkXML(made journal.Entry, run string, mtu uint) (string, error) {
	doc := libvirtxml.Network{
		Name: made.Name, UUID: made.Detail,
		Metadata: &libvirtxml.NetworkMetadata{XML: libvirt.Metadata(run)},
		// No forward element: isolated. libvirt chooses the bridge's name.
		Bridge: &libvirtxml.NetworkBridge{STP: "off", Delay: "0"},
		DNS:    &libvirtxml.NetworkDNS{Enable: "no"},
	}
	if mtu > 0 {
		doc.MTU = &libvirtxml.NetworkMTU{Size: mtu}
	}
	text, err := doc.Marshal()
	if err != nil {
		return "", fmt.Errorf("describe network %s for libvirt: %w", made.Name, err)
	}
	return text, nil
}

// unlink removes the links that were made on a host.
func (h *hypervisor) unlink(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.CallLimit)
	defer cancel()
	var errs []error
	h.making.Lock()
	defer h.making.Unlock()
	for _, e := range slices.Backward(h.made()) {
		if e.Kind == journal.Network || e.Kind == vxlanDevice {
			errs = append(errs, h.remove(ctx, e))
		}
	}
	h.networks = map[string]string{}
	return errors.Join(errs...)
}

// namedLinks are bridges or libvirt networks that the user has made on every host.
type namedLinks struct {
	networks []string
	links    map[string]string // network by link, in the order of the first requests
}

func (n *namedLinks) card(ctx context.Context, h *hypervisor, link string) (libvirt.Card, error) {
	h.making.Lock()
	defer h.making.Unlock()
	name, ok := n.links[link]
	if !ok {
		if len(n.links) == len(n.networks) {
			return libvirt.Card{}, guest.Missing(
				"--network once for each link: the clients', then the servers'",
				"there is no network for link %s: each link needs one of its own", link)
		}
		name = n.networks[len(n.links)]
		n.links[link] = name
	}
	text, err := libvirt.Within(ctx, h.virt, func() (string, error) {
		network, err := h.virt.NetworkLookupByName(name)
		if err != nil {
			return "", err
		}
		return h.virt.NetworkGetXMLDesc(network, 0)
	})
	switch {
	case gone(err):
		return libvirt.Card{Bridge: name}, nil
	case err != nil:
		return libvirt.Card{}, h.explain("look for network "+name, err)
	}
	var doc libvirtxml.Network
	if err := doc.Unmarshal(text); err != nil {
		return libvirt.Card{}, h.explain("read the description of network "+name, err)
	}
	c := libvirt.Card{Network: name}
	if doc.MTU != nil {
		c.MTU = doc.MTU.Size // libvirt does not announce the network's MTU to machines
	}
	return c, nil
}

func (n *namedLinks) hint() string {
	return "check that " + strings.Join(n.networks, " and ") + " of all hosts is one network for " +
		"frames of 1500 bytes, and that no rule of theirs is in the way"
}

// How long a load node tries to reach the DUT before the link counts as broken.
const (
	reachRate  = 5 // each second
	reachLimit = 10 * time.Second
	reachBytes = 1500 - 8 // of an IP packet after its ICMP header: a full frame of a machine
)

// reach tests whether a load node reaches the DUT over a link through equipment of others: a link
// that carries nothing, or no long frames, would look like a table that drops.
func (l *Lab) reach(ctx context.Context, node vm.Node, h *hypervisor, port vm.Port) error {
	address := l.dutAddress(port.Link)
	if !address.IsValid() || l.links.hint() == "" {
		return nil
	}
	payload := reachBytes - ipv6.HeaderLen
	if address.Is4() {
		payload = reachBytes - ipv4.HeaderLen
	}
	ctx, cancel := context.WithTimeout(ctx, reachLimit+libvirt.CallLimit)
	defer cancel()
	tried := generators.Spec{
		Kind: generators.Probe, Protocol: generators.ProtocolICMP, Target: address.String(),
		Payload: payload, Rate: reachRate, Count: int64(reachRate * reachLimit / time.Second),
		Timeout: time.Second,
	}
	trying, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	answered := errors.New("the DUT answered")
	result, err := node.Agent().Generate(trying, tried, func(p generators.Progress) {
		if p.Completed > 0 {
			stop(answered)
		}
	})
	if result.Completed > 0 || errors.Is(context.Cause(trying), answered) {
		return nil
	}
	if err != nil && ctx.Err() == nil {
		return err
	}
	return guest.Missing(l.links.hint(),
		"%s on %s does not reach the DUT on %s over the %s link: %d long pings without an answer",
		node.Name(), h.at.Name(), l.places[dutPlace].at.Name(), port.Link, result.Offered)
}

// dutAddress returns the DUT's first address on a link, without its prefix.
func (l *Lab) dutAddress(link string) netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, port := range l.dutPorts {
		if port.Link == link && len(port.Addresses) > 0 {
			if prefix, err := netip.ParsePrefix(port.Addresses[0]); err == nil {
				return prefix.Addr()
			}
		}
	}
	return netip.Addr{}
}
