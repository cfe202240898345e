package results

// Outcome is what became of a threshold in a scenario: it passes when it held in every valid trial.
// A scenario without a valid trial passes nothing.
type Outcome struct {
	Expression string `json:"expression"`
	Passed     bool   `json:"passed"`
	// Actual says what the fields of the expression were, in the first trial that failed it or else
	// in the last one: "conntrack.drop = 312 in trial 2".
	Actual string `json:"actual"`
}
