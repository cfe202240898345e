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

// Ends are the lab's ends of all its nodes' links, at which conditions are made: what makes the lab that embeds it
// one whose links can be made worse. The zero value is ready for use.
type Ends struct {
	mu  sync.Mutex // held for a whole change: two of one link would mix
	all []*End

	look    sync.Once
	missing string // why this kernel cannot shape; empty where it can
}

// End is the lab's end of a node's link.
type End struct {
	Node, Link string // names
	// Name is that of the tap, or of the lab's end of the veth pair, and Bridge where it is; empty for a link that
	// is not in this namespace, where a partition is a loss of all frames.
	Name   string
	Bridge *Bridge
	// Card is the other end where that is a machine's; nil for a namespace of this kernel.
	Card Card

	shaped   bool // by netem on this end
	inside   bool // by netem in the machine itself, and then what it reads back:
	to, from Conditions
	parted   bool // where there is no bridge to take it off
}

// Card is the network card of a machine.
type Card interface {
	// Shape has the machine's own kernel shape what passes, in the place of what it did before; zero
	// conditions end that. It returns what reads back there.
	Shape(ctx context.Context, conditions Conditions) (to, from Conditions, err error)
	// SetCarrier plugs the cable in or out; Carrier says how it is.
	SetCarrier(ctx context.Context, up bool) error
	Carrier(ctx context.Context) (up bool, err error)
}

// Add remembers an end. What it returns forgets it again, with what was made beside it; the end itself goes with
// [Remove], after that.
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

// Rebooted forgets what a machine's own kernel did to the links of a node: that is gone.
func (e *Ends) Rebooted(node string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, end := range e.all {
		if end.Node == node {
			end.inside, end.parted = false, false
		}
	}
}

// SetLink makes conditions between a node and one of its links, in the place of those of before, and returns
// what reads back. Frames are shaped by netem on the lab's end, outside of the node. Where this kernel has no
// netem (see [missingNetem]) a machine shapes them itself, before its connection tracking sees what comes and
// after it saw what goes; a namespace, which has this kernel, cannot, and then the machine at the other
// end of its link can.
func (e *Ends) SetLink(ctx context.Context, node, name string, c Conditions) (Conditions, error) {
	if err := c.Validate(); err != nil {
		return Conditions{}, fmt.Errorf("link %s of %s: %w", name, node, err)
	}
	return e.change(ctx, node, name, c)
}

// ClearLink puts the link of a node in order.
func (e *Ends) ClearLink(ctx context.Context, node, name string) (Conditions, error) {
	return e.change(ctx, node, name, Conditions{})
}

func (e *Ends) change(ctx context.Context, node, name string, c Conditions) (now Conditions, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
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
	sameWay := !c.Shapes() || now.Holds(actions.To) == c.Holds(actions.To) && now.Holds(actions.From) == c.Holds(actions.From)
	if err == nil && (!now.Near(c) || !sameWay || now.Down != c.Down || now.Partitioned != c.Partitioned) {
		err = fmt.Errorf("it is now: %v", now)
	}
	if err != nil {
		return now, fmt.Errorf("link %s of %s (%v): %w", name, node, c, err)
	}
	return now, nil
}

// find is the end of a node's link; the error names what there is.
func (e *Ends) find(node, name string) (*End, error) {
	var known []string
	for _, end := range e.all {
		if end.Node == node && end.Link == name {
			return end, nil
		}
		known = append(known, end.Node+" on "+end.Link)
	}
	return nil, fmt.Errorf("%s is not on a link %s; there are %s", node, name, strings.Join(known, ", "))
}

// shape makes netem do as asked, where that is possible.
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
		return Shape(end.Name, to, from)
	case !c.Shapes():
		return nil
	}
	e.look.Do(func() { e.missing = missingNetem() })
	switch {
	case e.missing == "":
		end.shaped = true
		return Shape(end.Name, to, from)
	case end.Card == nil:
		return fmt.Errorf("this host's kernel cannot shape what a namespace sends and receives; ask for it on the side of a machine instead, whose own kernel can: %s", e.missing)
	}
	if end.to, end.from, err = end.Card.Shape(ctx, c); err != nil {
		return errors.Join(fmt.Errorf("this host's kernel cannot shape: %s", e.missing), err)
	}
	end.inside = true
	return nil
}

// connect sets carrier and partition.
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
	if end.Card == nil {
		if up == c.Down {
			return setUp(end.Name, !c.Down)
		}
		return nil
	}
	return end.plug(ctx, !c.Down)
}

// plug sets the cable of a machine's card.
func (end *End) plug(ctx context.Context, up bool) error {
	now, err := end.Card.Carrier(ctx)
	if err == nil && now != up {
		err = end.Card.SetCarrier(ctx, up)
	}
	return err
}

// conditions reads back: from the kernel that shapes, the bridge, and the machine's cable.
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
		c.Loss = 0 // its way to be parted
	}
	if err == nil && end.Card != nil {
		up, err = end.Card.Carrier(ctx)
	}
	c.Partitioned, c.Down = !joined, !up
	return c, err
}

// merge is the conditions of both directions as one, the way in which they were asked for: equal in both, or
// in one alone.
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
