package results

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/actions"
)

// Conclusion is the answer of a run, the same in every format. Its texts are sentences, or parts of
// one, without their names and labels.
type Conclusion struct {
	// Broke are the scenarios that did not stay clean, in the order of the run.
	Broke []Breakage `json:"broke,omitempty"`
	// Answer names the smallest change that held, or the best fix, or says that neither exists;
	// empty for a part of a run, and where a run compares nothing.
	Answer string `json:"answer,omitempty"`
	// Scenario is the one to apply; empty without one.
	Scenario string `json:"scenario,omitempty"`
	// Cost is what the DUT gives up with the scenario; empty without one.
	Cost string `json:"cost,omitempty"`
	// Fixes are the scenarios of a run with actions, the best first.
	Fixes []Fix `json:"fixes,omitempty"`
	// Steps are shell commands that apply the scenario, and keep it across reboots.
	Steps []Step `json:"steps,omitempty"`
	// Full is everything that the scenario set, changed or not; empty with actions.
	Full string `json:"full,omitempty"`
	// Sure lists what the trust in the figures depends on.
	Sure []string `json:"sure,omitempty"`
	// Unwatched lists the statements for which the trials were not watched long enough.
	Unwatched []string `json:"unwatched,omitempty"`
}

// Breakage tells what broke in a scenario.
type Breakage struct {
	Scenario string   `json:"scenario"` // its name
	Verdict  Verdict  `json:"verdict"`  // the worst of its valid trials
	Words    []string `json:"words"`    // what happened, the most important first
}

// Fix tells how the trials of a scenario with actions returned to their steady state, and at what
// cost. Without an action of its own a scenario shows what happens where the DUT is left alone.
type Fix struct {
	Scenario string `json:"scenario"`        // its name
	Acted    bool   `json:"acted,omitempty"` // there was a fault or a fix
	// Healed counts the valid trials that returned to their steady state, or never left it.
	Healed int `json:"healed"`
	Trials int `json:"trials"` // valid trials; 0: nothing is known
	// Seconds is the median time to heal of the trials that healed; 0: they were well by then.
	Seconds float64 `json:"seconds_to_heal,omitempty"`
	Broken  int64   `json:"broken,omitempty"`   // open connections that broke, in the worst trial
	GivesUp string  `json:"gives_up,omitempty"` // what the fix takes from the DUT; empty: nothing
	// Watched is the shortest time, in seconds, under load from the fix, the fault or the deviation
	// on.
	Watched float64 `json:"watched_s,omitempty"`
	Fixed   bool    `json:"fixed,omitempty"` // there was a fix
}

// Conclude returns the answer of a run.
//
// Without actions it is the scenario that met all its thresholds, or without any stayed clean, with
// the smallest change from the first one. A change is smaller when it leaves traffic tracked, then
// when it changes fewer settings, then with a smaller table. A scenario with another load than the
// first is no choice; a client that waits longer makes no other load.
//
// With actions it ranks the scenarios: those that healed in all trials before others, then by the
// connections that broke, by whether the fix takes something from the DUT, and by the time to heal.
// Where all actions are faults, the first of them is the answer.
func Conclude(run *Run) Conclusion {
	c := Conclusion{Broke: breakages(run), Sure: certainty(run), Unwatched: unwatched(run)}
	switch {
	case run.Part("") != nil:
	case slices.ContainsFunc(run.Scenarios, acted):
		c.rank(run)
	case len(run.Scenarios) > 1:
		c.choose(run)
	}
	return c
}

func breakages(run *Run) (list []Breakage) {
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		if v := s.Worst(); v != Clean && v != Invalid {
			list = append(list, Breakage{s.Name, v, Brief(s.Typical())})
		}
	}
	return list
}

