package results

// Description describes an experiment to users who look for one to run.
type Description struct {
	Name    string `json:"name"`
	Group   string `json:"group"` // a word, such as chaos
	Title   string `json:"-"`     // the heading of its group
	Summary string `json:"summary"`
	// Seconds is about how long all trials of all scenarios take where guests are emulated.
	Seconds   float64           `json:"seconds_without_kvm"`
	Scenarios []DescribedOption `json:"scenarios"`
	Story     string            `json:"story,omitempty"`
	Watch     string            `json:"watch,omitempty"`
	Sources   []string          `json:"sources,omitempty"`
}

// DescribedOption is one of the scenarios that an experiment compares.
type DescribedOption struct {
	Name    string `json:"name"`
	Summary string `json:"summary,omitempty"`
}

// Hit is a line of an experiment's file that contains words of a search.
type Hit struct {
	Experiment string
	Group      string
	Line       int    // from 1
	Where      string // what the line belongs to, such as "story"
	Text       string
}

// TimeLine lists the events of a trial of a scenario, in order.
type TimeLine struct {
	Scenario string   `json:"scenario"`
	Steady   []string `json:"steady,omitempty"`
	Points   []Point  `json:"points"`
}

// Point is one event on a time line.
type Point struct {
	At     float64 `json:"-"`    // orders them; seconds after the start of the load where known
	When   string  `json:"when"` // in words: "12.0 s", "first drop + 10s"
	What   string  `json:"what"`
	Action bool    `json:"action,omitempty"`
}
