package search

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ctload/ctload/results"
)

// Report holds the findings of a search, as search.json in the run folder has them.
type Report struct {
	Search Found `json:"search"`
}

// Found is the answer to a goal, for each scenario.
type Found struct {
	Experiment string    `json:"experiment"`
	Started    time.Time `json:"started"`
	Goal       string    `json:"goal"`               // as "highest rate:load", or the method
	Smallest   bool      `json:"smallest,omitempty"` // a smaller value is a better one
	Loss       float64   `json:"loss"`               // share of the attempts that may be lost
	Retried    float64   `json:"after_retries"`      // share that may succeed after retries
	Keep       []string  `json:"keep,omitempty"`     // conditions that must hold as well
	Resolution float64   `json:"resolution"`         // wanted width of an interval, as a share
	Confidence float64   `json:"confidence"`         // of an interval: 0.95
	MaxTrials  int       `json:"max_trials"`         // valid ones of each scenario, at most
	Retries    int       `json:"retries"`            // further attempts where one is INVALID
	Over       string    `json:"over,omitempty"`     // what the scenarios differ in, as "max"
	Axis       string    `json:"axis,omitempty"`     // the same with its values, as "max=4k,16k"
	// AtLeast is the value that every scenario has to reach; 0: none was asked for.
	AtLeast   float64    `json:"at_least,omitempty"`
	Scenarios []Scenario `json:"scenarios"`
	Notes     []string   `json:"notes,omitempty"` // what bounds the use of these figures
	// Planned are the names of all scenarios of the search, where Scenarios are those of a shard.
	Planned []string `json:"planned,omitempty"`
}

// Scenario is the limit of one scenario.
type Scenario struct {
	Name string `json:"name"`
	Over string `json:"over,omitempty"` // the scenario's value of Found.Over
	Of   string `json:"of,omitempty"`   // the experiment's scenario, where Over is its value
	// Metric is the name of what RFC 9693 measures; empty in a search for a goal.
	Metric string `json:"metric,omitempty"`
	// Value is the most probable limit; null where no trial held.
	Value *float64 `json:"value"`
	// Low and High bound the limit with the confidence; null where nothing is known beyond.
	Low       *float64 `json:"low"`
	High      *float64 `json:"high"`
	Unit      string   `json:"unit"`
	Limit     Limit    `json:"limit,omitempty"` // what is lost first beyond it
	Predicted float64  `json:"predicted,omitempty"`
	Trials    int      `json:"trials"` // valid ones
	Invalid   int      `json:"invalid,omitempty"`
	// Stuck says that trials stayed INVALID, so that the search ended without its answer.
	Stuck bool    `json:"stuck,omitempty"`
	Made  []Trial `json:"made"` // in their order
}

// Trial is one trial of a search.
type Trial struct {
	Value   float64 `json:"value"`
	Step    Step    `json:"step"` // why it was made
	Invalid bool    `json:"invalid,omitempty"`
	Why     string  `json:"why,omitempty"` // the trial is INVALID, with what to change
	Held    bool    `json:"held"`
	Shares
	Fill  float64 `json:"fill,omitempty"`  // peak / max
	Limit Limit   `json:"limit,omitempty"` // by which it did not hold
	// Estimate is the limit by what the table held; 0: the trial does not tell.
	Estimate float64 `json:"estimate,omitempty"`
}

// Unlike returns why a search cannot be compared with an earlier one; empty where it can.
func (f Found) Unlike(before Found) string {
	switch {
	case f.Goal != before.Goal:
		return fmt.Sprintf("it looked for %s, and this search for %s", before.Goal, f.Goal)
	case f.Loss != before.Loss || f.Retried != before.Retried || !slices.Equal(f.Keep, before.Keep):
		return "its trials held under other conditions (--loss, --after-retries, --keep)"
	}
	return ""
}

