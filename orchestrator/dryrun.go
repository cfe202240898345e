package orchestrator

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// TimeLine returns what a trial of each scenario will do and when, as far as the plan alone shows
// it.
func (p *Plan) TimeLine() []results.TimeLine {
	var list []results.TimeLine
	for i, s := range p.Scenarios {
		line := results.TimeLine{Scenario: s.Name}
		for _, e := range s.Steady {
			line.Steady = append(line.Steady, e.Text)
		}
		end, known := loadEnd(s)
		for _, e := range s.Workload {
			line.Points = append(line.Points, entryPoint(s, e))
		}
		for _, phase := range phases(s.Phases) {
			line.Points = append(line.Points, results.Point{At: phase.Start, When: seconds(phase.Start), What: "phase " + phase.Name})
		}
		bounds := p.recovery(i)
		recovery := bounds.AtMost.Seconds()
		watched := "for " + seconds(recovery)
		if bounds.AtLeast < bounds.AtMost {
			watched = "for at most " + seconds(recovery)
		}
		over, last := "load over", "load over + "+seconds(recovery)
		if known {
			over, last = seconds(end), seconds(end+recovery)
		}
		line.Points = append(line.Points,
			results.Point{At: end, When: over, What: "the load is over; recovery watched " + watched},
			results.Point{At: math.MaxFloat64, When: last, What: "what still holds is taken back; collected"})
		for _, a := range s.Actions {
			line.Points = append(line.Points, actionPoint(s, a, end, known))
		}
		slices.SortStableFunc(line.Points, func(a, b results.Point) int { return cmp.Compare(a.At, b.At) })
		list = append(list, line)
	}
	return list
}

func entryPoint(s scenarios.Resolved, e scenarios.Entry) results.Point {
	kind := e.Kind()
	if e.Crafted {
		kind = "crafted " + kind
	}
	what := fmt.Sprintf("%s: %s from %s to %s", e.Name, kind, e.From, e.Target)
	switch {
	case e.Rate > 0:
		what += " at " + e.Rate.String()
	case e.Concurrency > 0:
		what += fmt.Sprintf(", %d at a time", e.Concurrency)
	}
	if e.Probe != "" {
		return results.Point{At: -probeLead.Seconds(), When: seconds(-probeLead.Seconds()), What: what + ", until the end"}
	}
	if n := e.Number(); n > 0 {
		what += fmt.Sprintf(", %d of them", n)
	}
	if length := e.Length(); length > 0 {
		what += ", for " + length.String()
	}
	if joined, ok := s.Joined(e); ok {
		return results.Point{At: math.MaxFloat64 / 4, When: "with " + joined.Name, What: what}
	}
	at := s.Begins(e).Seconds()
	return results.Point{At: at, When: seconds(at), What: what}
}

func actionPoint(s scenarios.Resolved, a scenarios.Action, end float64, known bool) results.Point {
	p := results.Point{What: fmt.Sprintf("%s: %s", a.Name, a.Asked()), Action: true}
	if w := a.Where(); w != "" {
		p.What += " (" + w + ")"
	}
	if a.Fix {
		p.What += ", a fix"
	}
	if a.For > 0 {
		p.What += ", for " + a.For.String()
		if a.Times > 1 {
			p.What += fmt.Sprintf(", %d times, every %s", a.Times, a.Every)
		}
	} else if a.Kind.Undoable() {
		p.What += ", until the end"
	}
	at, fixed := s.ActionBegins(a)
	switch {
	case fixed:
		p.At, p.When = at.Seconds(), seconds(at.Seconds())
	case a.When.Text != "":
		// It sorts after every action that has a time, and before the end of the load.
		p.At, p.When = min(end, math.MaxFloat64/2)-1e-9, a.When.Text
		if a.After > 0 {
			p.When += " + " + a.After.String()
		}
	case known:
		p.At, p.When = end+a.At.Seconds(), seconds(end+a.At.Seconds())
	default:
		p.At, p.When = end+1, "load over + "+a.At.String()
	}
	return p
}

func seconds(s float64) string { return results.Figure(s) + " s" }