// choose fills the answer of a run without actions.
func (c *Conclusion) choose(run *Run) {
	first, chosen := &run.Scenarios[0], best(run)
	which, others := "", cleanElsewhere(run)
	if slices.ContainsFunc(run.Scenarios, func(s Scenario) bool { return !run.sameLoad(&s) }) {
		which = " with the load of " + first.Name
	}
	switch {
	case chosen == nil:
		c.Answer = "No scenario" + which + " met its thresholds or, without any, stayed clean."
	case chosen == first && first.Worst() != Clean:
		// Its thresholds assert the fault, or allow it.
		c.Answer = "No scenario" + which + " stayed clean, although " + first.Name +
			" met all its thresholds."
		chosen = nil
	case chosen == first:
		c.Answer = fmt.Sprintf("No change is needed: %s %s.", first.Name, achievement(first))
	default:
		c.Answer = fmt.Sprintf("%s is the smallest change that %s: %s.", chosen.Name,
			achievement(chosen), strings.Join(changes(first, chosen), ", "))
		c.Cost = costs(first, chosen)
		c.Steps = stepsBetween(first.Configuration, chosen.Configuration)
	}
	if chosen != nil {
		c.Scenario, c.Full = chosen.Name, inFull(chosen.Configuration)
	} else if len(others) > 0 {
		c.Answer += " Clean with another load: " + strings.Join(others, ", ") + "."
	}
}

// cleanElsewhere returns the names of the scenarios that stayed clean under another load than that
// of the first one.
func cleanElsewhere(run *Run) (names []string) {
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		if s.Valid() > 0 && s.Worst() == Clean && !run.sameLoad(s) {
			names = append(names, s.Name)
		}
	}
	return names
}

// sameLoad reports whether a scenario has the load of the first one, however long a client waits
// for its answers.
func (r *Run) sameLoad(s *Scenario) bool {
	unlike := func(a, b Settings) bool {
		a, b = maps.Clone(a), maps.Clone(b)
		delete(a, "timeout")
		delete(b, "timeout")
		return !reflect.DeepEqual(a, b)
	}
	if s.Workload == nil {
		return true
	}
	return len(s.Workload) == len(r.Workload) && !slices.ContainsFunc(s.Workload,
		func(e Settings) bool {
			named := func(o Settings) bool { return o.word("name") == e.word("name") }
			i := slices.IndexFunc(r.Workload, named)
			return i < 0 || unlike(r.Workload[i], e)
		})
}

// best returns the scenario to apply; nil without one.
func best(run *Run) *Scenario {
	met := map[Verdict][]*Scenario{}
	var all []*Scenario
	for i := range run.Scenarios {
		if s := &run.Scenarios[i]; meets(s) && run.sameLoad(s) {
			met[s.Worst()] = append(met[s.Worst()], s)
			all = append(all, s)
		}
	}
	return smallest(&run.Scenarios[0], cures(&run.Scenarios[0], met, all))
}

// cures returns the scenarios to choose from, of those that met their thresholds. Thresholds may
// assert a fault: where some scenario is clean, only a clean one is a cure. Where none is, a
// scenario whose failures are not of tracking cures a first one whose failures are.
func cures(first *Scenario, met map[Verdict][]*Scenario, all []*Scenario) []*Scenario {
	switch {
	case len(met[Clean]) > 0:
		return met[Clean]
	case len(met[NotConntrack]) > 0 && first.Worst() != NotConntrack:
		return met[NotConntrack]
	}
	return all
}

