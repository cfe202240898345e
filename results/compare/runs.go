// Package compare compares runs, or the scenarios of a run, and tells which figures differ.
package compare

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ctload/ctload/results"
)

// Comparison compares samples of the same figures: the scenarios of several runs, or the scenarios
// of one run. The first side is the base that the others are tested against.
type Comparison struct {
	Sides  []string // names of the compared runs or scenarios
	Groups []Group
	Notes  []string // allowed differences, and too few trials
	TooFew bool     // for any difference to be significant
}

// Group is one part of a comparison: one scenario in several runs, or all the scenarios of one run.
type Group struct {
	Name     string // of the scenario, or empty
	Verdicts []string
	// Worse says of each side whether its verdict is a regression from the base's.
	Worse []bool
	Rows  []Row
}

// Row is one figure on all sides.
type Row struct {
	Metric Metric
	Cells  []Cell // one for each side
}

// Cell is a figure on one side, and its difference from the base.
type Cell struct {
	Stat
	Test
	// Adjusted is P after Holm's correction over all cells of the comparison that can be
	// significant, and 1 in the others.
	Adjusted    float64
	Significant bool
	// Worse says that the figure is a regression from the base, as [Baseline.Judge] finds them.
	Worse bool
	// Change is the change of the median as a share of the base's.
	Change       float64
	base, values []float64
}

// Effect returns by how much the side differs from the base; nil in the base's own cells, and where
// [effectOf] knows no effect.
func (c Cell) Effect() *Effect { return effectOf(c.base, c.values) }

// Delta formats the difference of a side from the base: "=" when all values are equal, REGRESSION
// when it is one, "~" when it is neither that nor significant, then the effect: "1.42 x, 1.31 to
// 1.55", or "+97, +80 to +110" where values are 0. Of a time that no longer comes it is "never", of
// one that never came in the base "now".
func (r Row) Delta(side int) string {
	c := r.Cells[side]
	effect := ""
	if e := c.Effect(); e != nil && (c.Significant || c.Worse || e.Confidence > 0) {
		effect = e.words(r.Metric)
	}
	switch {
	case c.N == 0:
		return "–"
	case c.Constant:
		return "="
	case c.Worse:
		return strings.TrimSpace(results.RegressionMark + " " + effect)
	case !c.Significant:
		return strings.TrimSpace("~ " + effect)
	case effect != "":
		return effect
	case math.IsInf(c.Median, 1):
		return results.Never
	case math.IsInf(r.Cells[0].Median, 1):
		return "now"
	case c.Median < r.Cells[0].Median: // times that do not come in every trial
		return "sooner"
	default:
		return "later"
	}
}

// UnlikeError reports runs that cannot be compared, with everything in which they differ.
type UnlikeError struct {
	Reasons []string
	// LabsAlone says that they differ only in where they ran, which [AcrossLabs] allows.
	LabsAlone bool
	Merge     bool // they should be parts of one run
}

func (e *UnlikeError) Error() string {
	what := "compared"
	if e.Merge {
		what = "merged"
	}
	text := "the runs cannot be " + what + ": " + strings.Join(e.Reasons, "; ")
	if e.LabsAlone {
		text += "; --across-labs sets their verdicts and counts side by side"
	}
	return text
}

// Runs compares the scenarios that all runs have, each run with the first. names name the runs.
// Runs of different experiments, workloads, actions, drivers, accelerators, hosts or guests are
// unlike: the error is an [*UnlikeError]. The kernel, the version of ctload and the settings of a
// scenario may differ, since comparisons are made for them; the notes name them.
// A part of a run is never compared: the error is a [*results.PartError].
func Runs(names []string, runs []*results.Run) (*Comparison, error) {
	if err := whole(names, runs); err != nil {
		return nil, err
	}
	c, err := align(names, runs, false)
	if unlike, ok := errors.AsType[*UnlikeError](err); ok {
		_, err := align(names, runs, true)
		unlike.LabsAlone = err == nil
	}
	if err != nil {
		return nil, err
	}
	c.settle()
	return c, nil
}

// Mark marks the regressions of the other runs from the first, the compared ones in their order.
// allowed is the share by which a figure may be worse without being one.
func (c *Comparison) Mark(runs []*results.Run, allowed float64) {
	for i, run := range runs[1:] {
		if r, err := findRegressions(runs[0], run, allowed); err == nil { // else nothing to judge
			c.mark(i+1, r.Found)
		}
	}
}

func (c *Comparison) mark(side int, found []results.Regression) {
	for _, r := range found {
		at := slices.IndexFunc(c.Groups, func(g Group) bool { return g.Name == r.Scenario })
		if at < 0 { // a third run lacks the scenario
			continue
		}
		g := &c.Groups[at]
		if r.Metric == verdictMetric {
			g.Worse[side] = true
		}
		for i := range g.Rows {
			if g.Rows[i].Metric.Name == r.Metric {
				g.Rows[i].Cells[side].Worse = true
			}
		}
	}
}

