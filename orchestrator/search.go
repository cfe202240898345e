package orchestrator

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ctload/ctload/orchestrator/goals"
	"github.com/ctload/ctload/orchestrator/wiring"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/search"
)

// Search makes a job look for a limit of each scenario: every trial gives the scenario the value
// that the trials before suggest. The run then has a scenario for each value that was tried.
type Search struct {
	Goal goals.Goal
	// Method looks for the metrics of [goals.RFC9693] in turn, instead of a goal; empty: the goal.
	Method string
	// Loss and Retried are the shares of the attempts that may be lost, and that may succeed after
	// retries; Keep holds further conditions.
	Loss       float64
	Retried    float64
	Keep       []string
	Resolution float64 // wanted width of an interval, as a share of the value
	Confidence float64 // of the interval
	MaxTrials  int     // valid ones of each scenario
	Retries    int     // further attempts at a value whose trial was INVALID
	AtLeast    float64 // value that each scenario has to reach; 0: none
	// Over looks for a limit at each value of another quantity; the zero Axis has none.
	Over goals.Axis
	// Number and Of leave it the scenarios of one shard, from 1, of several; an Of of 0: all.
	Number, Of int
}

// limitSearch is a search under way.
type limitSearch struct {
	Search
	plan    *Plan
	bases   []sought
	current int            // index in bases
	report  *search.Report // of what is known
	save    func(report any) error
	moved   func(search.Scenario) // tells what is known of a limit
	note    func(string)

	begun []int // trials of each scenario of the run that were asked for
	slot  Slot  // of the trial under way; a Number of 0: none
	value float64
	why   search.Step
}

// sought holds a scenario whose limit is looked for.
type sought struct {
	scenarios.Resolved
	goal       goals.Goal
	search     seeker
	conditions search.Conditions
}

// seeker finds a figure by trials: a *search.Search or a *search.Repeat.
type seeker interface {
	Next() (value float64, why search.Step, more bool)
	Record(o search.Observation)
	Result() search.Result
	Stuck() bool
}

// Name returns what the search looks for, as the report has it.
func (s Search) Name() string { return cmp.Or(s.Method, s.Goal.String()) }

// goals returns the goals of each scenario, in their order.
func (s Search) goals() []goals.Goal {
	if s.Method == goals.RFC9693 {
		return goals.MetricsRFC9693()
	}
	return []goals.Goal{s.Goal}
}

// prepare checks a search against a plan, and returns where it begins.
func (s Search) prepare(plan *Plan) (*limitSearch, error) {
	h := &limitSearch{Search: s, plan: plan, report: &search.Report{Search: search.Found{
		Experiment: plan.Experiment.Name, Started: time.Now(), Goal: s.Name(),
		Smallest: s.Goal.Extreme == goals.Smallest,
		Loss:     s.Loss, Retried: s.Retried, Keep: s.Keep,
		Resolution: s.Resolution, Confidence: s.Confidence,
		AtLeast: s.AtLeast, Over: s.Over.Key(), Axis: s.Over.String(),
		MaxTrials: s.MaxTrials, Retries: s.Retries,
	}}}
	if s.Over.Varies(s.Goal) {
		return nil, fmt.Errorf("--over %s: --%s looks for that", s.Over.Key(), s.Goal)
	}
	var all []origin
	for i, base := range plan.Scenarios {
		list, values := s.Over.Over(base)
		for at, r := range list {
			all = append(all, origin{r, i, values[at]})
		}
	}
	own, err := h.deal(all)
	if err != nil {
		return nil, err
	}
	for _, o := range own {
		for _, goal := range s.goals() {
			if err := h.add(goal, o); err != nil {
				return nil, err
			}
		}
	}
	if s.Method != "" { // the load of the method alone, and nothing to recover from
		experiment := *plan.Experiment
		experiment.Phases, experiment.Recovery = nil, scenarios.Recovery{}
		plan.Experiment = &experiment
	}
	return h, nil
}

// origin is a scenario whose limit is looked for, with its index in the plan and its value on the
// axis.
type origin struct {
	scenarios.Resolved
	plan int
	over string
}

// deal returns the scenarios of the search's shard.
func (h *limitSearch) deal(all []origin) (own []origin, err error) {
	switch {
	case h.Of == 0:
		return all, nil
	case h.Of > len(all):
		return nil, fmt.Errorf("--shard: the search has %d scenarios, too few for %d shards",
			len(all), h.Of)
	}
	draw := rand.New(rand.NewPCG(h.plan.Seed, 1)).Perm(h.Of)
	h.plan.Shard = &results.Shard{Number: h.Number, Of: h.Of}
	for i, o := range all {
		h.report.Search.Planned = append(h.report.Search.Planned, o.Name)
		if draw[i%h.Of] == h.Number-1 {
			own = append(own, o)
			h.plan.Shard.Trials = append(h.plan.Shard.Trials, o.Name)
		}
	}
	return own, nil
}