// smallest returns the scenario with the smallest change from the first; nil without any.
func smallest(first *Scenario, met []*Scenario) *Scenario {
	if len(met) == 0 {
		return nil
	}
	if met[0] == first {
		return first
	}
	return slices.MinFunc(met, func(a, b *Scenario) int {
		return cmp.Or(falseFirst(a.untracks(), b.untracks()),
			cmp.Compare(len(changes(first, a)), len(changes(first, b))),
			cmp.Compare(tableBytes(a), tableBytes(b)))
	})
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

func meets(s *Scenario) bool {
	failed := slices.ContainsFunc(s.Thresholds, func(o Outcome) bool { return !o.Passed })
	return s.Valid() > 0 && !failed && (len(s.Thresholds) > 0 || s.Worst() == Clean)
}

func achievement(s *Scenario) string {
	if len(s.Thresholds) > 0 {
		return "met all thresholds"
	}
	return "carried the load cleanly"
}

// acted reports whether a scenario had faults or fixes.
func acted(s Scenario) bool {
	return slices.ContainsFunc(s.Trials, func(t Trial) bool { return len(t.Actions) > 0 })
}

// rank fills the answer of a run with actions.
func (c *Conclusion) rank(run *Run) {
	var fixes, others []Fix
	for i := range run.Scenarios {
		switch fix, ok := fixOf(&run.Scenarios[i]); {
		case !ok:
		case !fix.Acted && fix.Healed < fix.Trials || fix.Trials == 0:
			others = append(others, fix) // left alone, or not measured
		default:
			fixes = append(fixes, fix)
		}
	}
	slices.SortStableFunc(fixes, func(a, b Fix) int {
		return cmp.Or(falseFirst(a.Healed < a.Trials, b.Healed < b.Trials),
			cmp.Compare(b.Healed, a.Healed), cmp.Compare(a.Broken, b.Broken),
			falseFirst(a.GivesUp != "", b.GivesUp != ""), cmp.Compare(a.Seconds, b.Seconds))
	})
	c.Fixes = slices.Concat(fixes, others)
	real := slices.IndexFunc(fixes, func(f Fix) bool { return f.Fixed })
	if real < 0 {
		c.compareFaults(run, fixes)
		return
	}
	chosen := fixes[real]
	if chosen.Healed < chosen.Trials {
		c.Answer = "No fix healed it in every trial in the time watched."
		return
	}
	s := run.Scenario(chosen.Scenario)
	c.Scenario = chosen.Scenario
	c.Answer = fmt.Sprintf("%s is the best fix: %s, %s.", chosen.Scenario, chosen.HealWords(),
		chosen.BrokenWords())
	c.Cost = cmp.Or(chosen.GivesUp, costs(&run.Scenarios[0], s))
	c.Steps = stepsOf(s.Actions)
}

// compareFaults fills the answer of a run whose actions are faults alone: the scenario that they
// hurt least, of the ranked ones.
func (c *Conclusion) compareFaults(run *Run, ranked []Fix) {
	if len(ranked) < 2 {
		return
	}
	least, most := ranked[0], ranked[len(ranked)-1]
	outcome := least.HealWords() + ", " + least.BrokenWords()
	whole := func(f Fix) bool { return f.Healed == f.Trials }
	if whole(least) == whole(most) && least.Broken == most.Broken &&
		most.Seconds <= 2*least.Seconds {
		c.Answer = fmt.Sprintf("The faults hurt all scenarios alike; %s: %s.", least.Scenario,
			outcome)
		return
	}
	c.Answer = fmt.Sprintf("The faults hurt %s least: %s.", least.Scenario, outcome)
	first, s := &run.Scenarios[0], run.Scenario(least.Scenario)
	if s != first && reflect.DeepEqual(s.Actions, first.Actions) {
		c.Scenario, c.Cost = s.Name, costs(first, s)
		c.Steps = stepsBetween(first.Configuration, s.Configuration)
	}
}

// fixOf returns how a scenario healed; false where its trials have no steady state.
func fixOf(s *Scenario) (f Fix, ok bool) {
	f = Fix{Scenario: s.Name}
	if s.Valid() == 0 {
		return f, acted(*s)
	}
	f.Watched = math.Inf(1)
	var seconds []float64
	for t := range s.ValidTrials() {
		if t.Heal == nil {
			continue
		}
		f.Trials++
		f.Broken = max(f.Broken, t.Heal.Broken)
		a := actsOf(t.Actions)
		from := 0.0
		switch first := cmp.Or(a.fix, a.fault); {
		case first != nil:
			f.Acted, f.Fixed, from = true, a.fix != nil, *first.Begun
		case t.Heal.Deviated != nil:
			from = *t.Heal.Deviated
		}
		f.Watched = min(f.Watched, t.Seconds-from)
		if t.Heal.SecondsToHeal != nil {
			f.Healed++
			seconds = append(seconds, *t.Heal.SecondsToHeal)
		}
		for _, action := range t.Actions {
			if action.Fix {
				f.GivesUp = cmp.Or(f.GivesUp, action.fact().GivesUp, untrackedBy(action, t))
			}
		}
	}
	if len(seconds) > 0 {
		f.Seconds = median(seconds)
	}
	return f, f.Trials > 0
}

// untrackedBy words what an action that loads rules takes out of tracking; "" where they do not.
func untrackedBy(a Action, t *Trial) string {
	if actions.Kind(a.Kind) != actions.RulesLoad {
		return ""
	}
	if _, rule := untracked(t.Rules); rule == nil {
		return ""
	}
	return "untracked"
}

// HealWords words whether the trials healed, and how soon.
func (f Fix) HealWords() string {
	switch {
	case f.Trials == 0:
		return "no valid trial"
	case f.Healed == 0:
		return fmt.Sprintf("not healed in %s s", Figure(max(0, f.Watched)))
	case f.Healed < f.Trials:
		return fmt.Sprintf("healed in %d of %d trials", f.Healed, f.Trials)
	case f.Seconds == 0 && f.Fixed:
		return "healed at once"
	case f.Seconds == 0:
		return "stayed steady"
	default:
		return fmt.Sprintf("healed in %s s", Figure(f.Seconds))
	}
}

// BrokenWords words what the actions broke.
func (f Fix) BrokenWords() string {
	if f.Broken == 0 {
		return "no connection broke"
	}
	return plural(f.Broken, "connection") + " broke"
}

// Of words what the conclusion says of one scenario: why to apply it, its rank, or what broke.
func (c Conclusion) Of(scenario string) string {
	if scenario == c.Scenario {
		return c.Answer
	}
	for i, f := range c.Fixes {
		if f.Scenario == scenario && f.Acted {
			place := fmt.Sprintf("%d of %d: ", i+1, len(c.Fixes))
			return place + f.HealWords() + ", " + f.BrokenWords()
		}
	}
	for _, b := range c.Broke {
		if b.Scenario == scenario {
			return strings.Join(b.Words, ", ")
		}
	}
	return ""
}

// certainty words how far the figures can be trusted.
func certainty(run *Run) (list []string) {
	var parts phrases
	fewest, most := math.MaxInt, 0
	var differ, invalid, unknown []string
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		n := s.Valid()
		if n == 0 {
			unknown = append(unknown, s.Name)
			continue
		}
		fewest, most = min(fewest, n), max(most, n)
		verdict := s.Worst()
		agree := 0
		for t := range s.ValidTrials() {
			if t.Verdict == verdict {
				agree++
			}
		}
		if agree < n {
			differ = append(differ, fmt.Sprintf("%s (%s %d/%d)", s.Name, verdict, agree, n))
		}
		bad := 0
		for _, t := range s.Trials {
			if t.Verdict == Invalid && t.RepeatedAs == 0 {
				bad++
			}
		}
		if bad > 0 {
			invalid = append(invalid, fmt.Sprintf("%d of %s", bad, s.Name))
		}
	}
	switch {
	case most == 0:
		return nil
	case most == 1:
		parts.add("one trial of each scenario (--trials 3 shows the scatter)")
	case fewest == most:
		parts.add("%d valid trials of each scenario", most)
	default:
		parts.add("%d to %d valid trials of each scenario", fewest, most)
	}
	if len(differ) > 0 {
		parts.add("verdicts differ between trials of %s", strings.Join(differ, ", "))
	} else if most > 1 {
		parts.add("all verdicts agree")
	}
	if len(unknown) > 0 {
		parts.add("no valid trial of %s", strings.Join(unknown, ", "))
	}
	if len(invalid) > 0 {
		parts.add("INVALID trials are left out: %s", strings.Join(invalid, ", "))
	}
	if run.Environment.Accelerator == "tcg" {
		parts.add("the guest was emulated: counts are valid, timings are not")
	}
	return parts
}

