package explain

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/ctload/ctload/capture"
)

// heavySources returns the sources that have a share of the table which is worth a rule.
func (b *book) heavySources() (list []string) {
	for _, c := range b.bySource() {
		if c.Kind == ChangeDrop {
			list = append(list, c.What)
		}
	}
	return list
}

// hostShare is the least share of all entries that begin or end at an address of the host.
const hostShare = 0.05

// findAddresses tells the addresses of the host, of those beyond it, and whether it translates.
func (t *Traffic) findAddresses(c *capture.Capture) {
	entries := c.Table.Entries
	sources, targets := map[netip.Addr]int{}, map[netip.Addr]int{}
	six, snat, dnat := 0, 0, 0
	translated := map[netip.Addr]int{}
	for _, e := range entries {
		sources[e.Original.Source]++
		targets[e.Original.Destination]++
		if e.IPv6() {
			six++
		}
		source, destination := e.Translated()
		if source {
			snat++
			translated[e.Reply.Destination]++
		}
		if destination {
			dnat++
		}
	}
	t.IPv6 = 2*six > len(entries)
	t.SourceNAT, t.DestinationNAT = 2*snat > len(entries), 2*dnat > len(entries)
	t.Host = slices.Clone(c.Own)
	if len(t.Host) == 0 {
		t.guessHost(sources, targets, translated, len(entries), snat+dnat > len(entries)/10)
	}
	slices.SortFunc(t.Host, netip.Addr.Compare)
	t.Sources = slices.DeleteFunc(addressesOf(sources), t.IsHost)
	t.Targets = slices.DeleteFunc(addressesOf(targets), t.IsHost)
}

// guessHost finds the addresses of the host: those that begin connections and take others, those
// where translated connections end, and without either the only destination, or the only source.
func (t *Traffic) guessHost(sources, targets, translated map[netip.Addr]int, all int, router bool) {
	least := hostShare * float64(all)
	for _, a := range addressesOf(targets) {
		n := targets[a]
		_, both := sources[a]
		switch {
		case translated[a] > 0, both && float64(n) >= least/5,
			!router && float64(n) >= 0.5*float64(all):
			t.Host = append(t.Host, a)
		}
	}
	for _, a := range addressesOf(sources) {
		outgoing := float64(sources[a]) >= 0.9*float64(all) && len(targets) > 1
		if (translated[a] > 0 || outgoing && !router) && !slices.Contains(t.Host, a) {
			t.Host = append(t.Host, a)
		}
	}
	for a := range translated {
		if !slices.Contains(t.Host, a) {
			t.Host = append(t.Host, a)
		}
	}
}

// IsHost reports whether an address is one of the host itself.
func (t *Traffic) IsHost(a netip.Addr) bool { return slices.Contains(t.Host, a) }

// addressesOf returns addresses, those of most entries first.
func addressesOf(counts map[netip.Addr]int) (list []netip.Addr) {
	for a := range counts {
		list = append(list, a)
	}
	slices.SortFunc(list, func(x, y netip.Addr) int {
		return cmp.Or(cmp.Compare(counts[y], counts[x]), x.Compare(y))
	})
	return list
}

// way returns the way of an entry.
func (t *Traffic) way(e capture.Entry) Way {
	_, destination := e.Translated()
	switch {
	case t.IsHost(e.Original.Source):
		return Out
	case t.IsHost(e.Original.Destination) && !destination, e.Original.Destination.IsMulticast():
		return In
	}
	return Through
}

// Class tells what an address is to the host.
type Class string

// The classes of addresses.
const (
	ThisHost  Class = "this host"
	Private   Class = "private" // RFC 1918, RFC 6598, RFC 4193
	LinkLocal Class = "link-local"
	Public    Class = "public"
)

// Peer counts the entries whose source is of one class.
type Peer struct {
	Class     Class   `json:"class"`
	Addresses int     `json:"addresses"` // different ones
	Entries   int     `json:"entries"`
	Share     float64 `json:"share"`
}

// peers counts the entries by the class of their source, the most first.
func peers(c *capture.Capture) (list []Peer) {
	t := new(Traffic)
	t.findAddresses(c)
	entries, addresses := map[Class]int{}, map[Class]map[netip.Addr]bool{}
	for _, e := range c.Table.Entries {
		class, source := Public, e.Original.Source
		switch {
		case t.IsHost(source), source.IsLoopback():
			class = ThisHost
		case source.IsLinkLocalUnicast():
			class = LinkLocal
		case capture.Private(source):
			class = Private
		}
		if entries[class]++; addresses[class] == nil {
			addresses[class] = map[netip.Addr]bool{}
		}
		addresses[class][source] = true
	}
	for class, n := range entries {
		list = append(list, Peer{class, len(addresses[class]), n,
			float64(n) / float64(len(c.Table.Entries))})
	}
	slices.SortFunc(list, func(x, y Peer) int {
		return cmp.Or(cmp.Compare(y.Entries, x.Entries), cmp.Compare(x.Class, y.Class))
	})
	return list
}