// add adds a scenario and a goal that is looked for in it.
func (h *limitSearch) add(goal goals.Goal, o origin) error {
	plan, topology, r := h.plan, h.plan.Experiment.Topology, o.Resolved
	goal, err := goal.Settle(topology, r)
	switch {
	case err != nil && h.Method != "":
		return err
	case err != nil:
		return fmt.Errorf("--%s: %w", h.Goal.Extreme, err)
	}
	if err := plan.checkOne(r); err != nil {
		return err
	}
	q := sought{Resolved: r, goal: goal, conditions: search.Conditions{
		Loss: h.Loss, Retried: h.Retried,
	}}
	for _, text := range h.Keep {
		condition, err := results.CompileThreshold(text, plan.workloads[o.plan])
		if err != nil {
			return fmt.Errorf("--keep: %w", err)
		}
		q.conditions.Keep = append(q.conditions.Keep, condition)
	}
	set := goal.Settings(topology, r)
	set.Resolution, set.Confidence, set.MaxTrials = h.Resolution, h.Confidence, h.MaxTrials
	set.Retries = h.Retries
	q.search = search.New(set)
	if goal.Quantity == goals.TearDown {
		q.search = search.NewRepeat(set)
	}
	h.bases = append(h.bases, q)
	found := &h.report.Search
	one := search.Scenario{
		Name: r.Name, Over: o.over, Unit: goal.Unit(), Predicted: set.Predicted,
		Metric: goal.Metric(),
	}
	if one.Metric != "" {
		one.Name, one.Of = r.Name+"@"+string(goal.Quantity), r.Name
	}
	if o.over != "" {
		one.Of = plan.Scenarios[o.plan].Name
	}
	found.Scenarios = append(found.Scenarios, one)
	if goal.Quantity == goals.Establishment {
		found.Notes = append(found.Notes, fmt.Sprintf("%s: %s connections in the trials of both "+
			"rates, and no rate above as many in a second", r.Name,
			results.Figure(goal.Connections())))
	}
	value, _, more := q.search.Next()
	if life, short := goal.Short(topology, r, value); more && one.Metric == "" && short {
		found.Notes = append(found.Notes, fmt.Sprintf("%s: the load ends before its first "+
			"entries expire, after %s s: a longer load has a lower limit", r.Name,
			results.Figure(life)))
	}
	return nil
}

// careful is the share of the lower bound of the establishment rate at which the trials of the
// other metrics open their connections: none of them is lost to the rate.
const careful = 0.5

// settle gives the goal of the current scenario what the goals before found.
func (h *limitSearch) settle() {
	q := &h.bases[h.current]
	if q.goal.Metric() == "" || q.goal.Quantity == goals.Establishment {
		return
	}
	for before := h.current - 1; before >= 0; before-- {
		if h.bases[before].goal.Quantity == goals.Establishment {
			if low := h.report.Search.Scenarios[before].Low; low != nil {
				q.goal = q.goal.OpenAt(*low * careful)
			}
			return
		}
	}
}

// CheckSearch refuses a search that the plan cannot make, before anything boots. It returns what is
// known before its first trial.
func (p *Plan) CheckSearch(s Search) (search.Found, error) {
	h, err := s.prepare(p)
	if err != nil {
		return search.Found{}, err
	}
	return h.report.Search, nil
}

// begin takes the scenarios out of the plan, which then has those of the values alone.
func (h *limitSearch) begin() {
	p := h.plan
	p.Scenarios, p.Order, p.workloads = nil, nil, nil
	p.thresholds, p.conditions, p.steady = nil, nil, nil
}