// unwatched words what trials were not watched for long enough to say, scenarios alike together.
func unwatched(run *Run) (list []string) {
	type question struct {
		words   string
		watched string
	}
	names := map[question][]string{}
	var order []question
	ask := func(s *Scenario, watched float64, words string) {
		q := question{words, Figure(watched)}
		if names[q] == nil {
			order = append(order, q)
		}
		if !slices.Contains(names[q], s.Name) {
			names[q] = append(names[q], s.Name)
		}
	}
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		for t := range s.ValidTrials() {
			r, c := t.Recovery, t.Conntrack
			if !troubled(t) || r == nil || r.Ended == Settled || r.Ended == Undisturbed {
				continue
			}
			healed := t.Heal != nil && t.Heal.Healed != nil
			switch probed := t.Probe != nil && c.SecondsToRecover == nil && !healed; {
			case probed && c.reachedMax() && c.SecondsToBelow95 == nil:
				ask(s, r.Watched, "when new connections and the table recover after the load")
			case probed:
				ask(s, r.Watched, "when new connections recover after the load")
			case c.reachedMax() && c.SecondsToBelow95 == nil:
				ask(s, r.Watched, "when the table drains after the load")
			}
		}
	}
	for _, q := range order {
		list = append(list, fmt.Sprintf("%s (%s: watched %s s)", q.words,
			strings.Join(names[q], ", "), q.watched))
	}
	return list
}
