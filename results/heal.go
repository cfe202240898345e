package results

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ctload/ctload/internal/actions"
)

// Heal tells how a trial left its steady state and returned to it. Times are in seconds, as exact
// as the sampling; nil: it did not happen during the watch.
type Heal struct {
	Steady []string `json:"steady"` // the steady state's conditions, from the experiment
	// Deviated is the time of the first sample out of the steady state, on the axis of the samples.
	Deviated *float64 `json:"deviated_s,omitempty"`
	// Healed is the time of the first sample from which on all are steady again; the end of the
	// load is no cure.
	Healed *float64 `json:"healed_s,omitempty"`
	// SecondsToDeviate counts from the first action that is no fix, or from the start of the load.
	SecondsToDeviate *float64 `json:"seconds_to_deviate,omitempty"`
	// SecondsToHeal counts from the first fix, else from the end of the last action (its beginning
	// when it lasts or cannot be undone), else from the deviation. 0: the trial had healed by then.
	SecondsToHeal *float64 `json:"seconds_to_heal,omitempty"`
	// Refused are the packets for new entries that the kernel refused (drop and insert_failed) from
	// the deviation on until the trial had healed, or until its end.
	Refused    int64 `json:"refused"`
	Failed     int64 `json:"failed"`      // attempts that failed meanwhile, but of hostile entries
	ProbesLost int64 `json:"probes_lost"` // attempts of the bystanders that were lost meanwhile
	Broken     int64 `json:"broken"`      // held connections that broke, from the first action on
	// LaterFailures are attempts of the load that failed though they began after the trial had
	// healed.
	LaterFailures int64 `json:"later_failures,omitempty"`
}

const (
	// steadyBefore is the time, in seconds, before the first action that must be steady.
	steadyBefore = 2.0
	// lone is the steady time, in seconds, on both sides that makes a deviating sample noise.
	lone = 1.0
)

// JudgeHeal fills t.Heal from the series, both in order of time. timeout is the longest one of the
// load, in seconds. JudgeHeal returns why the trial was not steady before the first action, if so.
func JudgeHeal(
	t *Trial, steady []*Condition, samples []Sample, probes []ProbeSample, timeout float64,
) (unsteady []Reason) {
	t.Heal = nil
	if len(steady) == 0 || len(samples) == 0 {
		return nil
	}
	h := &Heal{}
	t.Heal = h
	for _, c := range steady {
		h.Steady = append(h.Steady, c.String())
	}
	moments := momentsOf(Workload{t.Entries, t.Probes}, samples, probes)
	normal := make([]bool, len(moments))
	broken := func(m *Moment) int {
		return slices.IndexFunc(steady, func(c *Condition) bool { return !c.Holds(m) })
	}
	for i := range moments {
		normal[i] = broken(&moments[i]) < 0
	}
	ignoreLone(moments, normal)
	acts := actsOf(t.Actions)
	if i := unsteadyBefore(moments, normal, acts); i >= 0 {
		m := &moments[i]
		c := steady[broken(m)]
		unsteady = []Reason{{CodeUnsteady, fmt.Sprintf("not in its steady state before the first "+
			"action: %s did not hold at %s s (%s)", c, Figure(m.Elapsed), c.Words(m))}}
	}
	h.find(t, moments, normal, acts)
	h.count(t.Meaning, moments, probes, acts, timeout)
	return unsteady
}

// ignoreLone treats single deviating samples as noise.
func ignoreLone(moments []Moment, normal []bool) {
	previous := math.Inf(-1)
	for i := range normal {
		if normal[i] {
			continue
		}
		next := math.Inf(1)
		if j := slices.Index(normal[i+1:], false); j >= 0 {
			next = moments[i+1+j].Elapsed
		}
		at := moments[i].Elapsed
		if at-previous > lone && next-at > lone {
			normal[i] = true
		}
		previous = at
	}
}

// acts are the moments of a trial's actions that matter for its health.
type acts struct {
	first    *Action // of all
	fault    *Action // the first that is no fix
	fix      *Action // the first
	faultEnd float64 // when the last fault was over, or began where it lasts
}

func actsOf(actions []Action) acts {
	a := acts{faultEnd: math.Inf(-1)}
	keepFirst := func(first **Action, action *Action) {
		if *first == nil || *action.Begun < *(*first).Begun {
			*first = action
		}
	}
	for i := range actions {
		action := &actions[i]
		if action.Begun == nil {
			continue
		}
		keepFirst(&a.first, action)
		if action.Fix {
			keepFirst(&a.fix, action)
			continue
		}
		keepFirst(&a.fault, action)
		a.faultEnd = max(a.faultEnd, action.end(*action.Begun))
	}
	return a
}

// faultFirst reports whether there was a fault, and no fix before it.
func (a acts) faultFirst() bool {
	return a.fault != nil && (a.fix == nil || *a.fault.Begun <= *a.fix.Begun)
}

