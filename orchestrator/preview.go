package orchestrator

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/labs"
	"github.com/ctload/ctload/orchestrator/forecast"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// atOnceRecovery and troubledRecovery are the usual lengths, in seconds, of the watch after a load
// where the watch may end early: without trouble, and with it.
const (
	atOnceRecovery   = 0.7
	troubledRecovery = 3.0
)

// estimate predicts how long a run of the plan takes at a lab's pace, one trial after another, once
// kernels are fetched. A busy host may take half as long again.
func (p *Plan) estimate(of labs.Pace) time.Duration {
	seconds := 0.0
	for n, slot := range p.Order {
		s := p.Scenarios[slot.Scenario]
		before, after := p.trialSeconds(slot.Scenario, s, of)
		seconds += before + after
		if !of.Early || n == len(p.Order)-1 || p.recoveryIsAsked(slot.Scenario) {
			continue
		}
		next := p.Scenarios[p.Order[n+1].Scenario]
		if s.DUT.VCPUs+next.DUT.VCPUs <= runtime.NumCPU() {
			seconds -= min(of.Boot, after)
		}
	}
	return time.Duration((of.Lab + seconds) * float64(time.Second)).Round(100 * time.Millisecond)
}

// trialSeconds predicts how long a trial of a scenario takes until its load has ended, and after
// that.
func (p *Plan) trialSeconds(i int, s scenarios.Resolved, of labs.Pace) (before, after float64) {
	seconds := of.Boot + of.Around
	if slices.ContainsFunc(s.Workload, func(e scenarios.Entry) bool { return e.Probe != "" }) {
		seconds += probeLead.Seconds()
	}
	overflow := forecast.Overflows(p.Experiment.Topology, s)
	seconds += loadSeconds(s, of, overflow)
	bounds, usual := p.recovery(i), atOnceRecovery
	if overflow {
		usual = troubledRecovery
	}
	return seconds, min(bounds.AtMost.Seconds(), max(bounds.AtLeast.Seconds(), usual))
}

// loadSeconds predicts how long a load takes. Where the table overflows, its last attempts wait for
// their timeouts.
func loadSeconds(s scenarios.Resolved, of labs.Pace, overflow bool) float64 {
	end := s.Phases.Total().Seconds()
	for _, e := range s.Workload {
		if e.Probe != "" {
			continue
		}
		begins := s.Begins(e).Seconds()
		if a, joins := s.Joined(e); joins {
			at, _ := s.ActionBegins(a) // a condition gives no time
			begins = at.Seconds()
		}
		length, known := entrySeconds(e)
		offered := float64(e.Number()) / of.PerSecond
		switch {
		case !known: // hold: for how long
			length += offered
		case e.Concurrency > 0 && offered > 0:
			length = min(length, offered)
		}
		switch e.Generator {
		case scenarios.HTTP, scenarios.TCP, scenarios.Hold:
			if overflow {
				length += e.Timeout.Seconds()
			}
		}
		end = max(end, begins+length)
	}
	return end
}

// entrySeconds returns how long an entry of the workload makes load at the latest, not counting its
// start. Where the target sets the pace, known is false and length is a bound, or the time for
// which connections are held.
func entrySeconds(e scenarios.Entry) (length float64, known bool) {
	length = e.Length().Seconds()
	n, rate := float64(e.Number()), float64(e.Rate)
	life := wiring.Lifetime(e.Lifetime).Quantile(.999).Seconds()
	switch {
	case e.Generator == scenarios.Hold && life > 0: // its duration ends all lives
		return length, true
	case e.Generator == scenarios.Hold:
		if rate == 0 {
			return length, false
		}
		return length + n/rate, true
	case n > 0 && rate > 0 && (length == 0 || n/rate < length):
		return n/rate + life, true
	default:
		return length + life, length > 0
	}
}

