// Package faults makes faults and emergency fixes on a running node, and undoes them: changes of
// the kernel's configuration under load, entries removed from the table, a wrong clock, less CPU
// time and memory, stopped servers, a network card that loses frames.
//
// Every change is read back from the kernel before and after it ([Reading]). [Set] remembers the
// former state, and restores it when the caller reverts the fault or closes the set, which the
// agent does when its stream ends: a killed run leaves nothing on a node that outlives it.
package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ctload/ctload/agent/samplers"
	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/results"
)

type (
	// Fault is a change that the caller requests of an agent.
	Fault = actions.Fault
	// Rules are the rules that a fault changes.
	Rules = actions.Rules
	// Filter selects the entries that a fault removes.
	Filter = actions.Filter
	// Figure is one value before and after. A missing value is empty.
	Figure = results.Effect
)

// maker makes faults of one kind. check finds errors of a fault without looking at any kernel. make
// prepares the fault: it returns what the fault touches and how, and changes only what change.do
// needs in place.
type maker struct {
	check func(Fault) error // nil where no error is possible
	make  func(*Set, context.Context, Fault) (*change, error)
}

// makers holds the makers of all kinds of fault.
var makers = map[actions.Kind]maker{
	actions.Sysctl:         {checkSysctl, (*Set).sysctl},
	actions.Buckets:        {checkBuckets, (*Set).buckets},
	actions.RulesLoad:      {checkRules, (*Set).loadRules},
	actions.RulesRemove:    {nil, (*Set).removeRules},
	actions.ModuleRemove:   {checkModules, (*Set).removeModules},
	actions.Flush:          {nil, (*Set).flush},
	actions.Delete:         {checkDelete, (*Set).remove},
	actions.ClockJump:      {checkClock, (*Set).clockJump},
	actions.CPUThrottle:    {checkCPU, (*Set).cpuThrottle},
	actions.MemoryPressure: {checkMemory, (*Set).memoryPressure},
	actions.ServerStop:     {nil, (*Set).servers},
	actions.ServerStall:    {nil, (*Set).servers},
	actions.ServerRestart:  {nil, (*Set).servers},
	actions.Network:        {checkNetwork, (*Set).network},
}

// kinds returns all kinds of fault, in the order of the table of actions.
func kinds() []actions.Kind {
	var list []actions.Kind
	for _, fact := range actions.Table {
		if makers[fact.Kind].make != nil {
			list = append(list, fact.Kind)
		}
	}
	return list
}

// Reading is the effect of a fault, from the kernel before and after it.
type Reading struct {
	ID      string   `json:"id"`
	Figures []Figure `json:"figures,omitempty"`
	// Began is the node's CLOCK_MONOTONIC when the change began, the clock of its samples; Took is
	// the time of the change alone, without the readings around it.
	Began time.Duration `json:"began_ns"`
	Took  time.Duration `json:"took_ns"`
	// Sent and Received are netem's conditions on the node's card after the change (Network).
	Sent     link.Conditions `json:"sent,omitzero"`
	Received link.Conditions `json:"received,omitzero"`
	// Remarks are further facts for a reader, a sentence each: that the kernel rounded a number, or
	// loaded a module for it.
	Remarks []string `json:"remarks,omitempty"`
}

// Validate returns an error for a fault with a part that is missing, out of range or unsuitable for
// its kind. It looks at no kernel.
func Validate(f Fault) error {
	maker, known := makers[f.Kind]
	if !known {
		return fmt.Errorf("fault %q: no such kind%s", f.Kind, spelling.Hint(f.Kind, kinds()))
	}
	if maker.check == nil {
		return nil
	}
	if err := maker.check(f); err != nil {
		return fmt.Errorf("%s: %w", f.Kind, err)
	}
	return nil
}

// Node is the node that faults change.
type Node struct {
	Kernel tuning.Kernel
	// Own says that the node has a kernel of its own: it is a machine, not a namespace of its host.
	// On other nodes a fault that would change the host is an error.
	Own bool
}

// hostError says that a fault would change the kernel of the node's host.
type hostError struct{ what string } // the part of the kernel that would change

func (e *hostError) Error() string {
	return "this node is a namespace of its host: " + e.what + " would change for the whole host"
}

// undoLimit bounds the restoring when a set is closed.
const undoLimit = 30 * time.Second