// unsteadyBefore returns the index of a moment that was not steady before the first action, or the
// load where there are no faults first; -1 without one.
func unsteadyBefore(moments []Moment, normal []bool, a acts) int {
	before := 0.0
	if a.fault != nil && a.fault == a.first {
		before = *a.fault.Begun
	}
	for i, m := range moments {
		if m.Elapsed >= before-steadyBefore && m.Elapsed < before && !normal[i] {
			return i
		}
	}
	return -1
}

// find sets the times.
func (h *Heal) find(t *Trial, moments []Moment, normal []bool, a acts) {
	from := 0.0
	if a.faultFirst() {
		from = *a.fault.Begun
	}
	first := slices.IndexFunc(moments, func(m Moment) bool { return m.Elapsed >= from })
	if first < 0 {
		return
	}
	deviated := slices.Index(normal[first:], false)
	if deviated < 0 {
		h.SecondsToHeal = new(float64)
		return
	}
	deviated += first
	h.Deviated = &moments[deviated].Elapsed
	h.SecondsToDeviate = new(*h.Deviated - from)

	since := *h.Deviated
	switch {
	case a.fix != nil:
		since = *a.fix.Begun
	case a.fault != nil:
		since = a.faultEnd
	}
	last := len(moments) - 1
	if since < t.Seconds {
		// The end of the load is no cure: only moments under the load count.
		for last > deviated && moments[last].Elapsed > t.Seconds {
			last--
		}
	}
	healed := last
	for healed >= deviated && normal[healed] {
		healed--
	}
	healed++
	if healed > last || moments[last].Elapsed-moments[healed].Elapsed < recoverHold {
		return
	}
	h.Healed = &moments[healed].Elapsed
	h.SecondsToHeal = new(max(0, *h.Healed-since))
}

// count sets the losses.
func (h *Heal) count(
	meaning *CounterMeaning, moments []Moment, probes []ProbeSample, a acts, timeout float64,
) {
	end := moments[len(moments)-1]
	if a.first != nil {
		h.Broken = end.broken - at(moments, *a.first.Begun).broken
	}
	if h.Deviated == nil {
		return
	}
	before, healed, failed := at(moments, *h.Deviated-1e-9), end, end
	if h.Healed != nil {
		healed, failed = at(moments, *h.Healed), at(moments, *h.Healed+timeout)
		h.LaterFailures = end.failed - failed.failed
	}
	refused := func(m Moment) int64 { return refusalsOf(m.Conntrack.Counters, meaning).sum() }
	h.Refused = refused(healed) - refused(before)
	h.Failed = failed.failed - failed.broken - before.failed + before.broken
	for _, p := range probes {
		if !p.OK && p.Seconds > before.Elapsed && p.Seconds <= healed.Elapsed {
			h.ProbesLost++
		}
	}
}

// at returns the last moment that is not after a time, or the first one.
func at(moments []Moment, seconds float64) Moment {
	i := slices.IndexFunc(moments, func(m Moment) bool { return m.Elapsed > seconds })
	if i < 0 {
		return moments[len(moments)-1]
	}
	return moments[max(0, i-1)]
}

// actionWords names the actions of a trial and what each did.
func actionWords(t *Trial) string {
	var words []string
	for _, a := range t.Actions {
		words = append(words, a.String()+around(", ", effectWords(a), ""))
	}
	return around("Actions: ", strings.Join(words, "; "), ".")
}

// effectWords words the changes: at most two, and only those of one line.
func effectWords(a Action) string {
	var words phrases
	for _, e := range a.Effects {
		both := e.Before + e.After
		if e.Before == e.After || strings.Contains(both, "\n") || len(both) > 60 {
			continue
		}
		words.add("%s from %s to %s", e.Name, cmp.Or(e.Before, "none"), cmp.Or(e.After, "none"))
	}
	return strings.Join(words[:min(2, len(words))], ", ")
}

// healWords words when a trial left its steady state, whether it returned, and what it lost.
func healWords(t *Trial) string {
	h := t.Heal
	if h == nil {
		return ""
	}
	end := "."
	if len(t.Actions) > 0 {
		end = "; " + plural(h.Broken, "open connection") + " broke."
	}
	if h.Deviated == nil {
		return "It stayed in its steady state" + end
	}
	a := actsOf(t.Actions)
	since := "the deviation"
	switch {
	case a.fix != nil:
		since = "the fix"
	case a.fault != nil && a.fault.Ended != nil:
		since = "the end of the fault"
	case a.fault != nil:
		since = "the fault"
	}
	from := "the start of the load"
	if a.faultFirst() {
		from = a.fault.Name
	}
	s := fmt.Sprintf("The trial left its steady state %s s after %s",
		Figure(*h.SecondsToDeviate), from)
	switch {
	case h.Healed == nil && a.fix != nil:
		s += fmt.Sprintf(", and %s did not heal it in the time watched", a.fix.Name)
	case h.Healed == nil:
		s += " and did not return to it in the time watched"
	case *h.SecondsToHeal == 0 && a.fix != nil:
		s += fmt.Sprintf(" and returned to it before %s", a.fix.Name)
	default:
		s += fmt.Sprintf(" and returned to it %s s after %s", Figure(*h.SecondsToHeal), since)
	}
	var lost []string
	if h.Refused > 0 {
		lost = append(lost, "the kernel refused "+plural(h.Refused, "packet"))
	}
	if h.Failed > 0 {
		lost = append(lost, plural(h.Failed, "attempt")+" of the load failed")
	}
	if h.ProbesLost > 0 {
		lost = append(lost, wasWere(h.ProbesLost, "probe")+" lost")
	}
	s += around("; meanwhile ", list(lost), "")
	if h.LaterFailures > 0 {
		s += "; the load did not recover: " + plural(h.LaterFailures, "later attempt") + " failed"
	}
	return s + end
}

