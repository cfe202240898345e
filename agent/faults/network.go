package faults

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
)

// init adds the kind that loses, delays or changes frames on the node's own card, for labs whose
// links cannot.
func init() {
	makers[actions.Network] = maker{checkNetwork, (*Set).network}
}

// network shapes the traffic of the node's own card. It shapes incoming frames before connection
// tracking sees them, and outgoing ones after it.
func (s *Set) network(_ context.Context, f Fault) (*change, error) {
	card, err := findCard(f.Card)
	if err != nil {
		return nil, err
	}
	sent, received, err := link.Shaped(card)
	if err != nil {
		return nil, err
	}
	to, from := f.Conditions.Split()
	restore, err := s.unloading(func(context.Context) error { return link.Shape(card, sent, received) })
	if err != nil {
		return nil, err
	}
	c := &change{}
	*c = change{
		parts: []*part{{
			subject: "netem on " + card,
			read: func(context.Context) (string, error) {
				sent, received, err := link.Shaped(card)
				return fmt.Sprintf("sent: %v; received: %v", sent, received), err
			},
			restore: restore,
		}},
		do: func(context.Context) error { return link.Shape(card, from, to) },
		check: func(context.Context) error {
			sent, received, err := link.Shaped(card)
			if err == nil && !(sent.Near(from) && received.Near(to)) {
				err = fmt.Errorf("netem on %s is not as asked: sent: %v; received: %v", card, sent, received)
			}
			c.sent, c.received = sent, received
			return err
		},
	}
	return c, nil
}

// findCard returns the name of the network card with the given hardware address, or of the only
// one.
func findCard(mac string) (string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return "", fmt.Errorf("list the links: %w", err)
	}
	var cards []string
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagLoopback != 0 || a.EncapType != "ether" || l.Type() == "ifb" {
			continue
		}
		if mac != "" && a.HardwareAddr.String() == mac {
			return a.Name, nil
		}
		cards = append(cards, a.Name)
	}
	switch {
	case mac != "":
		return "", fmt.Errorf("the node has no network card %s", mac)
	case len(cards) == 1:
		return cards[0], nil
	case len(cards) == 0:
		return "", errors.New("the node has no network card")
	}
	return "", fmt.Errorf("the node has the network cards %v, and none was named", cards)
}

func checkNetwork(f Fault) error {
	if f.Conditions.Down {
		return errors.New("a node cannot take its own carrier away; the lab can")
	}
	return f.Conditions.Validate()
}
