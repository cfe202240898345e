package results

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
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
	Expression string `json:"expression"` // as the user wrote it
	Passed     bool   `json:"passed"`     // it held in every valid trial
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
// other, and equal to the name never. A cause that did not occur is 0. A threshold on what a trial
// did not measure, such as a percentile of no sample, does not hold. Entries and probes are named:
//
//	entries.users.failed == 0
//	probes["ssh-login"].loss < 0.01
type Threshold struct {
	expression string
	program    *vm.Program
	fields     []string // as named in the expression, each once
	known      *fieldSet
	variables  variables
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

// CompileThreshold compiles a condition on trials with a workload. The [*exprError] names the
// nearest field.
func CompileThreshold(expression string, w Workload) (*Threshold, error) {
	return compile(expression, "threshold", fieldsOf(w))
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
	names := &pathNames{variables: variables{}}
	ast.Walk(&tree.Node, names)
	t := &Threshold{expression: expression, known: fields, variables: names.variables}
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
	"contents", "heal", "probe.after", "probe.loss", "probe.seconds_to_recover", "probe.sent",
	"recovery", "conntrack.final",
	"conntrack.seconds_to_below_10", "conntrack.seconds_to_below_95",
	"conntrack.seconds_to_log_quiet", "conntrack.seconds_to_recover",
}

// OfRecovery reports whether the condition depends on how long a trial is watched after its load.
func (t *Threshold) OfRecovery() bool {
	return slices.ContainsFunc(t.fields, func(field string) bool {
		if root, of, _ := strings.Cut(field, "."); root == "probes" {
			_, rest := firstPart(of, t.known.workload.Probes)
			field = strings.TrimSuffix("probe."+rest, ".")
		}
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

// EvaluationError reports a threshold that compiles but cannot be evaluated on a trial, such as a
// remainder of a division by zero.
type EvaluationError struct {
	Trial int // its number
	Err   error
}

func (e *EvaluationError) Error() string { return fmt.Sprintf("trial %d: %v", e.Trial, e.Err) }

func (e *EvaluationError) Unwrap() error { return e.Err }

// Check evaluates the condition on a trial, and returns the values of its fields. Passed is false
// when the condition needs a field that this trial did not measure; actual then says why. The error
// is an [*EvaluationError], in the words of the expr language.
func (t *Threshold) Check(trial *Trial) (passed bool, actual string, err error) {
	env := fieldValues(trial)
	actual = t.words(env)
	program := t.program
	if lacking := t.lacking(env); len(lacking) > 0 {
		if program, err = t.guarded(lacking); err != nil {
			return false, actual, &EvaluationError{trial.Number, err}
		}
	}
	result, err := expr.Run(program, env)
	if missing, ok := errors.AsType[*unmeasuredError](err); ok {
		actual += ": not measured, since " + t.known.whyUnmeasured(trial, missing.field)
		return false, actual, nil
	}
	if err != nil {
		err = expressionError("threshold", t.expression, err)
		return false, actual, &EvaluationError{trial.Number, err}
	}
	passed, _ = result.(bool) // the compiler ensures a bool
	return passed, actual, nil
}

// lacking returns the figures of the condition that have no value.
func (t *Threshold) lacking(env map[string]any) (list []string) {
	for _, name := range t.fields {
		field := t.known.known[name]
		if field == nil { // under a map, where what is not there is 0
			continue
		}
		_, isStruct := isPlainStruct(field)
		if v, found := lookup(env, name); !isStruct && (!found || v == nil) {
			list = append(list, name)
		}
	}
	return list
}

// guarded compiles the condition so that reading one of the figures fails, whatever would be done
// with it: nil != 3 holds in the expr language.
func (t *Threshold) guarded(figures []string) (*vm.Program, error) {
	return expr.Compile(t.expression, expr.Env(t.known.types), expr.AsBool(),
		expr.Patch(&guard{figures, t.variables}),
		expr.Function(unmeasured, func(args ...any) (any, error) {
			field, _ := args[0].(string)
			return nil, &unmeasuredError{field}
		}))
}

// unmeasured is the function that [guard] puts into a condition.
const unmeasured = "ctload_unmeasured"

type unmeasuredError struct{ field string }

func (e *unmeasuredError) Error() string { return e.field + " was not measured" }

// guard replaces each reading of some figures by a call of [unmeasured]. A figure after ?. stays:
// its author expects that it is nil.
type guard struct {
	figures []string
	variables
}

// Visit implements [ast.Visitor].
func (g *guard) Visit(node *ast.Node) {
	if path, ok := fieldPath(*node); ok && !optional(*node) {
		if path = g.resolve(path); slices.Contains(g.figures, path) {
			ast.Patch(node, &ast.CallNode{
				Callee:    &ast.IdentifierNode{Value: unmeasured},
				Arguments: []ast.Node{&ast.StringNode{Value: path}},
			})
		}
	}
}

// optional reports whether a chain of fields has a ?. in it.
func optional(node ast.Node) bool {
	m, ok := node.(*ast.MemberNode)
	return ok && (m.Optional || optional(m.Node))
}

// whyUnmeasured says why the trial lacks a figure.
func (f *fieldSet) whyUnmeasured(t *Trial, path string) string {
	env := fieldValues(t)
	lacking := "" // the outermost part that it lacks
	for outer := outerPart(path); outer != ""; outer = outerPart(outer) {
		if v, found := lookup(env, outer); f.known[outer] != nil && (!found || v == nil) {
			lacking = outer
		}
	}
	if _, why := Summed(t.Entries); lacking == "load" && len(t.Entries) > 0 {
		return "the load has no sum: " + why
	}
	if lacking != "" {
		return "the trial has no " + f.written(lacking)
	}
	at := slices.IndexFunc(f.places, func(p place) bool { return p.path == path })
	if p := f.places[at]; p.around != nil {
		if s := p.around(reflect.ValueOf(t).Elem()); s.IsValid() {
			if why := unmeasuredIn(s, path); why != "" {
				return why
			}
		}
	}
	return "the kernel's log was not read: " + t.Conntrack.LogMissing
}

// outerPart returns a path without its last part.
func outerPart(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

// words returns the values of the condition's fields: "probe.loss = 1".
func (t *Threshold) words(env map[string]any) string {
	var words []string
	for _, name := range t.fields {
		words = append(words, t.known.written(name)+" = "+fieldWords(env, name))
	}
	return strings.Join(words, ", ")
}

// CheckThresholds judges the thresholds of a scenario on its valid trials. The error holds an
// [*EvaluationError] for each threshold that cannot be evaluated; it does not hold.
func CheckThresholds(thresholds []*Threshold, s *Scenario) ([]Outcome, error) {
	outcomes := make([]Outcome, 0, len(thresholds))
	var errs []error
	for _, th := range thresholds {
		o := Outcome{Expression: th.expression, Actual: "there is no valid trial"}
		for t := range s.ValidTrials() {
			passed, actual, err := th.Check(t)
			o.Passed, o.Actual = passed, fmt.Sprintf("trial %d: %s", t.Number, actual)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s, %w", s.Name, err))
				o.Actual += ": it could not be evaluated"
			}
			if !passed {
				break
			}
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, errors.Join(errs...)
}

// variables are the names of an expression's variables, with what they stand for where that is a
// field: let x = load; x.failed < 3.
type variables map[string]string

func (v variables) add(let *ast.VariableDeclaratorNode) {
	path, _ := fieldPath(let.Value)
	if v.has(let.Name) { // two of one name
		path = ""
	}
	v[let.Name] = path
}

func (v variables) has(name string) bool {
	_, ok := v[name]
	return ok
}

// resolve returns a path with its variables replaced by the fields that they stand for.
func (v variables) resolve(path string) string {
	for range len(v) {
		root, rest, more := strings.Cut(path, ".")
		field := v[root]
		if field == "" {
			break
		}
		if path = field; more {
			path += "." + rest
		}
	}
	return path
}

// pathNames collects the paths and the variables of an expression.
type pathNames struct {
	variables variables
	paths     []string
	at        []file.Location
}

// Visit implements [ast.Visitor]. Children come before their parents.
func (p *pathNames) Visit(node *ast.Node) {
	at := (*node).Location()
	switch n := (*node).(type) {
	case *ast.VariableDeclaratorNode:
		p.variables.add(n)
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
		path = names.variables.resolve(path)
		root, _, _ := strings.Cut(path, ".")
		_, known := f.known[path]
		switch {
		case names.variables.has(root):
		case !known && !f.underMap(path):
			return nil, &file.Error{Location: names.at[i], Message: f.unknown(path)}
		case f.missing(path) != "":
			return nil, &file.Error{Location: names.at[i], Message: f.missing(path)}
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

// unknown words that there is no field of that path.
func (f *fieldSet) unknown(path string) string {
	root, rest, _ := strings.Cut(path, ".")
	names := f.workload.named(root)
	one := map[string]string{"entries": "entry", "probes": "probe"}[root]
	if f.known[root] == nil || one == "" || slices.ContainsFunc(names, func(name string) bool {
		return within(rest, name)
	}) {
		return fmt.Sprintf("%s has no field %q%s", f.owner, f.written(path), f.hint(path))
	}
	if len(names) == 0 {
		return fmt.Sprintf("the workload has no %s", one)
	}
	name, _, _ := strings.Cut(rest, ".")
	text := fmt.Sprintf("the workload has no %s %q%s", one, name, spelling.Hint(name, names))
	for _, known := range names {
		if strings.HasPrefix(known, name) && !isName.MatchString(known) {
			return text + fmt.Sprintf("; %s is written %s", known, f.written(root+"."+known))
		}
	}
	return text
}

// isName matches a name that stands after a dot.
var isName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// written returns a path as expressions write it.
func (f *fieldSet) written(path string) string {
	root, rest, _ := strings.Cut(path, ".")
	for _, name := range f.workload.named(root) {
		if within(rest, name) && !isName.MatchString(name) {
			return fmt.Sprintf("%s[%q]%s", root, name, rest[len(name):])
		}
	}
	return path
}

// missing returns why no trial of the workload has a field; "" where some may have it.
func (f *fieldSet) missing(path string) string {
	root, field, inside := strings.Cut(path, ".")
	switch {
	case root == "load" && len(f.workload.Entries) > 0:
		names, why := Summed(f.workload.Entries)
		if why != "" {
			return fmt.Sprintf("the load has no sum: %s; name one, as %s",
				why, f.written("entries."+EntryNames(f.workload.Entries)[0]+".failed"))
		}
		why = f.workload.Entries[names[0]].Attempts.unmeasured(field)
		return around(path+": ", why, "")
	case root == "entries" && inside:
		name, field := firstPart(field, f.workload.Entries)
		why := f.workload.Entries[name].Attempts.unmeasured(field)
		return around(f.written(path)+": ", why, "")
	}
	return ""
}

// hint ends a message about an unknown field: with the field whose whole path or whose last part is
// near, so that "drop" finds conntrack.drop, or with the page that lists all of them.
func (f *fieldSet) hint(path string) string {
	near, last := spelling.Nearest(path, f.sorted), lastPart(path)
	at := slices.IndexFunc(f.sorted, func(known string) bool { return lastPart(known) == last })
	if at >= 0 && (near == "" || path == last) {
		near = f.sorted[at]
	}
	return cmp.Or(spelling.Meant(f.written(near)), "; "+f.page+" lists them")
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
	w := WorkloadOf(run)
	for _, text := range texts {
		scenario, expression, err := ParseThreshold(text, names)
		if err != nil {
			return err
		}
		threshold, err := CompileThreshold(expression, w)
		if err != nil {
			return err
		}
		for i := range run.Scenarios {
			s := &run.Scenarios[i]
			if scenario == allScenarios || scenario == s.Name || scenario == baseName(s.Name) {
				outcomes, err := CheckThresholds([]*Threshold{threshold}, s)
				if err != nil {
					return err
				}
				s.Thresholds = append(s.Thresholds, outcomes...)
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

// RegressionMark marks a figure that became worse than a baseline allows, in every report.
const RegressionMark = "REGRESSION"

// Failure words a threshold of a scenario that did not hold.
func (o Outcome) Failure(scenario string) string {
	return fmt.Sprintf("FAILED %s: %s (%s)", scenario, o.Expression, o.Actual)
}

// Failures returns a line for each threshold of a run that did not hold, then for each regression.
func Failures(run *Run) []string {
	var list []string
	for _, s := range run.Scenarios {
		for _, o := range s.Thresholds {
			if !o.Passed {
				list = append(list, o.Failure(s.Name))
			}
		}
	}
	for _, r := range run.Regressions {
		list = append(list, r.Failure())
	}
	return list
}

// Unmeasured returns a line for each part of a run without a valid measurement: that it is a part
// of a run or empty, scenarios without any trial, and what [InvalidTrials] returns.
func Unmeasured(run *Run) []string {
	var list []string
	if err := run.Part(""); err != nil {
		list = append(list, err.Error())
	}
	for _, s := range run.Scenarios {
		if len(s.Trials) == 0 && run.Shard == nil {
			list = append(list, "no trial of "+s.Name)
		}
	}
	return append(list, InvalidTrials(run)...)
}

// InvalidTrials returns a line for each INVALID trial that none repeated, with reasons and cures.
func InvalidTrials(run *Run) []string {
	var list []string
	for _, s := range run.Scenarios {
		for _, t := range s.Trials {
			if t.Verdict != Invalid || t.RepeatedAs > 0 {
				continue
			}
			text := fmt.Sprintf("trial %d of %s", t.Number, s.Name)
			if len(t.Invalid) > 0 {
				text += ": " + t.WhyInvalid()
			}
			list = append(list, text)
		}
	}
	return list
}
