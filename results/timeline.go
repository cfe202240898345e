package results

// TimeLine is what a trial of a scenario will do, in order.
type TimeLine struct {
	Scenario string   `json:"scenario"`
	Steady   []string `json:"steady,omitempty"`
	Points   []Point  `json:"points"`
}

// Point is one thing on a time line.
type Point struct {
	At     float64 `json:"-"`    // orders them; seconds after the start of the load where it is known
	When   string  `json:"when"` // in words: "12.0 s", "first drop + 10s"
	What   string  `json:"what"`
	Action bool    `json:"action,omitempty"`
}