// Action is a fault or a fix of a trial. Times are seconds after the start of the load.
type Action struct {
	Name  string `json:"name"`            // as the experiment gives it, or the kind
	Kind  string `json:"kind"`            // sysctl, flush, pause and so on: docs/language.md
	Where string `json:"where"`           // the node or the link
	Asked string `json:"asked,omitempty"` // the request, in words
	Fix   bool   `json:"fix,omitempty"`   // meant to heal
	// Begun is the earliest time at which it can have taken effect; nil when its moment never came.
	Begun *float64 `json:"begun_s,omitempty"`
	Took  float64  `json:"took_s,omitempty"` // how long performing it took
	// Ended is the time when it was undone; nil when it lasted until the end of the trial, or
	// cannot be undone.
	Ended *float64 `json:"ended_s,omitempty"`
	// Effects are the values that the kernel, or the lab, reported before and after.
	Effects []Effect `json:"effects,omitempty"`
	Remarks []string `json:"remarks,omitempty"` // what the node said beside
	// LaterFailures are attempts of the load that failed and surely began after it.
	LaterFailures int64 `json:"later_failures,omitempty"`
	// Failure tells why it could not be performed or undone, which makes the trial INVALID.
	Failure string `json:"failure,omitempty"`
}

// Effect is one value before and after an action.
type Effect struct {
	Name   string `json:"name"`   // of the setting or the figure
	Before string `json:"before"` // empty: there was none
	After  string `json:"after"`  // empty: there is none
}

// fact returns the table's entry for the action's kind.
func (a Action) fact() actions.Fact { return actions.Kind(a.Kind).Fact() }

// end returns when an action was over, or never where it was not.
func (a Action) end(never float64) float64 {
	switch fact := a.fact(); {
	case a.Ended != nil:
		return *a.Ended
	case fact.Once && fact.Stops && a.Begun != nil:
		return *a.Begun + a.Took
	}
	return never
}

// Lasts reports whether the action holds until it is undone.
func (a Action) Lasts() bool { return !a.fact().Once }

// afterStop limits the seconds that a DUT needs for its first sample after it stood still.
const afterStop = 2.0

// stopped reports whether an action kept the DUT from giving samples between two times.
func stopped(all []Action, from, to float64) bool {
	return slices.ContainsFunc(all, func(a Action) bool {
		return a.fact().Stops && a.Begun != nil && *a.Begun < to && a.end(to)+afterStop > from
	})
}

// StarvesMemory reports whether an action exhausts the memory of a trial, which its log must show.
func StarvesMemory(all []Action) bool {
	starves := func(a Action) bool { return a.fact().Starves && a.Begun != nil }
	return slices.ContainsFunc(all, starves)
}

// slowed reports whether an action took CPU time or memory from a node on purpose; the DUT may give
// its samples later then.
func slowed(all []Action) bool {
	return slices.ContainsFunc(all, func(a Action) bool {
		fact := a.fact()
		return a.Begun != nil && (fact.Starves || fact.Kind == actions.CPUThrottle)
	})
}

// String describes the action in a few words.
func (a Action) String() string {
	s := a.Name
	if a.Asked != "" {
		s += " (" + a.Asked + ")"
	}
	if a.Begun == nil {
		return s + ": not performed, since the trial ended first"
	}
	s += fmt.Sprintf(" at %s s", Figure(*a.Begun))
	if a.Ended != nil {
		s += fmt.Sprintf(" for %s s", Figure(*a.Ended-*a.Begun))
	}
	return s
}

// Events of an action that has been performed, and of one that has been taken back.
const (
	ActionMade   = "made"
	ActionUndone = "undone"
)

// ActionEvent is a line of [FileActions]. Time is that of the host that runs ctload.
type ActionEvent struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"` // begin, [ActionMade], undo, [ActionUndone], failed
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Where   string    `json:"where"`
	Asked   string    `json:"asked,omitempty"`
	Effects []Effect  `json:"effects,omitempty"`
	Remarks []string  `json:"remarks,omitempty"`
}