// next returns the next trial of the search; false where it is over. The run has the results of
// all trials before.
func (h *limitSearch) next(run *results.Run) (Slot, bool, error) {
	if h.slot.Number > 0 {
		if err := h.observe(run); err != nil {
			return Slot{}, false, err
		}
		found := h.report.Search.Scenarios[h.current]
		h.note(found.Words(h.report.Search.Confidence))
		if err := h.save(h.report); err != nil {
			return Slot{}, false, err
		}
		h.moved(found)
	}
	for ; h.current < len(h.bases); h.current++ {
		h.settle()
		q := h.bases[h.current]
		for {
			value, why, more := q.search.Next()
			if !more {
				break
			}
			index, err := h.plan.add(q.goal.At(q.Resolved, value), run)
			if err != nil { // no generator can make such a load
				h.note(err.Error())
				q.search.Record(search.Observation{
					Value: value, Invalid: true, Limit: search.Generator,
				})
				continue
			}
			if name := h.plan.Scenarios[index].Name; run.Scenarios[index].Name != name {
				return Slot{}, false, &compare.UnlikeError{Reasons: []string{fmt.Sprintf(
					"the unfinished search went on with %s, and this one with %s",
					run.Scenarios[index].Name, name)}}
			}
			h.begun = append(h.begun, make([]int, len(h.plan.Scenarios)-len(h.begun))...)
			h.begun[index]++
			h.value, h.why = value, why
			h.slot = Slot{Scenario: index, Number: h.begun[index]}
			if again := trialOf(run, index, h.slot.Number-1); again != nil && again.Spoilt() {
				h.slot.Repeats = again.Number
			}
			h.plan.Order = append(h.plan.Order, h.slot)
			if trialOf(run, index, h.slot.Number) == nil {
				return h.slot, true, nil
			}
			// The trial was made before the search was cut off.
			if err := h.observe(run); err != nil {
				return Slot{}, false, err
			}
		}
		h.conclude()
	}
	h.slot = Slot{}
	return Slot{}, false, nil
}

// most returns how many valid trials the search makes at most.
func (h *limitSearch) most() int { return len(h.bases) * h.MaxTrials }

// trialOf returns a trial of a run by its number; nil where it was not made.
func trialOf(run *results.Run, scenario, number int) *results.Trial {
	trials := run.Scenarios[scenario].Trials
	i := slices.IndexFunc(trials, func(t results.Trial) bool { return t.Number == number })
	if i < 0 {
		return nil
	}
	return &trials[i]
}

// observe takes what the trial under way has shown.
func (h *limitSearch) observe(run *results.Run) error {
	q, found := h.bases[h.current], &h.report.Search.Scenarios[h.current]
	t := trialOf(run, h.slot.Scenario, h.slot.Number)
	o, err := q.conditions.Observe(h.value, t)
	if err != nil {
		return fmt.Errorf("--keep: %w", err)
	}
	lossless := o.Held && o.Shares == (search.Shares{}) // else max bounds the peak
	if lossless || !o.Invalid && q.goal.Quantity == goals.TearDown {
		o.Estimate = q.goal.Estimate(h.value, t)
	}
	q.search.Record(o)
	made := search.Trial{
		Value: h.value, Step: h.why, Invalid: o.Invalid, Held: o.Held, Limit: o.Limit,
		Estimate: o.Estimate, Fill: t.Conntrack.Fill(), Shares: o.Shares,
	}
	if o.Invalid {
		made.Why = t.WhyInvalid()
	}
	found.Made = append(found.Made, made)
	h.slot = Slot{}
	h.conclude()
	return nil
}

// conclude writes what is known of the current scenario's limit into the report.
func (h *limitSearch) conclude() {
	q, found := h.bases[h.current], &h.report.Search.Scenarios[h.current]
	found.Set(q.search.Result())
	found.Stuck = q.search.Stuck()
}

// add adds a scenario to a plan under way and to its run, and returns its index; that of the
// scenario with the same name where there is one.
func (p *Plan) add(s scenarios.Resolved, run *results.Run) (index int, err error) {
	named := func(other scenarios.Resolved) bool { return other.Name == s.Name }
	if i := slices.IndexFunc(p.Scenarios, named); i >= 0 {
		return i, nil
	}
	one := &Plan{Experiment: p.Experiment, Scenarios: []scenarios.Resolved{s}, Seed: p.Seed}
	one.workloads = []results.Workload{
		workload(wiring.Assignments(p.Experiment.Topology, s, p.Seed)),
	}
	if err := p.checkOne(s); err != nil {
		return 0, err
	}
	if err := one.compile(); err != nil {
		return 0, err
	}
	p.Scenarios = append(p.Scenarios, s)
	p.workloads = append(p.workloads, one.workloads...)
	p.thresholds = append(p.thresholds, nil) // a trial beyond the limit fails them, as it should
	p.conditions = append(p.conditions, one.conditions...)
	p.steady = append(p.steady, one.steady...)
	if len(run.Scenarios) < len(p.Scenarios) { // else the run to resume has it
		run.Scenarios = append(run.Scenarios, p.expected(len(p.Scenarios)-1))
	}
	return len(p.Scenarios) - 1, nil
}

// checkOne refuses a scenario that no lab can make; see [Plan.check].
func (p *Plan) checkOne(s scenarios.Resolved) error {
	one := &Plan{Experiment: p.Experiment, Scenarios: []scenarios.Resolved{s}, Seed: p.Seed}
	return one.check()
}