// Join joins the findings of shards of one search: each scenario once, in the order of the search.
// It returns instead why they are none of one search.
func (f Found) Join(others []Found) (joined Found, unlike string) {
	joined = f
	joined.Scenarios, joined.Notes = slices.Clone(f.Scenarios), slices.Clone(f.Notes)
	for _, o := range others {
		if why := f.Unlike(o); why != "" {
			return Found{}, why
		}
		if f.Resolution != o.Resolution || f.Confidence != o.Confidence || f.Over != o.Over ||
			f.AtLeast != o.AtLeast || !slices.Equal(f.Planned, o.Planned) {
			return Found{}, "the searches were asked for other limits (--resolution, " +
				"--confidence, --over, --at-least)"
		}
		if o.Started.Before(joined.Started) {
			joined.Started = o.Started
		}
		for _, s := range o.Scenarios {
			named := func(other Scenario) bool { return other.Name == s.Name }
			if !slices.ContainsFunc(joined.Scenarios, named) {
				joined.Scenarios = append(joined.Scenarios, s)
			}
		}
		joined.Notes = append(joined.Notes, o.Notes...)
	}
	place := func(s Scenario) int { return slices.Index(f.Planned, s.Name) }
	slices.SortStableFunc(joined.Scenarios, func(a, b Scenario) int {
		return cmp.Compare(place(a), place(b))
	})
	return joined, ""
}

// Worse returns the scenarios whose limit is worse than in an earlier search, each in words: the
// two intervals have nothing in common.
func (f Found) Worse(before Found) (list []string) {
	for _, s := range f.Scenarios {
		for _, b := range before.Scenarios {
			worse := s.High != nil && b.Low != nil && *s.High < *b.Low
			if f.Smallest {
				worse = s.Low != nil && b.High != nil && *s.Low > *b.High
			}
			if s.Name == b.Name && worse {
				list = append(list, fmt.Sprintf("%s; the baseline has %s", s.Words(f.Confidence),
					b.known(before.Confidence)))
			}
		}
	}
	return list
}

// TooLow reports whether a scenario fails --at-least: the whole interval must reach it.
func (f Found) TooLow(s Scenario) bool {
	return f.AtLeast > 0 && (s.Low == nil || *s.Low < f.AtLeast)
}

// Set takes over a result.
func (s *Scenario) Set(r Result) {
	s.Value = nil
	if r.Value > 0 {
		s.Value = &r.Value
	}
	s.Low, s.High, s.Limit, s.Trials, s.Invalid = r.Low, r.High, r.Limit, r.Trials, r.Invalid
}

// Words says in a sentence what is known of the limit.
func (s *Scenario) Words(confidence float64) string {
	if s.Metric != "" {
		return s.Of + ", " + s.Metric + ": " + s.known(confidence)
	}
	return s.Name + ": " + s.known(confidence)
}

// known is [Scenario.Words] without the name.
func (s *Scenario) known(confidence float64) (text string) {
	amount := func(v *float64) string { return s.Amount(*v) }
	limit := ""
	if s.Limit != "" {
		limit = "; the limit is " + s.Limit.Words()
	}
	switch {
	case s.Value != nil && s.Low != nil && s.High != nil:
		text += fmt.Sprintf("%s (%s: %s to %s)", amount(s.Value), results.Percent(confidence),
			results.Figure(*s.Low), results.Figure(*s.High))
	case s.Value != nil && s.Low != nil:
		text += "at least " + amount(s.Low)
	case s.Value != nil:
		text += "at most " + amount(s.High)
	case s.High != nil:
		text += "less than " + amount(s.High)
	case s.Low != nil:
		text += "more than " + amount(s.Low)
	default:
		text += "not known"
	}
	return text + limit
}

// Amount words a value of what the search looks for.
func (s *Scenario) Amount(v float64) string { return results.Figure(v) + s.unit() }

// unit returns the unit as it follows a number.
func (s *Scenario) unit() string {
	if s.Unit == "/s" {
		return s.Unit
	}
	return " " + s.Unit
}
