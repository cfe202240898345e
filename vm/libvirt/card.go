package libvirt

import (
	"context"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ctload/ctload/agent"
	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
)

// plugged is one of a machine's cards as links see it.
type plugged struct {
	machine *Machine
	card    Card
	shaping *agent.Client // the client asked to shape the card and not yet to stop; nil: none
}

// Shape implements [link.Card] through the machine's agent.
func (p *plugged) Shape(ctx context.Context, c link.Conditions) (to, from link.Conditions, err error) {
	client := p.machine.Agent()
	fault := faults.Fault{ID: "link of " + p.card.MAC, Kind: actions.Network, Card: p.card.MAC, Conditions: c}
	before := p.shaping
	p.shaping = nil
	if before == client { // not a client from before a reset
		if _, err := client.Revert(ctx, fault.ID); err != nil {
			return to, from, err
		}
	}
	if !c.Shapes() && !c.Partitioned {
		return to, from, nil
	}
	reading, err := client.Apply(ctx, fault)
	if err != nil {
		return to, from, err
	}
	p.shaping = client
	return reading.Received, reading.Sent, nil
}

// SetCarrier implements [link.Card].
func (p *plugged) SetCarrier(ctx context.Context, up bool) error {
	card := interfaces([]Card{p.card})[0]
	card.Link = &libvirtxml.DomainInterfaceLink{State: "up"}
	if !up {
		card.Link.State = "down"
	}
	xml, err := card.Marshal()
	if err != nil {
		return fmt.Errorf("describe a card of %s for libvirt: %w", p.machine.Name(), err)
	}
	return p.machine.do(ctx, "change the carrier of a card of", func(virt *golibvirt.Libvirt, domain golibvirt.Domain) error {
		return virt.DomainUpdateDeviceFlags(domain, xml, golibvirt.DomainDeviceModifyLive)
	})
}

// Carrier implements [link.Card]; it reads libvirt's description of the machine.
func (p *plugged) Carrier(ctx context.Context) (up bool, err error) {
	var xml string
	err = p.machine.do(ctx, "describe", func(virt *golibvirt.Libvirt, domain golibvirt.Domain) (err error) {
		xml, err = virt.DomainGetXMLDesc(domain, 0)
		return err
	})
	if err != nil {
		return false, err
	}
	var doc libvirtxml.Domain
	if err := doc.Unmarshal(xml); err != nil {
		return false, fmt.Errorf("read libvirt's description of %s: %w", p.machine.Name(), err)
	}
	for _, card := range doc.Devices.Interfaces {
		if card.MAC != nil && card.MAC.Address == p.card.MAC {
			return card.Link == nil || card.Link.State != "down", nil
		}
	}
	return false, fmt.Errorf("libvirt's description of %s has no card %s", p.machine.Name(), p.card.MAC)
}