// Set holds the faults that are active on a node, and its responders.
type Set struct {
	node Node

	mu     sync.Mutex
	active []*change // in the order of application

	responders []*server

	shaper link.Shaper // of the node's cards
}

// NewSet returns a set for one node, without any fault.
func NewSet(node Node) *Set { return &Set{node: node} }

// change is one prepared or active fault: its parts, and how to change them.
type change struct {
	id      string
	parts   []*part
	do      func(context.Context) error
	check   func(context.Context) error // verifies the kernel's state after do; nil where do does
	figures []Figure                    // found by do, beside those of the parts
	remarks []string

	sent, received link.Conditions // of Network, as read back
}

// found adds a figure that was 0 before the change.
func (c *change) found(name, after string) {
	c.figures = append(c.figures, Figure{Name: name, Before: "0", After: after})
}

// part is one part of the node that a fault changes.
type part struct {
	// subject names it: of two active faults with one subject the later one covers the earlier.
	subject string
	// read returns its present value, for the figure of the same name; nil for parts that only
	// restore needs.
	read func(context.Context) (string, error)
	// restore restores its state from when the part was made; nil where that is impossible.
	restore func(context.Context) error
}

// Apply makes the fault. It reads the changed parts before and after; the reading holds both. A
// fault that it could not make completely, or that reads back as something else, is an error, and
// Apply then undoes all of it.
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
		return Reading{}, fmt.Errorf("%s: %w", f.Kind, &hostError{what})
	}
	c, err := makers[f.Kind].make(s, ctx, f)
	if err != nil {
		return Reading{}, fmt.Errorf("%s: %w", f.Kind, err)
	}
	c.id = f.ID
	reading, err := c.measure(ctx)
	reading.Sent, reading.Received = c.sent, c.received
	if err != nil {
		// Undo all that was done, also when the caller's context has ended.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
		defer cancel()
		return reading, errors.Join(fmt.Errorf("%s: %w", f.Kind, err), restore(undo, c.parts))
	}
	if f.Kind.Undoable() {
		s.active = append(s.active, c)
	}
	return reading, nil
}

// Revert undoes a fault. Parts that a later fault has changed since stay as that one made them, and
// return to their state before both when the later one is reverted.
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
			covered = append(covered, p.subject+" stays as a later fault has made it")
			continue
		}
		own = append(own, p)
	}
	c.figures, c.remarks, c.parts, c.check = nil, nil, own, nil
	c.do = func(ctx context.Context) error { return restore(ctx, own) }
	reading, err := c.measure(ctx)
	reading.Remarks = append(reading.Remarks, covered...)
	s.active = slices.Delete(s.active, i, i+1)
	if err != nil {
		return reading, fmt.Errorf("revert the fault %s: %w", id, err)
	}
	return reading, nil
}

// covering returns the part with that subject of the first later change that has one.
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

// Close undoes all faults, the last one first, and ends the responders.
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
	for _, r := range s.responders { // after the faults, which may have stopped some
		errs = append(errs, r.be(stopped))
	}
	s.active, s.responders = nil, nil
	return errors.Join(errs...)
}

// restore restores parts, the last one first: a later change may need an earlier one.
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

// unloading returns a restore that then removes the modules that the kernel has loaded for the
// fault, on a node with a kernel of its own: their number is part of its configuration.
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

// measure runs do between two readings of the parts, and then check. The reading also has the
// figures and remarks that these found.
func (c *change) measure(ctx context.Context) (Reading, error) {
	reading := Reading{ID: c.id}
	var parts []*part
	for _, p := range c.parts {
		if p.read == nil {
			continue
		}
		parts = append(parts, p)
		before, err := p.read(ctx)
		if err != nil {
			return reading, fmt.Errorf("read %s: %w", p.subject, err)
		}
		reading.Figures = append(reading.Figures, Figure{Name: p.subject, Before: before})
	}
	reading.Began = samplers.Monotonic()
	err := c.do(ctx)
	reading.Took = samplers.Monotonic() - reading.Began
	if err == nil && c.check != nil {
		err = c.check(ctx)
	}
	for i, p := range parts {
		after, readErr := p.read(ctx)
		if readErr != nil {
			err = errors.Join(err, fmt.Errorf("read %s: %w", p.subject, readErr))
		}
		reading.Figures[i].After = after
	}
	reading.Figures = append(reading.Figures, c.figures...)
	reading.Remarks = append(reading.Remarks, c.remarks...)
	return reading, err
}