// AcrossLabs compares as [Runs] does, but allows other drivers, accelerators, hosts, and CPUs and
// memory of the DUT; the notes name them. Counts can then be compared, times and rates cannot.
func AcrossLabs(names []string, runs []*results.Run) (*Comparison, error) {
	if err := whole(names, runs); err != nil {
		return nil, err
	}
	c, err := align(names, runs, true)
	if err != nil {
		return nil, err
	}
	c.note("across labs: verdicts and counts can be compared; times and rates are those of " +
		"different machines")
	c.settle()
	return c, nil
}

// whole refuses too few runs, and unfinished and empty ones.
func whole(names []string, runs []*results.Run) error {
	if len(runs) < 2 || len(names) != len(runs) {
		return errors.New("comparing runs: at least two are needed, each with a name")
	}
	var errs []error
	for i, run := range runs {
		errs = append(errs, run.Part(names[i]))
	}
	return errors.Join(errs...)
}

func (c *Comparison) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

// align pairs the scenarios that all runs have; acrossLabs allows runs from different labs.
func align(names []string, runs []*results.Run, acrossLabs bool) (*Comparison, error) {
	c := &Comparison{Sides: names}
	var unlike []string
	for i, run := range runs[1:] {
		reasons, notes := pair{names[0], names[i+1]}.differences(runs[0], run, acrossLabs)
		unlike = append(unlike, reasons...)
		c.Notes = append(c.Notes, notes...)
	}
	for _, s := range runs[0].Scenarios {
		sides := make([]*results.Scenario, len(runs))
		for i, run := range runs {
			sides[i] = run.Scenario(s.Name)
		}
		if missing := slices.Index(sides, nil); missing >= 0 {
			c.note("scenario %s is not in %s and left out", s.Name, names[missing])
			continue
		}
		c.Groups = append(c.Groups, group(s.Name, sides))
	}
	for i, run := range runs[1:] {
		for _, s := range run.Scenarios {
			if runs[0].Scenario(s.Name) == nil {
				c.note("scenario %s of %s is not in %s and left out", s.Name, names[i+1], names[0])
			}
		}
	}
	if len(c.Groups) == 0 {
		unlike = append(unlike, "they have no scenario in common")
	}
	if len(unlike) > 0 {
		return nil, &UnlikeError{Reasons: unlike}
	}
	return c, nil
}

// Scenarios compares the scenarios of a run with its first.
func Scenarios(run *results.Run) (*Comparison, error) {
	if len(run.Scenarios) < 2 {
		return nil, errors.New("comparing scenarios: the run has only one")
	}
	c := &Comparison{}
	sides := make([]*results.Scenario, len(run.Scenarios))
	for i := range run.Scenarios {
		sides[i] = &run.Scenarios[i]
		c.Sides = append(c.Sides, sides[i].Name)
	}
	c.Groups = []Group{group("", sides)}
	c.settle()
	return c, nil
}

// group describes and tests the metrics that any side has.
func group(name string, sides []*results.Scenario) Group {
	g := Group{Name: name, Worse: make([]bool, len(sides))}
	for _, s := range sides {
		g.Verdicts = append(g.Verdicts, verdictWords(s))
	}
	for _, m := range metricsOf(sides) {
		row := Row{Metric: m}
		base := m.Values(sides[0])
		found := false
		for i, s := range sides {
			values := m.Values(s)
			found = found || len(values) > 0
			cell := Cell{Stat: Stat{len(values), Median(values), Spread(values)}}
			cell.Test = Test{P: 1, Least: 1, Constant: i == 0}
			if i > 0 {
				cell.Test = mannWhitney(base, values)
				cell.Change = relative(row.Cells[0].Median, cell.Median)
				cell.base, cell.values = base, values
			}
			row.Cells = append(row.Cells, cell)
		}
		if found {
			g.Rows = append(g.Rows, row)
		}
	}
	return g
}

// verdictWords returns the verdicts of the valid trials, each once, the worst first.
func verdictWords(s *results.Scenario) string {
	trials := slices.SortedStableFunc(s.ValidTrials(), func(a, b *results.Trial) int {
		return b.Verdict.Compare(a.Verdict)
	})
	var list []string
	for _, t := range trials {
		list = append(list, string(t.Verdict))
	}
	return cmp.Or(strings.Join(slices.Compact(list), ", "), "no valid trial")
}

