package results

import (
	"fmt"
	"strings"
)

// Unmeasured says what of a run could not be measured validly, in a line for each: its INVALID trials
// with the first reason, and scenarios that no trial was made of.
func Unmeasured(run *Run) []string {
	var list []string
	for _, s := range run.Scenarios {
		if len(s.Trials) == 0 {
			list = append(list, "no trial of "+s.Name)
		}
		for _, t := range s.Trials {
			if t.Verdict != Invalid {
				continue
			}
			text := fmt.Sprintf("trial %d of %s", t.Number, s.Name)
			if len(t.Invalid) > 0 {
				reason, _, _ := strings.Cut(t.Invalid[0], "\n") // a console may follow
				text += ": " + reason
			}
			list = append(list, text)
		}
	}
	return list
}
