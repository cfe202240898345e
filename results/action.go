package results

import (
	"fmt"
	"slices"
	"time"

	"github.com/ctload/ctload/internal/actions"
)

// Action is a fault or a fix that was performed in a trial. Times are seconds after the start of
// the load.
type Action struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Where string `json:"where"`           // the node or the link
	Asked string `json:"asked,omitempty"` // the request, in words
	Fix   bool   `json:"fix,omitempty"`   // meant to heal
	// Begun is when it took effect at the earliest, nil when its moment never came; Took is how
	// long that took.
	Begun *float64 `json:"begun_s,omitempty"`
	Took  float64  `json:"took_s,omitempty"`
	// Ended is when it was undone in the middle of the trial; nil when it lasted until the end of
	// the trial, or cannot be undone.
	Ended *float64 `json:"ended_s,omitempty"`
	// Effects are the values that the kernel, or the lab, reported before and after.
	Effects []Effect `json:"effects,omitempty"`
	Remarks []string `json:"remarks,omitempty"`
	// Failure is why it could not be performed or undone, which makes the trial INVALID.
	Failure string `json:"failure,omitempty"`
}

// Effect is one value before and after an action.
type Effect struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// fact returns the table's entry for the action's kind.
func (a Action) fact() actions.Fact { return actions.Kind(a.Kind).Fact() }

// end returns when an action was over, or never where it was not.
func (a Action) end(never float64) float64 {
	if a.Ended != nil {
		return *a.Ended
	}
	if fact := a.fact(); fact.Once && fact.Stops && a.Begun != nil {
		return *a.Begun + a.Took
	}
	return never
}

// Lasts reports whether the action holds until it is undone.
func (a Action) Lasts() bool { return !a.fact().Once }

// afterStop is how many seconds a DUT may need for its first sample after it stood still.
const afterStop = 2.0

// stopped reports whether an action kept the DUT from giving samples between two times.
func stopped(all []Action, from, to float64) bool {
	return slices.ContainsFunc(all, func(a Action) bool {
		return a.fact().Stops && a.Begun != nil && *a.Begun < to && a.end(to)+afterStop > from
	})
}

// StarvesMemory reports whether an action exhausts the memory of a trial, so that its log must show
// failed allocations.
func StarvesMemory(all []Action) bool {
	return slices.ContainsFunc(all, func(a Action) bool { return a.fact().Starves && a.Begun != nil })
}

// String describes the action in a few words.
func (a Action) String() string {
	s := a.Name
	if a.Asked != "" {
		s += " (" + a.Asked + ")"
	}
	if a.Begun == nil {
		return s + ": its moment never came"
	}
	s += fmt.Sprintf(" at %s s", Figure(*a.Begun))
	if a.Ended != nil {
		s += fmt.Sprintf(" for %s s", Figure(*a.Ended-*a.Begun))
	}
	return s
}

// ActionEvent is a line of [FileActions]: an action is about to begin, was performed, is about to
// be undone, was undone, or has failed. Time is that of the host that runs ctload.
type ActionEvent struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"` // begin, made, undo, undone, failed
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Where   string    `json:"where"`
	Asked   string    `json:"asked,omitempty"`
	Effects []Effect  `json:"effects,omitempty"`
	Remarks []string  `json:"remarks,omitempty"`
}
