package orchestrator

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/results/compare"
	"github.com/ctload/ctload/scenarios"
	"github.com/ctload/ctload/search"
)

// Merged is a run joined from its parts.
type Merged struct {
	Run    *results.Run
	Search *search.Report // nil: the parts are none of a search
	// Notes are the allowed differences between the parts, Missing the trials (of a search the
	// scenarios) that no part has, each with its shard.
	Notes, Missing []string
	experiment     []byte
	from           map[string]*results.Folder // by the folder of a trial
}

// doubleError reports measurements of the same that cannot both count.
type doubleError struct{ what, first, second string }

func (e *doubleError) Error() string {
	return fmt.Sprintf("%s is in %s and in %s; give the one that counts", e.what, e.first, e.second)
}

// merger is a merge under way.
type merger struct {
	folders  []*results.Folder // of the parts, in the order of their shards
	parts    []compare.Part
	searches []search.Found
}

// Merge joins the parts of a run, shards above all: every trial as it was measured, judged once
// over all. An unfinished part gives the trials that it has. Parts of unlike runs are a
// *compare.UnlikeError, a shard or a trial that two parts have a *doubleError.
func Merge(folders []*results.Folder) (*Merged, error) {
	m := merger{folders: slices.Clone(folders)}
	if err := m.load(); err != nil {
		return nil, err
	}
	notes, err := compare.Parts(m.parts)
	if err != nil {
		return nil, err
	}
	first := m.parts[0]
	experiment, _, err := scenarios.Parse(m.folders[0].Path(), []byte(first.Experiment))
	if err != nil {
		return nil, err
	}
	plan, err := NewPlan(experiment, first.Run.Seed)
	if err != nil {
		return nil, err
	}
	if err := m.checkDeal(plan); err != nil {
		return nil, err
	}
	run := *first.Run
	run.Shard, run.Interrupted = nil, false
	run.Seconds, run.Scenarios, run.Warnings = 0, nil, nil
	merged := &Merged{
		Run: &run, Notes: notes, experiment: []byte(first.Experiment),
		from: map[string]*results.Folder{},
	}
	if err := m.join(merged); err != nil {
		return nil, err
	}
	named := func(s results.Scenario, r scenarios.Resolved) bool { return s.Name == r.Name }
	switch {
	case m.searches != nil:
		err = m.joinSearches(merged)
	case !slices.EqualFunc(run.Scenarios, plan.Scenarios, named):
		err = fmt.Errorf("%s: the run has other scenarios than its experiment", first.Name)
	default:
		merged.Missing = m.missing(plan, merged.Run)
		err = plan.conclude(merged.Run)
	}
	if err != nil {
		return nil, err
	}
	merged.Run.Unfinished = len(merged.Missing) > 0
	return merged, nil
}

