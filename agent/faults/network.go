package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/ctload/ctload/internal/link"
)

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
	former := func(context.Context) error { return s.shaper.Shape(card, sent, received) }
	restore, err := s.unloading(former)
	if err != nil {
		return nil, err
	}
	c := &change{do: func(context.Context) error { return s.shaper.Shape(card, from, to) }}
	c.parts = []*part{{
		subject: "netem on " + card,
		read: func(context.Context) (string, error) {
			sent, received, err := link.Shaped(card)
			return fmt.Sprintf("sent: %v; received: %v", sent, received), err
		},
		restore: restore,
	}}
	c.check = func(context.Context) (err error) {
		c.sent, c.received, err = link.Shaped(card)
		if err == nil && !(c.sent.Near(from) && c.received.Near(to)) {
			err = fmt.Errorf("netem on %s has sent: %v; received: %v", card, c.sent, c.received)
		}
		return err
	}
	return c, nil
}

// Shaped returns how many frames the node's own conditions have dropped on a card, leaving and
// arriving ones.
func (s *Set) Shaped(card string) (sent, received int64, err error) {
	return s.shaper.Dropped(card)
}

// findCard returns the name of the network card with the given hardware address, or of the only
// one.
func findCard(mac string) (string, error) {
	cards, err := Cards(mac)
	if err != nil {
		return "", err
	}
	if len(cards) > 1 {
		return "", fmt.Errorf("the node has %d network cards, and none was named", len(cards))
	}
	return cards[0].Attrs().Name, nil
}

// Cards returns the node's network cards, at least one, or only that with the given hardware
// address.
func Cards(mac string) ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the links: %w", err)
	}
	cards := slices.DeleteFunc(links, func(l netlink.Link) bool {
		a := l.Attrs()
		card := a.Flags&net.FlagLoopback == 0 && a.EncapType == "ether" && l.Type() != "ifb"
		return !card || mac != "" && a.HardwareAddr.String() != mac
	})
	switch {
	case len(cards) > 0:
		return cards, nil
	case mac != "":
		return nil, fmt.Errorf("the node has no network card %s", mac)
	}
	return nil, errors.New("the node has no network card")
}

func checkNetwork(f Fault) error {
	if f.Conditions.Down {
		return errors.New("a node cannot take its own carrier away; the lab can")
	}
	return f.Conditions.Validate()
}
