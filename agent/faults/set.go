package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
)

// Node is what faults act on.
type Node struct {
	Kernel tuning.Kernel
	// Own says that the node has a kernel of its own: it is a machine, and no namespace of its host. A
	// fault that would be the host's is refused elsewhere.
	Own bool
	// Servers are the node's responders; nil where there are none.
	Servers func() []Server
}

// hostError says that a fault would change the kernel of the node's host.
type hostError struct {
	Kind actions.Kind
	What string // what would be changed
}

func (e *hostError) Error() string {
	return fmt.Sprintf("%s: this node is a namespace and shares its host's kernel: %s would change for the whole host", e.Kind, e.What)
}

// undoLimit bounds what is put back when a set is closed.
const undoLimit = 30 * time.Second

// Set is the faults that are active on a node.
type Set struct {
	node Node

	mu     sync.Mutex
	active []*change // in the order in which they were applied
}

// NewSet is a set for one node, without any fault.
func NewSet(node Node) *Set { return &Set{node: node} }

// change is one fault on its way: what it touches, and how.
type change struct {
	id      string
	parts   []*part
	do      func(context.Context) error
	check   func(context.Context) error // proves after do that the kernel is as asked; nil where do does
	figures []Figure                    // that do found out, beside those of the parts
	remarks []string

	sent, received link.Conditions // of Network, as read back

	remarkLoaded func() // says what the kernel has loaded for it
}

// part is one thing that a fault changes.
type part struct {
	// subject names it: of two active faults with one subject the later one covers the earlier.
	subject string
	// read is what the kernel has of it, for the figure of the same name; nil for what only restore needs.
	read func(context.Context) (string, error)
	// restore puts it back to what it was when the part was made; nil where nothing can.
	restore func(context.Context) error
}

// Apply makes the fault. What it changes is read before and after; the reading holds both. A fault that
// could not be made wholly, or that reads back as something else, is an error, and then nothing of it is
// left.
func (s *Set) Apply(ctx context.Context, f Fault) (Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.ID == "" {
		return Reading{}, fmt.Errorf("%s: it has no id", f.Kind)
	}
	if slices.ContainsFunc(s.active, func(c *change) bool { return c.id == f.ID }) {
		return Reading{}, fmt.Errorf("%s: a fault of the id %s is active already", f.Kind, f.ID)
	}
	if err := Validate(f); err != nil {
		return Reading{}, err
	}
	if what := f.Kind.Fact().Host; what != "" && !s.node.Own {
		return Reading{}, &hostError{Kind: f.Kind, What: what}
	}
	c, err := makers[f.Kind].make(s, ctx, f)
	if err != nil {
		return Reading{}, fmt.Errorf("%s: %w", f.Kind, err)
	}
	c.id = f.ID
	reading, err := c.measure(ctx, c.parts, c.do, c.check)
	reading.Figures = append(reading.Figures, c.figures...)
	reading.Remarks = append(reading.Remarks, c.remarks...)
	reading.Sent, reading.Received = c.sent, c.received
	if err != nil {
		// Whatever was done of it goes, also when the caller has lost its patience.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
		defer cancel()
		return reading, errors.Join(fmt.Errorf("%s: %w", f.Kind, err), restore(undo, c.parts))
	}
	if f.Kind.Undoable() {
		s.active = append(s.active, c)
	}
	return reading, nil
}

// Revert takes a fault back. What a later fault has changed since stays as that one made it, and goes back to
// what was before both when the later one is reverted.
func (s *Set) Revert(ctx context.Context, id string) (Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.active, func(c *change) bool { return c.id == id })
	if i < 0 {
		return Reading{}, fmt.Errorf("revert the fault %s: it is not active", id)
	}
	c := s.active[i]
	later := s.active[i+1:]
	var own []*part
	var covered []string
	for _, p := range c.parts {
		if over := covering(later, p.subject); over != nil && p.restore != nil {
			over.restore = p.restore
			covered = append(covered, fmt.Sprintf("%s stays as a later fault has made it", p.subject))
			continue
		}
		own = append(own, p)
	}
	c.figures, c.remarks = nil, nil
	reading, err := c.measure(ctx, own, func(ctx context.Context) error { return restore(ctx, own) }, nil)
	reading.Figures = append(reading.Figures, c.figures...)
	reading.Remarks = append(append(reading.Remarks, c.remarks...), covered...)
	s.active = slices.Delete(s.active, i, i+1)
	if err != nil {
		return reading, fmt.Errorf("revert the fault %s: %w", id, err)
	}
	return reading, nil
}

// covering is the first later change of the same subject.
func covering(later []*change, subject string) *part {
	for _, c := range later {
		for _, p := range c.parts {
			if p.subject == subject {
				return p
			}
		}
	}
	return nil
}

// Close takes all faults back, the last one first.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), undoLimit)
	defer cancel()
	var errs []error
	for _, c := range slices.Backward(s.active) {
		if err := restore(ctx, c.parts); err != nil {
			errs = append(errs, fmt.Errorf("revert the fault %s: %w", c.id, err))
		}
	}
	s.active = nil
	return errors.Join(errs...)
}

// restore puts parts back, the last one first: what was changed later may need what was changed before.
func restore(ctx context.Context, parts []*part) error {
	var errs []error
	for _, p := range slices.Backward(parts) {
		if p.restore == nil {
			continue
		}
		if err := p.restore(ctx); err != nil {
			errs = append(errs, fmt.Errorf("put back %s: %w", p.subject, err))
		}
	}
	return errors.Join(errs...)
}

// unloading is a restore that then removes the modules which the kernel has loaded for the fault, on a node
// with a kernel of its own: how many there are is part of its configuration.
func (s *Set) unloading(restore func(context.Context) error) (func(context.Context) error, error) {
	if !s.node.Own {
		return restore, nil
	}
	before, err := s.node.Kernel.LoadedModules()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := restore(ctx); err != nil {
			return err
		}
		return s.node.Kernel.RemoveUnused(ctx, before)
	}, nil
}

// measure does something between two readings of the parts, and has it checked.
func (c *change) measure(ctx context.Context, parts []*part, do, check func(context.Context) error) (Reading, error) {
	reading := Reading{ID: c.id}
	figures := make([]Figure, 0, len(parts))
	for _, p := range parts {
		if p.read == nil {
			continue
		}
		before, err := p.read(ctx)
		if err != nil {
			return reading, fmt.Errorf("read %s: %w", p.subject, err)
		}
		figures = append(figures, Figure{Name: p.subject, Before: before})
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return reading, fmt.Errorf("read the clock: %w", err)
	}
	reading.Began = time.Duration(now.Nano())
	begun := time.Now()
	err := do(ctx)
	reading.Took = time.Since(begun)
	if err == nil && check != nil {
		err = check(ctx)
	}
	i := 0
	for _, p := range parts {
		if p.read == nil {
			continue
		}
		after, readErr := p.read(ctx)
		if readErr != nil {
			err = errors.Join(err, fmt.Errorf("read %s: %w", p.subject, readErr))
		}
		figures[i].After = after
		i++
	}
	reading.Figures = figures
	return reading, err
}
