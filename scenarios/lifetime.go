package scenarios

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ctload/ctload/internal/spelling"
)

// Shape is the form of a distribution of lifetimes.
type Shape string

// The shapes.
const (
	Fixed       Shape = "fixed"
	Exponential Shape = "exponential"
	LogNormal   Shape = "lognormal"
	Quantiles   Shape = "quantiles"
)

// Lifetime is the time that connections stay open and flows go on. In a file it is a duration, the
// same for all; "exponential(3s)" by its mean; "lognormal(3s, 1.2)" by its mean and the standard
// deviation of its logarithm; or a list of quantiles at equal steps, the shortest and the longest
// included. The zero value has none.
type Lifetime struct {
	Shape     Shape
	Mean      Duration // not of Quantiles
	Spread    float64  // of LogNormal
	Quantiles []Duration
}

// maxSpread bounds the spread of lognormal lifetimes: there the mean is 3000 times the median.
const maxSpread = 4

var (
	callForm   = regexp.MustCompile(`^([A-Za-z-]+)\((.*)\)$`)
	openForm   = regexp.MustCompile(`^([A-Za-z-]+)\([^)]*$`)
	numberForm = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]{1,6})?$`)
)

// call splits "name(a, b)" into its name, one of names, and its arguments.
func call(word string, names []string, example string) (name string, args []string, err error) {
	if openForm.MatchString(word) {
		return "", nil, fmt.Errorf("%s has no closing bracket; between { and } a value with a "+
			"comma needs quotes: %q", quote(word), example)
	}
	parts := callForm.FindStringSubmatch(word)
	if parts == nil {
		return "", nil, nil
	}
	if !slices.Contains(names, parts[1]) {
		return "", nil, fmt.Errorf("%s is not valid here%s", quote(parts[1]),
			spelling.Hint(parts[1], names))
	}
	for arg := range strings.SplitSeq(parts[2], ",") {
		args = append(args, strings.TrimSpace(arg))
	}
	return parts[1], args, nil
}

// UnmarshalText parses a lifetime; quantiles are in square brackets, or separated by commas alone.
func (l *Lifetime) UnmarshalText(text []byte) error {
	word := string(text)
	const example = "lognormal(3s, 1.2)"
	shapes := words(Exponential, LogNormal)
	name, args, err := call(word, shapes, example)
	switch {
	case err != nil:
		return err
	case name == "" && strings.Contains(word, ","):
		inner := strings.TrimSuffix(strings.TrimPrefix(word, "["), "]")
		return l.readQuantiles(strings.Split(inner, ","))
	case slices.Contains(shapes, word):
		return fmt.Errorf("%s needs its mean in brackets, as exponential(3s) or %s",
			quote(word), example)
	case name == "":
		l.Shape = Fixed
		err = l.Mean.UnmarshalText(text)
	case name == string(Exponential) && len(args) == 1, name == string(LogNormal) && len(args) == 2:
		l.Shape = Shape(name)
		err = l.Mean.UnmarshalText([]byte(args[0]))
	default:
		return fmt.Errorf("%s has %d values in its brackets; "+
			"it is written exponential(3s) or %s", quote(word), len(args), example)
	}
	if err == nil && l.Mean == 0 {
		err = errors.New("the mean of a lifetime must be more than 0s")
	}
	if err == nil && name == string(LogNormal) {
		l.Spread, err = readSpread(args[1])
	}
	return err
}

func readSpread(word string) (float64, error) {
	spread, _ := strconv.ParseFloat(word, 64)
	if !numberForm.MatchString(word) || spread <= 0 || spread > maxSpread {
		return 0, fmt.Errorf("the spread of a lognormal lifetime must be a number more than 0 and "+
			"at most %d, the standard deviation of its logarithm, not %s", maxSpread, quote(word))
	}
	return spread, nil
}

func (l *Lifetime) readQuantiles(words []string) error {
	*l = Lifetime{Shape: Quantiles}
	for _, word := range words {
		var d Duration
		if err := d.UnmarshalText([]byte(strings.TrimSpace(word))); err != nil {
			return err
		}
		l.Quantiles = append(l.Quantiles, d)
	}
	return l.checkQuantiles()
}

func (l *Lifetime) checkQuantiles() error {
	q := l.Quantiles
	if len(q) < 2 || !slices.IsSorted(q) || q[len(q)-1] == 0 {
		return errors.New("the quantiles of a lifetime must be at least two durations, " +
			"from the shortest to the longest, which is more than 0s")
	}
	return nil
}

// String returns the lifetime as UnmarshalText reads it.
func (l Lifetime) String() string {
	switch l.Shape {
	case Exponential:
		return fmt.Sprintf("exponential(%s)", l.Mean)
	case LogNormal:
		return fmt.Sprintf("lognormal(%s, %s)", l.Mean, number(l.Spread))
	case Quantiles:
		var words []string
		for _, q := range l.Quantiles {
			words = append(words, q.String())
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
	return l.Mean.String()
}

func number(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// MarshalText returns String.
func (l Lifetime) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

func (l *Lifetime) decodeNode(p *problems, n *node) {
	if n.kind != list {
		if word, ok := scalarText(p, n); ok {
			if err := l.UnmarshalText([]byte(word)); err != nil {
				p.errorf(n.at, "%v", err)
			}
		}
		return
	}
	l.Shape = Quantiles
	known := len(p.errors)
	decode(p, n, &l.Quantiles)
	if err := l.checkQuantiles(); err != nil && len(p.errors) == known {
		p.errorf(n.at, "%v", err)
	}
}

// tree returns the input of decodeNode.
func (l Lifetime) tree() *node {
	if l.Shape != Quantiles {
		return text(l.String())
	}
	n := &node{kind: list}
	for _, q := range l.Quantiles {
		n.items = append(n.items, text(q.String()))
	}
	return n
}

// Arrivals tells how an open loop spreads the beginnings of its connections over time.
type Arrivals string

// The arrivals.
const (
	Even    Arrivals = "even"    // each at its exact time
	Poisson Arrivals = "poisson" // independent of each other, as those of many users are
)

// Words returns the valid values.
func (Arrivals) Words() []string { return words(Even, Poisson) }

// Sources are the source addresses of a generator. In a file they are a number, or a mapping.
type Sources struct {
	Count   Count   `yaml:"count"`
	Weights Weights `yaml:"weights"`
}

// Weights say how unequally sources share a load. In a file: "zipf(1.2)", where the k-th source has
// a share proportional to 1/k^1.2. Zero: all have the same.
type Weights float64

// maxWeights bounds the exponent: at 10 the first source has 99.9 % of all.
const maxWeights = 10

// UnmarshalText parses weights.
func (w *Weights) UnmarshalText(text []byte) error {
	const example = "zipf(1.2)"
	_, args, err := call(string(text), []string{"zipf"}, example)
	if err != nil {
		return err
	}
	if len(args) == 1 && numberForm.MatchString(args[0]) {
		s, _ := strconv.ParseFloat(args[0], 64)
		if *w = Weights(s); s > 0 && s <= maxWeights {
			return nil
		}
	}
	return fmt.Errorf("%s are not weights, such as %s, with an exponent more than 0 and at most %d",
		quote(string(text)), example, maxWeights)
}

// String returns the weights as UnmarshalText reads them.
func (w Weights) String() string { return "zipf(" + number(float64(w)) + ")" }

// MarshalText returns String.
func (w Weights) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText parses the number of sources.
func (s *Sources) UnmarshalText(text []byte) error { return s.Count.UnmarshalText(text) }

func (s *Sources) decodeNode(p *problems, n *node) {
	type plain Sources
	if n.kind == mapping {
		decode(p, n, (*plain)(s))
		return
	}
	decode(p, n, &s.Count)
}

// tree returns the input of decodeNode.
func (s Sources) tree() *node {
	if s.Weights == 0 {
		word, _ := s.Count.MarshalText() // it never fails
		return text(string(word))
	}
	type plain Sources
	return fields(plain(s), plain{})
}
