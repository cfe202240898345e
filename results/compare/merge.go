package compare

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ctload/ctload/results"
)

// Part is a part of a run, with what names it in messages and the experiment as run.
type Part struct {
	Name       string
	Run        *results.Run
	Experiment string
}

// Parts returns the allowed differences between parts of one run, for the reader of the merged one:
// those that [Runs] allows, but for the kernel, since the trials of a scenario are one sample.
// Other differences, and other seeds or numbers of shards, are an [*UnlikeError].
func Parts(parts []Part) (notes []string, err error) {
	var names, unlike []string
	var runs []*results.Run
	for _, p := range parts {
		names, runs = append(names, p.Name), append(runs, p.Run)
		if p.Experiment != parts[0].Experiment {
			unlike = append(unlike, fmt.Sprintf("the experiment of %s is not that of %s: %s",
				p.Name, names[0], firstDifference(parts[0].Experiment, p.Experiment)))
		}
	}
	add := func(list *[]string, text string) {
		if !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
	settings := func(run *results.Run) results.Run {
		of, first := *run, runs[0].Environment
		of.Scenarios = slices.Clone(run.Scenarios)
		for i := range of.Scenarios {
			of.Scenarios[i].Trials = nil // compared below
		}
		of.Environment.Kernel = "" // of the first trial, which shards do not share
		if len(run.Trials()) == 0 {
			of.Environment.Accelerator = first.Accelerator // not known yet
		}
		return of
	}
	first := settings(runs[0])
	for i, run := range runs[1:] {
		p, other := pair{names[0], names[i+1]}, settings(run)
		reasons, allowed := p.differences(&first, &other, false)
		if first.Seed != other.Seed {
			reasons = append(reasons,
				p.both("seed", fmt.Sprint(first.Seed), fmt.Sprint(other.Seed)))
		}
		alike := func(a, b results.Scenario) bool { return a.Name == b.Name }
		if first.Planned > 0 && !slices.EqualFunc(first.Scenarios, other.Scenarios, alike) {
			reasons = append(reasons, fmt.Sprintf("the scenarios of %s and %s differ", p.a, p.b))
		}
		for _, text := range reasons {
			add(&unlike, text)
		}
		for _, text := range allowed {
			add(&notes, text)
		}
	}
	check := func(into *[]string, what string, of func(*results.Run) string) {
		value, from := "", ""
		for i, run := range runs {
			its := of(run)
			if its == "" {
				continue
			}
			if value != "" && its != value {
				add(into, pair{from, names[i]}.both(what, value, its))
			}
			if value == "" {
				value, from = its, names[i]
			}
		}
	}
	check(&unlike, "number of shards", func(run *results.Run) string {
		if run.Shard == nil {
			return ""
		}
		return fmt.Sprint(run.Shard.Of)
	})
	var scenarios []string
	for _, run := range runs {
		for _, s := range run.Scenarios {
			add(&scenarios, s.Name)
		}
	}
	for _, name := range scenarios {
		scenario := func(run *results.Run) *results.Scenario {
			return cmp.Or(run.Scenario(name), &results.Scenario{})
		}
		check(&unlike, "kernel of "+name, func(run *results.Run) string {
			for t := range scenario(run).ValidTrials() {
				return t.Kernel
			}
			return ""
		})
		check(&notes, countersDiffer(name), func(run *results.Run) string {
			return scenario(run).CounterMeaning()
		})
	}
	if len(unlike) > 0 {
		return nil, &UnlikeError{Reasons: unlike, Merge: true}
	}
	return notes, nil
}

// countersDiffer words that the kernels of two runs of a scenario count unlike things.
func countersDiffer(scenario string) string {
	return "drop, insert_failed and chain_toolong of " + scenario + " count other things, and " +
		"verdicts do not"
}
