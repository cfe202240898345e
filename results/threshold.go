package results

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/ctload/ctload/internal/spelling"
)

// Outcome is the result of a threshold in a scenario: it passes when the threshold held in every
// valid trial. A scenario without a valid trial passes nothing.
type Outcome struct {
	Expression string `json:"expression"`
	Passed     bool   `json:"passed"`
	// Actual is the values of the expression's fields, in the first trial that failed it or else in
	// the last one: "trial 2: conntrack.drop = 312".
	Actual string `json:"actual"`
}

// Threshold is a condition on a trial, in the expr language (expr-lang.org) over the fields of a
// trial as run.json names them:
//
//	conntrack.drop == 0
//	load.failed <= 0.01 * load.offered
//	load.latency_ms.p99 < 250 and probe.lost == 0
//	verdict in ["clean", "evicting"]
//
// A time that did not come (seconds_to_full of a table that was never full) is later than any
// other, and equal to the name never. A cause that did not occur is 0.
type Threshold struct {
	expression string
	program    *vm.Program
	fields     []string // as named in the expression, each once
}

// exprError is an expression that does not compile, and the place of the fault.
type exprError struct {
	What         string // threshold, condition
	Expression   string
	Line, Column int // from 1, in characters
	Message      string
}

func (e *exprError) Error() string {
	return fmt.Sprintf("%s %q, line %d, column %d: %s",
		e.What, e.Expression, e.Line, e.Column, e.Message)
}

// CompileThreshold compiles a condition. The [*exprError] names the nearest field.
func CompileThreshold(expression string) (*Threshold, error) {
	return compile(expression, "threshold", trialFields)
}

// compile compiles a condition over some fields; what names its kind in errors.
func compile(expression, what string, fields *fieldSet) (*Threshold, error) {
	if strings.TrimSpace(expression) == "" {
		return nil, &exprError{what, expression, 1, 1, "it is empty"}
	}
	tree, err := parser.Parse(expression)
	if err != nil {
		return nil, expressionError(what, expression, err)
	}
	names := &pathNames{variables: map[string]bool{}}
	ast.Walk(&tree.Node, names)
	t := &Threshold{expression: expression}
	if t.fields, err = fields.named(names); err == nil {
		t.program, err = expr.Compile(expression, expr.Env(fields.types), expr.AsBool())
	}
	if err != nil {
		return nil, expressionError(what, expression, err)
	}
	return t, nil
}

func (t *Threshold) String() string { return t.expression }

// ofRecovery are the fields that depend on how long a trial is watched after its load.
var ofRecovery = []string{
	"contents", "heal", "probe.after", "probe.sent", "recovery", "conntrack.final",
	"conntrack.seconds_to_below_10", "conntrack.seconds_to_below_95",
	"conntrack.seconds_to_log_quiet", "conntrack.seconds_to_recover",
}

// OfRecovery reports whether the condition depends on how long a trial is watched after its load.
func (t *Threshold) OfRecovery() bool {
	return slices.ContainsFunc(t.fields, func(field string) bool {
		return slices.ContainsFunc(ofRecovery, func(f string) bool {
			return within(field, f) || within(f, field)
		})
	})
}

// within reports whether a field is another one or inside of it.
func within(field, outer string) bool {
	return field == outer || strings.HasPrefix(field, outer+".")
}

// expressionError extracts the position from an error of the expr language.
func expressionError(what, expression string, err error) error {
	if at, ok := errors.AsType[*file.Error](err); ok {
		at = at.Bind(file.NewSource(expression))
		return &exprError{what, expression, at.Line, at.Column + 1, at.Message}
	}
	return &exprError{what, expression, 1, 1, err.Error()}
}

// Check evaluates the condition on a trial, and returns the values of its fields. Passed is false
// when this trial lacks a field, such as those of a probe in a trial without one.
func (t *Threshold) Check(trial *Trial) (passed bool, actual string) {
	env := fieldValues(trial)
	actual = t.words(env)
	result, err := expr.Run(t.program, env)
	if err != nil {
		return false, actual + ": cannot be evaluated"
	}
	passed, _ = result.(bool) // the compiler ensures a bool
	return passed, actual
}

// words returns the values of the condition's fields: "probe.loss = 1".
func (t *Threshold) words(env map[string]any) string {
	var words []string
	for _, name := range t.fields {
		words = append(words, name+" = "+fieldWords(env, name))
	}
	return strings.Join(words, ", ")
}

