package link

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ctload/ctload/internal/actions"
)

// Ends are the lab's ends of all its nodes' links, where conditions are set. A lab that embeds Ends
// can impair its links. The zero value is ready for use.
type Ends struct {
	mu     sync.Mutex // held for a whole change: two changes of one link would mix
	all    []*End
	shaper Shaper

	look    sync.Once
	missing string // why this kernel cannot shape; empty where it can
}

// End is the lab's end of a node's link.
type End struct {
	Node, Link string // names
	// Name is the name of the tap, or of the lab's end of the veth pair, and Bridge the bridge that
	// has it. Name is empty for a link outside of this namespace, where a partition is a loss of
	// all frames.
	Name   string
	Bridge *Bridge
	// Card is the other end where a machine has it; nil for a namespace of this kernel.
	Card Card

	shaped   bool // by netem on this end
	inside   bool // by netem in the machine itself; to and from are what reads back there
	to, from Conditions
	parted   bool // the partition where no bridge makes it
}

// Card is the network card of a machine.
type Card interface {
	// Shape makes the machine's own kernel shape the frames that pass, in place of its earlier
	// shaping; zero conditions end that. It returns the conditions that read back there.
	Shape(ctx context.Context, conditions Conditions) (to, from Conditions, err error)
	// SetCarrier plugs the cable in or out; Carrier reports whether it is in.
	SetCarrier(ctx context.Context, up bool) error
	Carrier(ctx context.Context) (up bool, err error)
}

// Add adds an end. leave removes it with the interface made beside it for shaping. The caller
// removes the end's own interface with [Remove], after leave.
func (e *Ends) Add(end End) (leave func() error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	added := &end
	e.all = append(e.all, added)
	return func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = slices.DeleteFunc(e.all, func(end *End) bool { return end == added })
		if added.shaped {
			return unshapeNamed(added.Name)
		}
		return nil
	}
}

// Rebooted forgets the shaping inside a node's machine: a reboot ends it.
func (e *Ends) Rebooted(node string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, end := range e.all {
		if end.Node == node {
			end.inside, end.parted = false, false
		}
	}
}

// SetLink sets the conditions between a node and one of its links, in place of earlier ones, and
// returns what reads back. netem on the lab's end shapes the frames, outside of the node. Where
// this kernel has no netem (see [missingNetem]), a machine shapes them itself, before its
// connection tracking sees arriving frames and after it saw leaving ones. A namespace shares this
// kernel and cannot; then the machine at the other end of its link can.
func (e *Ends) SetLink(ctx context.Context, node, name string, c Conditions) (Conditions, error) {
	if err := c.Validate(); err != nil {
		return Conditions{}, fmt.Errorf("link %s of %s: %w", name, node, err)
	}
	return e.change(ctx, node, name, c)
}

// ClearLink ends all conditions of a node's link.
func (e *Ends) ClearLink(ctx context.Context, node, name string) (Conditions, error) {
	return e.change(ctx, node, name, Conditions{})
}

func (e *Ends) change(ctx context.Context, node, name string, c Conditions) (Conditions, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var now Conditions
	end, err := e.find(node, name)
	if err == nil {
		err = e.shape(ctx, end, c)
	}
	if err == nil {
		err = end.connect(ctx, c)
	}
	if err == nil {
		now, err = end.conditions(ctx)
	}
	if err == nil && !same(now, c) {
		err = fmt.Errorf("it is now: %v", now)
	}
	return now, wrap(err, "link %s of %s (%v)", name, node, c)
}

func same(now, want Conditions) bool {
	way := now.Holds(actions.To) == want.Holds(actions.To) &&
		now.Holds(actions.From) == want.Holds(actions.From)
	return now.Near(want) && (way || !want.Shapes()) &&
		now.Down == want.Down && now.Partitioned == want.Partitioned
}

// find returns the end of a node's link. Its error names the known ends.
func (e *Ends) find(node, name string) (*End, error) {
	var ends []string
	for _, end := range e.all {
		if end.Node == node && end.Link == name {
			return end, nil
		}
		ends = append(ends, end.Node+" on "+end.Link)
	}
	known := strings.Join(ends, ", ")
	return nil, fmt.Errorf("%s is not on a link %s; there are %s", node, name, known)
}

// shape makes netem apply the conditions, where that is possible.
func (e *Ends) shape(ctx context.Context, end *End, c Conditions) (err error) {
	c.Down = false // not netem's
	if end.Name == "" {
		if end.to, end.from, err = end.Card.Shape(ctx, c); err != nil {
			return err
		}
		end.inside, end.parted = c != Conditions{}, c.Partitioned
		return nil
	}
	c.Partitioned = false // the bridge does that
	to, from := c.Split()
	switch {
	case end.inside:
		end.inside = c.Shapes()
		end.to, end.from, err = end.Card.Shape(ctx, c)
		return err
	case end.shaped:
		end.shaped = c.Shapes()
		return e.shaper.Shape(end.Name, to, from)
	case !c.Shapes():
		return nil
	}
	e.look.Do(func() { e.missing = missingNetem() })
	switch {
	case e.missing == "":
		end.shaped = true
		return e.shaper.Shape(end.Name, to, from)
	case end.Card == nil:
		return fmt.Errorf("this host's kernel cannot shape what a namespace sends and receives; "+
			"ask for it on the side of a machine instead, whose own kernel can: %s", e.missing)
	}
	if end.to, end.from, err = end.Card.Shape(ctx, c); err != nil {
		return errors.Join(fmt.Errorf("this host's kernel cannot shape: %s", e.missing), err)
	}
	end.inside = true
	return nil
}

func (end *End) connect(ctx context.Context, c Conditions) error {
	if end.Name == "" {
		return end.plug(ctx, !c.Down)
	}
	joined, up, err := state(end.Name)
	if err != nil {
		return err
	}
	switch {
	case c.Partitioned && joined:
		err = part(end.Name)
	case !c.Partitioned && !joined:
		err = end.Bridge.Join(end.Name)
	}
	if err != nil {
		return err
	}
	switch {
	case end.Card != nil:
		return end.plug(ctx, !c.Down)
	case up == c.Down:
		return setUp(end.Name, !c.Down)
	}
	return nil
}

// plug plugs the cable of a machine's card in or out.
func (end *End) plug(ctx context.Context, up bool) error {
	now, err := end.Card.Carrier(ctx)
	if err == nil && now != up {
		err = end.Card.SetCarrier(ctx, up)
	}
	return err
}

// conditions reads the conditions back: from the kernel that shapes, the bridge, and the machine's
// cable.
func (end *End) conditions(ctx context.Context) (Conditions, error) {
	var to, from Conditions
	var err error
	switch {
	case end.inside:
		to, from = end.to, end.from
	case end.shaped:
		to, from, err = Shaped(end.Name)
	}
	if err != nil {
		return Conditions{}, err
	}
	c := merge(to, from)
	joined, up := !end.parted, true
	if end.Name != "" {
		joined, up, err = state(end.Name)
	} else if end.parted {
		c.Loss = 0 // the loss makes the partition
	}
	if err == nil && end.Card != nil {
		up, err = end.Card.Carrier(ctx)
	}
	c.Partitioned, c.Down = !joined, !up
	return c, err
}

// merge returns the conditions of both directions as one, as a caller of SetLink gives them: equal
// in both directions, or in one alone.
func merge(to, from Conditions) Conditions {
	switch {
	case to == from:
		return to
	case from == Conditions{}:
		to.Direction = actions.To
		return to
	}
	from.Direction = actions.From
	return from
}
