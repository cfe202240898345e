// Package events is the stream of what happens during a run or a search. The orchestrator makes one
// [Event] after another; the progress on a terminal, the lines of --events and the live page all
// read this stream.
package events

import (
	"time"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/search"
)

// Kind names what an event tells.
type Kind string

// The kinds of events. Each has the fields of [Event] that its comment names, beside the time.
const (
	// RunBegin is the first one: Run, without trials; Order; TimeLines; Labs. A search plans no
	// trials: it has no Order.
	RunBegin Kind = "run-begin"
	// TrialBegin has Index and Total. It and all events up to TrialEnd have Scenario and Trial.
	TrialBegin Kind = "trial-begin"
	// StageBegin has Stage: boot, configure, read back, baseline, load, recovery, collect, destroy.
	StageBegin Kind = "stage"
	// PhaseBegin has Phase, of a load that is divided.
	PhaseBegin Kind = "phase"
	// LoadMoved has Load: what the generators have done so far.
	LoadMoved Kind = "load"
	// SampleTaken has Sample, of the DUT, on the trial's time axis.
	SampleTaken Kind = "sample"
	// ProbeMoved has Probe: what a bystander has seen so far.
	ProbeMoved Kind = "probe"
	// ActionMoved has Action: a step of an action, as actions.jsonl has it.
	ActionMoved Kind = "action"
	// LimitMoved has Limit: what a search knows of the limit of a scenario. It belongs to no trial.
	LimitMoved Kind = "limit"
	// Noted has Note, a remark for the user.
	Noted Kind = "note"
	// TrialEnd has Result, as run.json has it.
	TrialEnd Kind = "trial-end"
	// RunEnd is the last one: End.
	RunEnd Kind = "run-end"
	// Lost has Count: so many events in a row were left out here, since the reader was too slow.
	Lost Kind = "lost"
)

// Event is one event of a run or a search. Fields that its kind does not name are empty.
type Event struct {
	Kind Kind      `json:"event"`
	Time time.Time `json:"time"` // of the host that runs ctload
	// Scenario and Trial name the trial that the event belongs to: Trial is its number in the
	// scenario, from 1. Trials of several labs run at once.
	Scenario string `json:"scenario,omitempty"`
	Trial    int    `json:"trial,omitempty"`

	Run       *results.Run         `json:"run,omitempty"`
	Order     []Place              `json:"order,omitempty"`     // of the planned trials
	TimeLines []results.TimeLine   `json:"time_line,omitempty"` // of a trial of each scenario
	Labs      int                  `json:"labs,omitempty"`      // in which trials run at once
	Index     int                  `json:"index,omitempty"`     // of the trial in the run, from 1
	Total     int                  `json:"total,omitempty"`     // trials, as known so far
	Stage     *Stage               `json:"stage,omitempty"`
	Phase     *results.Phase       `json:"phase,omitempty"`
	Load      *Load                `json:"load,omitempty"`
	Sample    *results.Sample      `json:"sample,omitempty"`
	Probe     *Probe               `json:"probe,omitempty"`
	Action    *results.ActionEvent `json:"action,omitempty"`
	Limit     *search.Scenario     `json:"limit,omitempty"`
	Note      string               `json:"note,omitempty"`
	Result    *results.Trial       `json:"result,omitempty"`
	End       *End                 `json:"end,omitempty"`
	Count     int64                `json:"count,omitempty"`
}

// Place names a planned trial.
type Place struct {
	Scenario string `json:"scenario"`
	Trial    int    `json:"trial"` // number in the scenario, from 1
}

// Stage is a stage of a trial that begins.
type Stage struct {
	Name   string  `json:"name"`
	AtMost float64 `json:"at_most_s,omitempty"` // 0: not known
}

// Load is what all generators of a trial have done so far.
type Load struct {
	Done   int64 `json:"done"`
	Failed int64 `json:"failed"`
	Wanted int64 `json:"wanted,omitempty"` // done and failed at the end; 0: not known
}

// Probe is what a bystander has seen so far.
type Probe struct {
	Name    string  `json:"name"`       // of its entry
	Seconds float64 `json:"t"`          // of the report, on the axis of Sample
	Sent    int64   `json:"sent"`       // attempts that have ended
	Lost    int64   `json:"lost"`       // of them without an answer
	Millis  float64 `json:"latency_ms"` // of the latest answer; 0: none yet
}

// End tells how a run ended.
type End struct {
	Status      int      `json:"status"` // exit status of the command
	Interrupted bool     `json:"interrupted,omitempty"`
	Failures    []string `json:"failures,omitempty"` // thresholds, regressions, INVALID trials
	Error       string   `json:"error,omitempty"`    // of the run itself
	Folder      string   `json:"folder,omitempty"`   // of the run
}

// Sink takes the events of a run, from several goroutines at once. It must return at once: the
// caller measures.
type Sink interface{ Take(Event) }

// Sinks passes each event on to all of several sinks.
type Sinks []Sink

// Take implements [Sink].
func (all Sinks) Take(e Event) {
	for _, s := range all {
		s.Take(e)
	}
}