// CheckThresholds judges the thresholds of a scenario on its valid trials.
func CheckThresholds(thresholds []*Threshold, s *Scenario) []Outcome {
	outcomes := make([]Outcome, 0, len(thresholds))
	for _, th := range thresholds {
		o := Outcome{Expression: th.expression, Actual: "there is no valid trial"}
		for t := range s.ValidTrials() {
			passed, actual := th.Check(t)
			o.Passed, o.Actual = passed, fmt.Sprintf("trial %d: %s", t.Number, actual)
			if !passed {
				break
			}
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

// pathNames collects the paths and the variables (let x = load.failed; x < 3) of an expression.
type pathNames struct {
	variables map[string]bool
	paths     []string
	at        []file.Location
}

// Visit implements [ast.Visitor]. Children come before their parents.
func (p *pathNames) Visit(node *ast.Node) {
	at := (*node).Location()
	switch n := (*node).(type) {
	case *ast.VariableDeclaratorNode:
		p.variables[n.Name] = true
	case *ast.MemberNode:
		at = n.Property.Location()
	}
	if path, ok := fieldPath(*node); ok {
		p.paths, p.at = append(p.paths, path), append(p.at, at)
	}
}

// named returns the innermost fields that an expression names. An unknown one is a [*file.Error].
func (f *fieldSet) named(names *pathNames) ([]string, error) {
	var fields []string
	for i, path := range names.paths {
		root, _, _ := strings.Cut(path, ".")
		_, known := f.known[path]
		switch {
		case names.variables[root]:
		case !known && !f.underMap(path):
			words := fmt.Sprintf("%s has no field %q%s", f.owner, path, f.hint(path))
			return nil, &file.Error{Location: names.at[i], Message: words}
		case path != Never && !slices.Contains(fields, path):
			fields = append(fields, path)
		}
	}
	return slices.DeleteFunc(slices.Clone(fields), func(name string) bool {
		return slices.ContainsFunc(fields, func(other string) bool {
			return other != name && within(other, name)
		})
	}), nil
}

// fieldPath returns the dotted path of a chain of fields from an identifier.
func fieldPath(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.IdentifierNode:
		return n.Value, true
	case *ast.MemberNode:
		parent, ok := fieldPath(n.Node)
		property, isName := n.Property.(*ast.StringNode)
		if !ok || !isName {
			return "", false
		}
		return parent + "." + property.Value, true
	default:
		return "", false
	}
}

// hint ends a message about an unknown field: with the field whose whole path or whose last part is
// near, so that "drop" finds conntrack.drop, or with the page that lists all of them.
func (f *fieldSet) hint(path string) string {
	near, last := spelling.Nearest(path, f.sorted), lastPart(path)
	at := slices.IndexFunc(f.sorted, func(known string) bool { return lastPart(known) == last })
	if at >= 0 && (near == "" || path == last) {
		near = f.sorted[at]
	}
	return cmp.Or(spelling.Meant(near), "; "+f.page+" lists them")
}

// allScenarios is the scenario name of a threshold for all scenarios.
const allScenarios = "all"

// ParseThreshold splits a threshold from a command line: EXPRESSION for all scenarios,
// SCENARIO=EXPRESSION for one of names. It does not compile the expression.
func ParseThreshold(text string, names []string) (scenario, expression string, err error) {
	scenario, expression = allScenarios, text
	for _, name := range append([]string{allScenarios}, names...) {
		// The name of one scenario may begin that of another.
		rest, ok := strings.CutPrefix(text, name+"=")
		longer := scenario == allScenarios || len(name) > len(scenario)
		if ok && longer && !strings.HasPrefix(rest, "=") {
			scenario, expression = name, rest
		}
	}
	if name := named.FindStringSubmatch(expression); name != nil {
		hint := spelling.Hint(name[1], append([]string{allScenarios}, names...))
		return "", "", fmt.Errorf("%q: a comparison is written ==, "+
			"and there is no scenario %q here%s", text, name[1], hint)
	}
	return scenario, expression, nil
}

// named matches an expression after a name and an equals sign, which no expression begins with.
var named = regexp.MustCompile(`^\s*([A-Za-z0-9_][A-Za-z0-9_.@/-]*)\s*=[^=]`)

// AddThresholds judges a measured run by further thresholds, given as on a command line, beside
// those that it was judged by. The name of a scenario may omit what a matrix added to it.
func AddThresholds(run *Run, texts []string) error {
	var names []string
	for _, s := range run.Scenarios {
		names = append(names, baseName(s.Name), s.Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, text := range texts {
		scenario, expression, err := ParseThreshold(text, names)
		if err != nil {
			return err
		}
		threshold, err := CompileThreshold(expression)
		if err != nil {
			return err
		}
		for i := range run.Scenarios {
			s := &run.Scenarios[i]
			if scenario == allScenarios || scenario == s.Name || scenario == baseName(s.Name) {
				s.Thresholds = append(s.Thresholds, CheckThresholds([]*Threshold{threshold}, s)...)
			}
		}
	}
	return nil
}

// baseName returns the name of a scenario without what a matrix or a choice of kernels added to it.
func baseName(name string) string {
	base, _, _ := strings.Cut(name, "@")
	return base
}

// Failures returns a line for each threshold of a run that did not hold, then for each regression.
func Failures(run *Run) []string {
	var list []string
	for _, s := range run.Scenarios {
		for _, o := range s.Thresholds {
			if !o.Passed {
				text := fmt.Sprintf("FAILED %s: %s (%s)", s.Name, o.Expression, o.Actual)
				list = append(list, text)
			}
		}
	}
	for _, r := range run.Regressions {
		list = append(list, "REGRESSION "+r.String())
	}
	return list
}

// Unmeasured returns a line for each part of a run without a valid measurement: its INVALID trials
// with the first reason, and scenarios without any trial.
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