// load reads the parts, and puts them in the order of their shards. All parts are of a search, or
// none is.
func (m *merger) load() error {
	of := map[*results.Folder]*results.Run{}
	for _, f := range m.folders {
		run, err := f.Load()
		if err != nil {
			return err
		}
		run.Rewind()
		of[f] = run
	}
	number := func(f *results.Folder) int {
		if s := of[f].Shard; s != nil {
			return s.Number
		}
		return 0
	}
	slices.SortStableFunc(m.folders, func(a, b *results.Folder) int {
		return cmp.Compare(number(a), number(b))
	})
	for i, f := range m.folders {
		if run := of[f]; run.Planned == 0 && (run.Unfinished || run.Interrupted) {
			return run.Part(f.Path()) // a search has only what it has found at its end
		}
		experiment, err := f.Experiment()
		if err != nil {
			return err
		}
		m.parts = append(m.parts, compare.Part{
			Name: f.Path(), Run: of[f], Experiment: string(experiment),
		})
		var report search.Report
		switch err := f.LoadSearch(&report); {
		case err == nil && len(m.searches) == i:
			m.searches = append(m.searches, report.Search)
		case err == nil || errors.Is(err, fs.ErrNotExist) && m.searches != nil:
			reason := fmt.Sprintf("only one of %s and %s is a search", m.folders[0].Path(),
				f.Path())
			return &compare.UnlikeError{Reasons: []string{reason}, Merge: true}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// checkDeal refuses shards of a run that the plan would not deal.
func (m *merger) checkDeal(plan *Plan) error {
	for _, part := range m.parts {
		shard := part.Run.Shard
		if shard == nil || m.searches != nil {
			continue
		}
		own := *plan
		own.Order = slices.Clone(plan.Order)
		if err := own.Deal(shard.Number, shard.Of); err != nil ||
			!slices.Equal(own.Shard.Trials, shard.Trials) {
			reason := fmt.Sprintf("the trials of %s are not those of shard %v", part.Name, shard)
			return &compare.UnlikeError{Reasons: []string{reason}, Merge: true}
		}
	}
	return nil
}

// join takes over the trials of the parts, and what the run is known by.
func (m *merger) join(merged *Merged) error {
	run := merged.Run
	for i, part := range m.parts {
		p := part.Run
		if i > 0 && p.Shard != nil && m.parts[i-1].Run.Shard != nil &&
			p.Shard.Number == m.parts[i-1].Run.Shard.Number {
			return &doubleError{"shard " + p.Shard.String(), m.parts[i-1].Name, part.Name}
		}
		if p.Started.Before(run.Started) {
			run.Started = p.Started
		}
		run.Seconds += p.Seconds
		for _, text := range p.Warnings {
			if !slices.Contains(run.Warnings, text) {
				run.Warnings = append(run.Warnings, text)
			}
		}
		for _, s := range p.Scenarios {
			into := run.Scenario(s.Name)
			if into == nil {
				run.Scenarios = append(run.Scenarios, s)
				into = &run.Scenarios[len(run.Scenarios)-1]
				into.Trials = nil
			}
			if err := m.joinTrials(merged, into, s.Trials, i); err != nil {
				return err
			}
		}
	}
	run.Warnings = append(run.Warnings, merged.Notes...)
	e := &run.Environment
	e.Kernel, e.Modules = "", nil
	for _, t := range run.Trials() {
		e.Kernel = cmp.Or(e.Kernel, t.Kernel)
		if t.Modules != nil {
			e.Modules = inAll(e.Modules, t.Modules)
		}
	}
	return nil
}

// joinTrials takes over the trials of a scenario that a part has.
func (m *merger) joinTrials(
	merged *Merged, into *results.Scenario, trials []results.Trial, part int,
) error {
	for _, t := range trials {
		same := func(other results.Trial) bool {
			return other.Number == t.Number || other.Folder == t.Folder
		}
		if i := slices.IndexFunc(into.Trials, same); i >= 0 {
			if !reflect.DeepEqual(into.Trials[i], t) {
				return &doubleError{
					fmt.Sprintf("trial %d of %s", t.Number, into.Name),
					merged.from[into.Trials[i].Folder].Path(), m.parts[part].Name,
				}
			}
			continue
		}
		into.Trials = append(into.Trials, t)
		merged.from[t.Folder] = m.folders[part]
	}
	slices.SortFunc(into.Trials, func(a, b results.Trial) int {
		return cmp.Compare(a.Number, b.Number)
	})
	return nil
}

// missing returns the trials of the plan that the run has not, by their shards.
func (m *merger) missing(plan *Plan, run *results.Run) (list []string) {
	shards := 1
	for _, p := range m.parts {
		if p.Run.Shard != nil {
			shards = p.Run.Shard.Of
		}
	}
	shard := plan.dealt(shards)
	names := make([][]string, shards)
	for i, slot := range plan.Order {
		trials := run.Scenarios[slot.Scenario].Trials
		made := slices.IndexFunc(trials, func(t results.Trial) bool {
			return t.Number == slot.Number
		})
		if i == 0 && made >= 0 {
			run.Environment.Kernel = trials[made].Kernel
		}
		leftOut := slices.ContainsFunc(trials, func(t results.Trial) bool { return t.NotAsAsked() })
		if !leftOut && made < 0 {
			at := shard(slot) - 1
			names[at] = append(names[at], plan.Name(slot))
		}
	}
	for i, of := range names {
		if len(of) > 0 {
			list = append(list, fmt.Sprintf("shard %v: %s",
				results.Shard{Number: i + 1, Of: shards}, strings.Join(of, ", ")))
		}
	}
	return list
}

// joinSearches joins what the parts of a search found.
func (m *merger) joinSearches(merged *Merged) error {
	joined, unlike := m.searches[0].Join(m.searches[1:])
	if unlike != "" {
		return &compare.UnlikeError{Reasons: []string{unlike}, Merge: true}
	}
	for _, name := range joined.Planned {
		found := func(s search.Scenario) bool { return s.Name == name }
		if !slices.ContainsFunc(joined.Scenarios, found) {
			merged.Missing = append(merged.Missing, name)
		}
	}
	if merged.Missing == nil {
		joined.Planned = nil // as of a search without shards
	}
	merged.Search = &search.Report{Search: joined}
	return nil
}

// Write writes the merged run into its folder, with everything that the parts have of their trials.
func (m *Merged) Write(folder *results.Folder) error {
	if err := folder.SaveExperiment(m.experiment); err != nil {
		return err
	}
	for _, t := range m.Run.Trials() {
		if err := folder.TakeOver(m.from[t.Folder], t); err != nil {
			return err
		}
	}
	if m.Search != nil {
		if err := folder.SaveSearch(m.Search); err != nil {
			return err
		}
	}
	return folder.Save(m.Run)
}
