package results

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/expr-lang/expr"

	"github.com/ctload/ctload/internal/spelling"
)

// Condition is an expression (expr-lang.org) over the fields of a [Moment], such as
//
//	probe.loss == 0 and probe.latency_ms < 50
//	conntrack.count > 0.9 * conntrack.max
//
// or "first drop", which is conntrack.drop > 0; likewise the other counters of conntrack, failed
// (load.failed) and loss (probe.lost).
type Condition struct {
	text      string
	threshold *Threshold
}

// momentFields are the names that conditions may use.
var momentFields = newFieldSet(reflect.TypeFor[Moment](), "the time line", "docs/language.md")

// firsts returns the conditions that "first" may name: the counters of conntrack, and the other
// losses.
func firsts() map[string]string {
	fields := map[string]string{"failed": "load.failed", "loss": "probe.lost"}
	for _, c := range ConntrackCounters {
		fields[c.Name] = "conntrack." + c.Name
	}
	return fields
}

// CompileCondition compiles a condition. An error is an [*exprError].
func CompileCondition(text string) (*Condition, error) {
	expression := text
	if word, ok := strings.CutPrefix(strings.TrimSpace(text), "first "); ok {
		fields := firsts()
		word = strings.TrimSpace(word)
		field, known := fields[word]
		if !known {
			words := slices.Sorted(maps.Keys(fields))
			return nil, &exprError{"condition", text, 1, 7, fmt.Sprintf("nothing of the time line that comes first is called %q%s", word, spelling.Hint(word, words))}
		}
		expression = field + " > 0"
	}
	compiled, err := compile(expression, "condition", momentFields)
	if err != nil {
		return nil, err
	}
	return &Condition{text, compiled}, nil
}

func (c *Condition) String() string { return c.text }

// Holds evaluates the condition. A condition that cannot be evaluated, such as a division by zero,
// does not hold.
func (c *Condition) Holds(m *Moment) bool {
	result, err := expr.Run(c.threshold.program, valuesOf(reflect.ValueOf(*m)))
	holds, _ := result.(bool) // the compiler ensures a bool
	return err == nil && holds
}

// Words returns the values of the condition's fields at a moment: "probe.loss = 1".
func (c *Condition) Words(m *Moment) string {
	env := valuesOf(reflect.ValueOf(*m))
	var words []string
	for _, name := range c.threshold.fields {
		words = append(words, name+" = "+fieldWords(env, name))
	}
	return strings.Join(words, ", ")
}
