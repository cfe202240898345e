package scenarios

import (
	"slices"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// Select keeps the named scenarios, in the order of the file. A name is a scenario's own, or its
// base name, which means every variant of it. An unknown name is an [*InvalidError], and then
// nothing changes.
func (e *Experiment) Select(names []string) error {
	var kept []Resolved
	known := namesOf(e.resolved)
	for _, name := range names {
		if !slices.Contains(known, name) {
			return invalidf(nil, "%s has no scenario %s%s", e.Name, quote(name), spelling.Hint(name, known))
		}
	}
	for _, r := range e.resolved {
		if slices.Contains(names, r.Name) || slices.Contains(names, r.Base) {
			kept = append(kept, r)
		}
	}
	if len(kept) == 0 {
		return invalidf(nil, "no scenario is selected; %s has %s", e.Name, strings.Join(known, ", "))
	}
	e.resolved = kept
	e.Thresholds = slices.DeleteFunc(slices.Clone(e.Thresholds), func(t Threshold) bool {
		return !slices.ContainsFunc(kept, t.AppliesTo)
	})
	return nil
}

// namesOf returns the names that scenarios can be selected by: own names, and base names before their
// first variant.
func namesOf(scenarios []Resolved) []string {
	var names []string
	for _, r := range scenarios {
		for _, name := range []string{r.Base, r.Name} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// SetKernels runs every scenario on the given kernels, whatever the file says: with more than one,
// each scenario becomes one for each kernel. Call it before [Experiment.Select]. A word that names
// no kernel is an [*InvalidError], and then nothing changes.
func (e *Experiment) SetKernels(kernels []string) error {
	if len(kernels) == 0 {
		return invalidf(nil, "no kernel is given")
	}
	at := Position{File: "--kernel"}
	values := &node{kind: list, at: at} // of one value: no axis of a matrix
	for _, kernel := range kernels {
		values.items = append(values.items, &node{kind: scalar, at: at, text: kernel})
	}
	root := e.root
	dut := root.get("dut")
	if dut == nil || dut.kind != mapping {
		dut = &node{kind: mapping, at: root.at}
	}
	root = root.with("dut", dut.at, dut.without("kernel-modules").with("kernel", at, values))
	root = root.change("scenarios", func(scenarios *node) *node {
		return scenarios.each(func(s *node) *node { return s.without("kernel", "kernel-modules") })
	})
	p := newProblems()
	p.sources, p.inherited = e.problems.sources, e.problems.inherited
	other := *e
	other.root, other.problems = root, p
	other.resolve()
	if err := p.err(); err != nil {
		return err
	}
	other.Thresholds = readThresholds(p, root.get("thresholds"), other.resolved)
	*e = other
	return nil
}

// EntryPosition returns the position of an entry of the workload in the file, or otherwise for an
// entry that only a scenario has.
func (e *Experiment) EntryPosition(name string, otherwise Position) Position {
	workload := e.root.get("workload")
	if workload == nil || workload.kind != list {
		return otherwise
	}
	if i := slices.Index(entryNames(workload), name); i >= 0 {
		return workload.items[i].at
	}
	return otherwise
}

// Invalid returns an error about a place in the experiment's file, for what only the program that
// runs it can check, such as a threshold that does not compile.
func (e *Experiment) Invalid(at Position, message string) *InvalidError {
	at, message = e.problems.own(at, message)
	return &InvalidError{Problems: []Problem{{Position: at, Message: message, Excerpt: excerpt(e.problems.sources[at.File], at)}}}
}
