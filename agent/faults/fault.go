// Package faults makes faults and emergency fixes on a running node, and takes them back: changes of the
// kernel's configuration under load, entries removed from the table, the clock set wrong, CPUs and memory
// taken away, servers stopped, a network card that loses frames.
//
// Every change is read back from the kernel before and after it ([Reading]). [Set] remembers what was
// there, and puts it back when the fault is reverted or the set is closed, which the agent does when its
// stream ends: a run that is killed leaves nothing on a node that outlives it.
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
	// Fault is a change that an agent is asked for.
	Fault = actions.Fault
	// Rules are the rules that a fault changes.
	Rules = actions.Rules
	// Filter says which entries a fault is about.
	Filter = actions.Filter
)

// maker checks what a kind of fault needs, without looking at any kernel, and prepares it: it says what the
// fault touches and how, and changes nothing but what change.do needs to be there.
type maker struct {
	check func(Fault) error // nil where nothing can be wrong
	make  func(*Set, context.Context, Fault) (*change, error)
}

// makers are those of all kinds of fault; each file adds those that it has.
var makers = map[actions.Kind]maker{}

// kinds are all kinds of fault, in the order of the table of actions.
func kinds() []actions.Kind {
	var list []actions.Kind
	for _, fact := range actions.Table {
		if makers[fact.Kind].make != nil {
			list = append(list, fact.Kind)
		}
	}
	return list
}

// Reading is what a fault did, as the kernel told before and after it.
type Reading struct {
	ID      string   `json:"id"`
	Figures []Figure `json:"figures,omitempty"`
	// Began is the node's CLOCK_MONOTONIC when the change began, the clock of its samples; Took is the
	// change alone, without the readings around it.
	Began time.Duration `json:"began_ns"`
	Took  time.Duration `json:"took_ns"`
	// Sent and Received are what netem does to the node's card after it (Network).
	Sent     link.Conditions `json:"sent,omitzero"`
	Received link.Conditions `json:"received,omitzero"`
	// Remarks are what else a reader should know, a sentence each: that the kernel rounded a number, that a
	// module had to be loaded for it.
	Remarks []string `json:"remarks,omitempty"`
}

// Figure is one thing before and after. What is not there is empty.
type Figure struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Validate says what in the fault is missing, out of range or not for its kind, without looking at any
// kernel.
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