// settle corrects the p-values for multiple tests and notes where trials are too few. Cells whose
// values are all equal are no tests, since each test is conditioned on the pooled values.
func (c *Comparison) settle() {
	var cells []*Cell
	for g := range c.Groups {
		for r := range c.Groups[g].Rows {
			row := c.Groups[g].Rows[r].Cells
			for i := range row {
				row[i].Adjusted = 1
				if i > 0 && !row[i].Constant && row[i].N > 0 && row[0].N > 0 {
					cells = append(cells, &row[i])
				}
			}
		}
	}
	tests := reachable(cells)
	c.TooFew = len(cells) > 0 && len(tests) == 0
	p := make([]float64, len(tests))
	for i, cell := range tests {
		p[i] = cell.P
	}
	for i, adjusted := range holm(p) {
		tests[i].Adjusted = adjusted
		tests[i].Significant = adjusted < Alpha
	}
	if len(tests) < len(cells) {
		c.note("too few trials: with %d cells that differ, a difference can only be significant "+
			"from %d trials on each side, so ~ says nothing there",
			len(cells), enoughTrials(len(cells)))
	}
}

// reachable returns the cells that can be significant after the correction: as many, at most, as
// the correction by their number leaves within the reach of their lowest p-values. The others are
// no tests that could fail, and cost the tests nothing (Tarone 1990).
func reachable(cells []*Cell) []*Cell {
	for k := 1; ; k++ {
		var list []*Cell
		for _, cell := range cells {
			if cell.Least*float64(k) < Alpha {
				list = append(list, cell)
			}
		}
		if len(list) <= k {
			return list
		}
	}
}

// pair names two runs.
type pair struct{ a, b string }

// differences returns what makes two runs unlike, and the differences that a reader must know.
func (p pair) differences(a, b *results.Run, acrossLabs bool) (unlike, notes []string) {
	into := func(list *[]string) func(what, x, y string) {
		return func(what, x, y string) {
			if x != y {
				*list = append(*list, p.both(what, x, y))
			}
		}
	}
	check, note := into(&unlike), into(&notes)
	lab := check
	if acrossLabs {
		lab = note
	}
	check("experiment", a.Experiment, b.Experiment)
	unlike = append(unlike, a.Workload.Differences(b.Workload, "workload", "entry", p.both)...)
	ea, eb := a.Environment, b.Environment
	lab("driver", ea.Driver, eb.Driver)
	lab("accelerator", ea.Accelerator, eb.Accelerator)
	lab("host CPU", ea.HostCPU, eb.HostCPU)
	lab("host CPUs", fmt.Sprint(ea.HostCPUs), fmt.Sprint(eb.HostCPUs))
	note("box differs", ea.Boxed(), eb.Boxed())
	note("kernel differs", ea.Kernel, eb.Kernel)
	note("ctload differs", a.Ctload, b.Ctload)
	note("QEMU differs", ea.QEMU, eb.QEMU)
	for i := range a.Scenarios {
		x := &a.Scenarios[i]
		y := b.Scenario(x.Name)
		if y == nil {
			continue
		}
		cx, cy := x.Configuration, y.Configuration
		lab("vcpus of "+x.Name, fmt.Sprint(cx.VCPUs), fmt.Sprint(cy.VCPUs))
		lab("memory of "+x.Name, results.Bytes(cx.MemoryBytes), results.Bytes(cy.MemoryBytes))
		note("sysctls of "+x.Name+" differ", settingWords(cx.Sysctl), settingWords(cy.Sysctl))
		note("buckets of "+x.Name+" differ", fmt.Sprint(cx.Buckets), fmt.Sprint(cy.Buckets))
		if rx, ry := cx.RulesText(), cy.RulesText(); rx != ry {
			notes = append(notes, "rules of "+x.Name+" differ: "+firstDifference(rx, ry))
		}
		if mx, my := x.CounterMeaning(), y.CounterMeaning(); mx != "" && my != "" {
			note(countersDiffer(x.Name), mx, my)
		}
		of := "actions of " + x.Name
		unlike = append(unlike, x.Actions.Differences(y.Actions, of, "number", p.both)...)
		if gx, gy := loadWords(x), loadWords(y); gx != "" && gy != "" {
			check("load of "+x.Name, gx, gy)
		}
	}
	return unlike, notes
}

// both words what the two runs have.
func (p pair) both(what, a, b string) string {
	return fmt.Sprintf("%s: %s in %s, %s in %s",
		what, cmp.Or(a, "none"), p.a, cmp.Or(b, "none"), p.b)
}

func settingWords(m map[string]string) string {
	var words []string
	for name, value := range m {
		words = append(words, name+"="+value)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// loadWords words the load of the valid trials of a scenario; empty when there is none.
func loadWords(s *results.Scenario) string {
	for t := range s.ValidTrials() {
		if t.Load != nil {
			return strings.TrimSpace(t.Load.Generator + " " + t.Load.Unit)
		}
	}
	return ""
}

// firstDifference returns the first line in which two texts differ.
func firstDifference(before, after string) string {
	b, a := strings.Split(before, "\n"), strings.Split(after, "\n")
	for i := range max(len(b), len(a)) {
		switch {
		case i >= len(b):
			return fmt.Sprintf("%q is new", a[i])
		case i >= len(a):
			return fmt.Sprintf("%q is gone", b[i])
		case a[i] != b[i]:
			return fmt.Sprintf("%q became %q", b[i], a[i])
		}
	}
	return "nothing"
}
