package goals

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
	"github.com/ctload/ctload/scenarios"
)

// Axis is a quantity with the values at each of which a limit is looked for.
type Axis struct {
	goal   Goal
	values []float64
	text   string
}

// axes are the quantities of an axis.
var axes = []Quantity{Max, Buckets, Memory, Timeout, Cores}

// Axes returns the beginnings of an axis, for a shell to complete.
func Axes() (list []string) {
	for _, q := range axes {
		if q != Timeout {
			list = append(list, string(q)+"=")
		}
	}
	for _, state := range States() {
		list = append(list, string(Timeout)+":"+state+"=")
	}
	return list
}

// mostValues bounds the searches of an axis.
const mostValues = 64

// ParseAxis reads KEY=VALUE,VALUE: max=4k,16k, memory=256MiB,1GiB or timeout:udp=10s,30s.
func ParseAxis(text string) (Axis, error) {
	key, list, found := strings.Cut(text, "=")
	word, of, _ := strings.Cut(key, ":")
	a := Axis{goal: Goal{Quantity: Quantity(word), Of: of}, text: text}
	var words []string
	for _, q := range axes {
		words = append(words, string(q))
	}
	switch {
	case !slices.Contains(words, word):
		return a, fmt.Errorf("%q varies nothing%s", word, spelling.Hint(word, words))
	case !found:
		return a, fmt.Errorf("%q has no values, such as max=4096,16384", text)
	case a.goal.Quantity == Timeout:
		if _, ok := timeouts[of]; !ok {
			return a, fmt.Errorf("%q: a timeout needs its state, such as "+
				"timeout:time_wait=30s,120s%s",
				text, spelling.Hint(of, States()))
		}
	case of != "":
		return a, fmt.Errorf("%q: no name goes with %s", key, word)
	}
	for value := range strings.SplitSeq(list, ",") {
		n, err := a.goal.read(strings.TrimSpace(value))
		switch {
		case err != nil:
			return a, err
		case n < 1:
			return a, fmt.Errorf("%q: %s must be at least 1", text, key)
		case slices.Contains(a.values, n):
			return a, fmt.Errorf("%q: %s is there twice", text, value)
		}
		a.values = append(a.values, n)
	}
	if len(a.values) > mostValues {
		return a, fmt.Errorf("%d values are more than %d", len(a.values), mostValues)
	}
	return a, nil
}

// read reads a value of the quantity, in the unit of [Goal.Unit].
func (g Goal) read(text string) (float64, error) {
	switch g.Quantity {
	case Memory:
		var size scenarios.Size
		err := size.UnmarshalText([]byte(text))
		return float64(size >> 20), err
	case Timeout:
		var d scenarios.Duration
		err := d.UnmarshalText([]byte(text))
		return float64(int64(d.Seconds())), err
	default:
		var n scenarios.Count
		err := n.UnmarshalText([]byte(text))
		return float64(n), err
	}
}

// String returns the axis as [ParseAxis] has read it; empty without one.
func (a Axis) String() string { return a.text }

// Key returns what the axis varies, as the command line has it.
func (a Axis) Key() string { return strings.TrimSuffix(string(a.goal.Quantity)+":"+a.goal.Of, ":") }

// Over returns a scenario with each value of the axis; without an axis itself alone. keys holds the
// values as text.
func (a Axis) Over(s scenarios.Resolved) (list []scenarios.Resolved, keys []string) {
	if len(a.values) == 0 {
		return []scenarios.Resolved{s}, []string{""}
	}
	for _, value := range a.values {
		list = append(list, a.goal.At(s, value))
		keys = append(keys, strconv.FormatFloat(value, 'f', -1, 64))
	}
	return list, keys
}

// Varies reports whether the axis varies what a goal looks for.
func (a Axis) Varies(g Goal) bool {
	return len(a.values) > 0 && a.goal.Quantity == g.Quantity && a.goal.Of == g.Of
}
