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
	"fmt"
	"time"

	"github.com/ctload/ctload/internal/actions"
	"github.com/ctload/ctload/internal/link"
	"github.com/ctload/ctload/internal/spelling"
)

type (
	// Fault is a change that the caller requests of an agent.
	Fault = actions.Fault
	// Rules are the rules that a fault changes.
	Rules = actions.Rules
	// Filter selects the entries that a fault removes.
	Filter = actions.Filter
)

// maker makes faults of one kind. check finds errors of a fault without looking at any kernel. make
// prepares the fault: it returns what the fault touches and how, and changes only what change.do
// needs in place.
type maker struct {
	check func(Fault) error // nil where no error is possible
	make  func(*Set, context.Context, Fault) (*change, error)
}

// makers holds the makers of all kinds of fault; each file adds its own.
var makers = map[actions.Kind]maker{}

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

// Figure is one value before and after. A missing value is empty.
type Figure struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
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