// span words a prediction of a run's length: from what an idle host takes to half as long again.
func span(d time.Duration) string {
	low, high := d.Seconds()*0.9, d.Seconds()*1.5
	unit, step := "s", 5.0
	if high > 100 {
		unit, step, low, high = "min", 1, low/60, high/60
	}
	low, high = max(step, step*math.Floor(low/step)), step*math.Ceil(high/step)
	if low == high {
		return fmt.Sprintf("%.0f %s", low, unit)
	}
	return fmt.Sprintf("%.0f to %.0f %s", low, high, unit)
}

// Expect words how long a run of the plan takes in the lab of the choice. cache is that of [Job].
func (p *Plan) Expect(c labs.Choice, cache string) string {
	var words []string
	for _, e := range c.Paces(cache) {
		words = append(words, span(p.estimate(e.Pace)/time.Duration(e.Parallel))+e.Note)
	}
	return strings.Join(words, ", ")
}

// Repeats says that trials may be measured more than once; empty where they are not.
func (p *Plan) Repeats() string {
	switch p.Retries {
	case 0:
		return ""
	case 1:
		return "measured once more where the host spoils it"
	default:
		return fmt.Sprintf("measured at most %d more times where the host spoils it", p.Retries)
	}
}

// loadEnd returns the latest end of a load. Known is false where the target sets the pace; then end
// sorts after every known time.
func loadEnd(s scenarios.Resolved) (end float64, known bool) {
	end = s.Phases.Total().Seconds()
	for _, e := range s.Workload {
		if e.Probe != "" {
			continue
		}
		length, fixed := entrySeconds(e)
		if _, joins := s.Joined(e); !fixed || joins {
			return math.MaxFloat64 / 2, false
		}
		end = max(end, s.Begins(e).Seconds()+length)
	}
	return end, true
}

// Describe returns the description of an experiment, with an estimate of how long a run of it
// takes.
func Describe(experiment *scenarios.Experiment) (results.Description, error) {
	plan, err := NewPlan(experiment, 1)
	if err != nil {
		return results.Description{}, err
	}
	about := experiment.Documentation
	d := results.Description{
		Name: experiment.Name, Summary: experiment.Summary,
		Group: string(about.Group), Title: about.Group.Title(),
		Story: about.Story, Watch: about.Watch, Sources: about.Sources,
		Seconds: plan.estimate(labs.EmulatedPace).Seconds(),
	}
	for _, s := range plan.Scenarios {
		d.Scenarios = append(d.Scenarios, results.DescribedOption{Name: s.Name, Summary: s.Summary})
	}
	return d, nil
}

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
			line.Points = append(line.Points, pointAt(phase.Start, "phase "+phase.Name))
		}
		bounds := p.recovery(i)
		recovery := bounds.AtMost.Seconds()
		what := "the load is over; recovery watched for "
		if bounds.AtLeast < bounds.AtMost {
			what += "at most "
		}
		over, last := "load over", "load over + "+seconds(recovery)
		if known {
			over, last = seconds(end), seconds(end+recovery)
		}
		collect := "what still holds is taken back; collected"
		if p.Retries > 0 {
			collect += "; " + p.Repeats()
		}
		line.Points = append(line.Points,
			results.Point{At: end, When: over, What: what + seconds(recovery)},
			results.Point{At: math.MaxFloat64, When: last, What: collect})
		for _, a := range s.Actions {
			line.Points = append(line.Points, actionPoint(s, a, end, known))
		}
		inTime := func(a, b results.Point) int { return cmp.Compare(a.At, b.At) }
		slices.SortStableFunc(line.Points, inTime)
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
		return pointAt(-probeLead.Seconds(), what+", until the end")
	}
	if n := e.Number(); n > 0 {
		what += fmt.Sprintf(", %d of them", n)
	}
	if length := e.Length(); length > 0 {
		what += ", for " + length.String()
	}
	if e.Arrivals == scenarios.Poisson {
		what += ", at random moments"
	}
	if e.Lifetime.Shape != "" {
		what += ", each with a life of " + e.Lifetime.String()
	}
	if joined, ok := s.Joined(e); ok {
		return results.Point{At: math.MaxFloat64 / 4, When: "with " + joined.Name, What: what}
	}
	return pointAt(s.Begins(e).Seconds(), what)
}

func pointAt(at float64, what string) results.Point {
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
