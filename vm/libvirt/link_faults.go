package libvirt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ctload/ctload/agent/faults"
	"github.com/ctload/ctload/vm"
	"github.com/ctload/ctload/vm/link"
)

// place is where a node meets a link.
type place struct {
	node, link string   // names
	end        string   // the lab's end: a tap, or one end of a veth pair
	mac        string   // of the machine's card
	machine    *machine // nil for a load node

	shaped   bool // by netem on the lab's end
	inGuest  bool // by netem in the machine itself, and then what it reads back:
	to, from link.Conditions
}

// places are all of a lab.
type places struct {
	mu  sync.Mutex
	all []*place

	look    sync.Once
	missing string // why this host's kernel cannot shape; empty where it can
}

func (p *places) add(place place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, &place)
}

// remove forgets the place of a lab's end, with what was made there.
func (p *places) remove(end string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	p.all = slices.DeleteFunc(p.all, func(place *place) bool {
		if place.end != end {
			return false
		}
		if place.shaped {
			err = link.Unshape(end)
		}
		return true
	})
	return err
}

// reset forgets what a machine's own kernel did to its links: that is gone.
func (p *places) reset(m *machine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, place := range p.all {
		if place.machine == m {
			place.inGuest = false
		}
	}
}

// find is the place of a node on a link; the error names what there is.
func (p *places) find(node, name string) (*place, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var known []string
	for _, place := range p.all {
		if place.node == node && place.link == name {
			return place, nil
		}
		known = append(known, place.node+" on "+place.link)
	}
	return nil, fmt.Errorf("%s is not on a link %s; there are %s", node, name, strings.Join(known, ", "))
}

// missingNetem says why this host's kernel cannot shape; it is tried once.
func (p *places) missingNetem() string {
	p.look.Do(func() { p.missing = link.MissingNetem() })
	return p.missing
}

// SetLink implements [vm.LinkFaulty]. Frames are shaped by netem on the lab's end of the link, outside the
// node. Where this host's kernel has no netem a machine shapes them itself, on its card, before its connection
// tracking sees what comes and after it saw what goes; a load node, which runs on this kernel, cannot, and
// then a machine at the other end can.
func (l *Lab) SetLink(ctx context.Context, node, name string, c link.Conditions) (link.Conditions, error) {
	if err := c.Validate(); err != nil {
		return link.Conditions{}, fmt.Errorf("link %s of %s: %w", name, node, err)
	}
	return l.setLink(ctx, node, name, c)
}

// ClearLink implements [vm.LinkFaulty].
func (l *Lab) ClearLink(ctx context.Context, node, name string) (link.Conditions, error) {
	return l.setLink(ctx, node, name, link.Conditions{})
}

func (l *Lab) setLink(ctx context.Context, node, name string, c link.Conditions) (now link.Conditions, err error) {
	p, err := l.places.find(node, name)
	if err == nil {
		err = l.shape(ctx, p, c)
	}
	if err == nil {
		err = l.connect(ctx, p, c)
	}
	if err == nil {
		now, err = l.conditions(ctx, p)
	}
	if err == nil && (!now.Near(c) || c.Shapes() && (now.Holds(link.To) != c.Holds(link.To) || now.Holds(link.From) != c.Holds(link.From)) || now.Down != c.Down || now.Partitioned != c.Partitioned) {
		err = fmt.Errorf("it is now: %v", now)
	}
	if err != nil {
		return now, fmt.Errorf("link %s of %s (%v): %w", name, node, c, err)
	}
	return now, nil
}

// shape makes netem do as asked, where that is possible.
func (l *Lab) shape(ctx context.Context, p *place, c link.Conditions) error {
	c.Partitioned = false // the bridge does that
	to, from := c.Split()
	if p.shaped {
		p.shaped = c.Shapes()
		return link.Shape(p.end, to, from)
	}
	fault := faults.Fault{ID: "link " + p.link, Kind: faults.Network, Card: p.mac, Conditions: c}
	fault.Conditions.Down = false
	if p.inGuest {
		if _, err := p.machine.Agent().Revert(ctx, fault.ID); err != nil {
			return err
		}
		p.inGuest = false
	}
	if !c.Shapes() {
		return nil
	}
	missing := l.places.missingNetem()
	if missing == "" {
		p.shaped = true
		return link.Shape(p.end, to, from)
	}
	if p.machine == nil {
		return fmt.Errorf("this host's kernel cannot shape what a load node sends and receives; ask for it on the side of a machine instead, whose own kernel can: %s", missing)
	}
	reading, err := p.machine.Agent().Apply(ctx, fault)
	if err != nil {
		return errors.Join(fmt.Errorf("this host's kernel cannot shape: %s", missing), err)
	}
	p.inGuest, p.to, p.from = true, reading.Received, reading.Sent
	return nil
}

// connect sets carrier and partition.
func (l *Lab) connect(ctx context.Context, p *place, c link.Conditions) error {
	joined, up, err := link.State(p.end)
	if err != nil {
		return err
	}
	switch {
	case c.Partitioned && joined:
		err = link.Part(p.end)
	case !c.Partitioned && !joined:
		err = l.bridges[p.link].Join(p.end)
	}
	if err != nil {
		return err
	}
	if p.machine == nil {
		if up == c.Down {
			return link.SetUp(p.end, !c.Down)
		}
		return nil
	}
	if up, err = p.machine.carrier(ctx, p.mac); err == nil && up == c.Down {
		err = p.machine.setCarrier(ctx, p.mac, !c.Down)
	}
	return err
}

// conditions reads a place back: from the kernel that shapes, the bridge, and libvirt.
func (l *Lab) conditions(ctx context.Context, p *place) (link.Conditions, error) {
	var to, from link.Conditions
	var err error
	switch {
	case p.inGuest:
		to, from = p.to, p.from
	case p.shaped:
		to, from, err = link.Shaped(p.end)
	}
	if err != nil {
		return link.Conditions{}, err
	}
	c := link.Merge(to, from)
	joined, up, err := link.State(p.end)
	if err == nil && p.machine != nil {
		up, err = p.machine.carrier(ctx, p.mac)
	}
	c.Partitioned, c.Down = !joined, !up
	return c, err
}

var _ vm.LinkFaulty = (*Lab)(nil)
