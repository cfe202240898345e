package results

import (
	"fmt"
	"slices"
	"strings"
)

// Shard says which part of a run this is: the seed deals the trials of a run to its shards, so that
// each of them can run on a host of its own.
type Shard struct {
	Number int `json:"number"` // from 1
	Of     int `json:"of"`     // shards of the whole run
	// Trials are the names of the shard's trials in their order, repetitions left out; of a search,
	// the names of the scenarios whose limits it looks for.
	Trials []string `json:"trials"`
}

// String returns the shard as a command line has it: 2/5.
func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Number, s.Of) }

// PartError reports a run that cannot stand for the whole: a killed or interrupted one made only a
// part of its trials, a shard has only a part of them, an empty one none.
type PartError struct {
	Name          string // of the run, where several are read; may be empty
	Made, Planned int    // trials; Planned is 0 in a run of an older ctload, and in a search
	Shard         *Shard // nil: not one shard of several
	unfinished    bool
	empty         bool
}

func (e *PartError) Error() string {
	name := strings.TrimSpace("the run " + e.Name)
	switch {
	case e.empty:
		return name + " is empty: it has no trials"
	case e.Shard != nil && !e.unfinished:
		return fmt.Sprintf("%s is a part: %s, shard %v; ctload merge joins the shards",
			name, e.trials(), e.Shard)
	case e.Shard != nil && e.Planned == 0:
		return fmt.Sprintf("%s is unfinished: %s, shard %v", name, e.trials(), e.Shard)
	case e.Shard != nil:
		return fmt.Sprintf("%s is unfinished: %s, shard %v with %d; ctload run --resume RUN makes "+
			"the rest of the shard", name, e.trials(), e.Shard, len(e.Shard.Trials))
	case e.Planned == 0:
		return fmt.Sprintf("%s is unfinished: it has %s", name, e.trials())
	default:
		return fmt.Sprintf("%s is unfinished: %s; ctload run --resume RUN makes the rest",
			name, e.trials())
	}
}

// trials words how many trials the part has, and of how many.
func (e *PartError) trials() string {
	if e.Planned == 0 {
		return fmt.Sprintf("%d trials", e.Made)
	}
	return fmt.Sprintf("%d of %d trials", e.Made, e.Planned)
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
	if r.ended() && r.Shard == nil && begun > 0 {
		return nil
	}
	return &PartError{name, made, r.Planned, r.Shard, !r.ended(), begun == 0 && r.Planned == 0}
}

// ended reports whether the run, or the shard of one, came to its end.
func (r *Run) ended() bool { return !r.Unfinished && !r.Interrupted }

// Cut reports whether an interrupt ended the trial, so that a resumed run makes it again.
func (t *Trial) Cut() bool { return slices.Contains(t.InvalidCodes, CodeInterrupted) }

// Rewind removes the trials that an interrupt ended, and what was judged of the run.
func (r *Run) Rewind() {
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		for j := range s.Trials {
			if t := &s.Trials[j]; t.Cut() {
				for k := range s.Trials {
					if s.Trials[k].RepeatedAs == t.Number {
						s.Trials[k].RepeatedAs = 0
					}
				}
			}
		}
		s.Trials = slices.DeleteFunc(s.Trials, func(t Trial) bool { return t.Cut() })
		s.Thresholds = nil
	}
}
