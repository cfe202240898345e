package results

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/expr-lang/expr"
)

// Condition is an expression (expr-lang.org) over the fields of a [Moment], as
//
//	probe.loss == 0 and probe.latency_ms < 50
//	conntrack.count > 0.9 * conntrack.max
//
// or "first drop", which is conntrack.drop > 0; likewise early_drop, insert_failed, chain_toolong, failed
// (load.failed) and loss (probe.lost).
type Condition struct {
	text      string
	threshold *Threshold
}

// momentFields are the names that conditions know.
var momentFields = newFieldSet(reflect.TypeFor[Moment](), "the time line", "docs/language.md")

// firsts are what can come first.
var firsts = map[string]string{
	"drop": "conntrack.drop", "early_drop": "conntrack.early_drop", "insert_failed": "conntrack.insert_failed",
	"chain_toolong": "conntrack.chain_toolong", "failed": "load.failed", "loss": "probe.lost",
}

// CompileCondition compiles a condition. An error is an [*exprError].
func CompileCondition(text string) (*Condition, error) {
	expression := text
	if word, ok := strings.CutPrefix(strings.TrimSpace(text), "first "); ok {
		field, known := firsts[strings.TrimSpace(word)]
		if !known {
			return nil, &exprError{"condition", text, 1, 7, fmt.Sprintf("nothing of the time line is called %q", word)}
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

// Holds evaluates the condition. One that cannot be evaluated, as a division by zero, does not hold.
func (c *Condition) Holds(m *Moment) bool {
	result, err := expr.Run(c.threshold.program, valuesOf(reflect.ValueOf(*m)))
	holds, _ := result.(bool) // the compiler saw to it
	return err == nil && holds
}

// Words are what the fields of the condition were at a moment: "probe.loss = 1".
func (c *Condition) Words(m *Moment) string {
	env := valuesOf(reflect.ValueOf(*m))
	var words []string
	for _, name := range c.threshold.fields {
		words = append(words, name+" = "+fieldWords(env, name))
	}
	return strings.Join(words, ", ")
}
