package results

import (
	"fmt"
	"slices"
	"strings"
)

// PartError reports a run that cannot stand for the whole: a killed or interrupted one made only a
// part of its trials, an empty one none.
type PartError struct {
	Name          string // of the run, where several are read; may be empty
	Made, Planned int    // trials; Planned is 0 in a run of an older ctload
	empty         bool
}

func (e *PartError) Error() string {
	name := strings.TrimSpace("the run " + e.Name)
	switch {
	case e.empty:
		return name + " is empty: it has no trials"
	case e.Planned == 0:
		return fmt.Sprintf("%s is unfinished: it has %d trials", name, e.Made)
	default:
		return fmt.Sprintf("%s is unfinished: %d of %d trials; ctload run --resume RUN makes the "+
			"rest",
			name, e.Made, e.Planned)
	}
}

// Part returns a *PartError for a run that cannot stand for the whole, else nil. name is that of
// the run in the error; it may be empty.
func (r *Run) Part(name string) error {
	begun, made := 0, 0
	for _, s := range r.Scenarios {
		begun += len(s.Trials)
		for i := range s.Trials {
			if t := &s.Trials[i]; !t.Cut() && t.RepeatedAs == 0 {
				made++
			}
		}
	}
	if !r.Unfinished && !r.Interrupted && begun > 0 {
		return nil
	}
	return &PartError{name, made, r.Planned, begun == 0 && r.Planned == 0}
}

// Cut reports whether an interrupt ended the trial, so that a resumed run makes it again.
func (t *Trial) Cut() bool { return slices.Contains(t.InvalidCodes, CodeInterrupted) }
