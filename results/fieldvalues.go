package results

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FigureAt returns the function that reads the figure at a path of run.json, which must exist, from
// a trial. A time that did not come is +Inf. A trial lacks the figures of a part that it does not
// have, and of a latency without values.
func FigureAt(path string) func(*Trial) (float64, bool) {
	of := slices.IndexFunc(trialFields.places, func(p place) bool { return p.path == path })
	return figureOf[Trial](trialFields.places[of])
}

// EntryFigure returns the function that reads a figure of an entry, which must exist, from a trial;
// see [FigureAt].
func EntryFigure(name, field string) func(*Trial) (float64, bool) {
	return figureIn(field, func(t *Trial) (*Entry, bool) {
		e, ok := t.Entries[name]
		return &e, ok
	})
}

// ProbeFigure returns the function that reads a figure of a probe, which must exist, from a trial;
// see [FigureAt].
func ProbeFigure(name, field string) func(*Trial) (float64, bool) {
	return figureIn(field, func(t *Trial) (*Probe, bool) {
		p, ok := t.Probes[name]
		return &p, ok
	})
}

func figureIn[T any](field string, of func(*Trial) (*T, bool)) func(*Trial) (float64, bool) {
	places := placesIn(reflect.TypeFor[T](), Workload{}, place{})
	at := slices.IndexFunc(places, func(p place) bool { return p.path == field })
	read := figureOf[T](places[at])
	return func(t *Trial) (float64, bool) {
		if part, ok := of(t); ok {
			return read(part)
		}
		return 0, false
	}
}

func figureOf[T any](p place) func(*T) (float64, bool) {
	return func(whole *T) (float64, bool) {
		v := p.value(reflect.ValueOf(whole).Elem())
		if !v.IsValid() {
			return 0, false
		}
		switch x := valueOf(v).(type) {
		case float64:
			return x, true
		case int:
			return float64(x), true
		}
		return 0, false
	}
}

// fieldValues returns the values of a trial's fields, by their types.
func fieldValues(t *Trial) map[string]any {
	m := valuesOf(reflect.ValueOf(*t))
	if stack, ok := m["stack"].(map[string]any); ok && t.Conntrack.LogMissing != "" {
		delete(stack, "memory_faults")
	}
	m[Never] = math.Inf(1)
	return m
}

// valuesOf returns the values of a struct's fields, without those that tell nothing.
func valuesOf(v reflect.Value) map[string]any {
	m := map[string]any{}
	eachField(v.Type(), func(name string, f reflect.StructField) {
		if unmeasuredIn(v, name) == "" {
			m[name] = valueOf(v.FieldByIndex(f.Index))
		}
	})
	return m
}

func valueOf(v reflect.Value) any {
	if _, ok := isPlainStruct(v.Type()); ok {
		if v = reflect.Indirect(v); !v.IsValid() {
			return nil
		}
		return valuesOf(v)
	}
	switch v.Kind() {
	case reflect.Pointer:
		isCount := v.Type().Elem().Kind() == reflect.Int64
		switch {
		case !v.IsNil():
			return valueOf(v.Elem())
		case isCount:
			return nil
		}
		return math.Inf(1)
	case reflect.Int64, reflect.Int:
		return int(v.Int())
	case reflect.String:
		return v.String()
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = valueOf(v.Index(i))
		}
		return list
	case reflect.Map:
		if _, ok := isNamed(v.Type()); ok {
			m := map[string]any{}
			for key, value := range v.Seq2() {
				m[key.String()] = valueOf(value)
			}
			return m
		}
		m := map[string]int{}
		for key, value := range v.Seq2() {
			m[key.String()] = int(value.Int())
		}
		return m
	default:
		return v.Interface()
	}
}

// lookup returns the value at a path, nil where what should hold it is.
func lookup(env map[string]any, path string) (v any, found bool) {
	v, found = env, true
	for path != "" {
		var name string
		switch m := v.(type) {
		case map[string]any:
			name, path = firstPart(path, m)
			v, found = m[name]
		case map[string]int: // what did not occur is 0
			return m[path], true
		default:
			return nil, false
		}
	}
	return v, found
}

// firstPart returns the first name of a path, and the rest. A name of an entry may have dots.
func firstPart[T any](path string, names map[string]T) (name, rest string) {
	for known := range names {
		if within(path, known) && len(known) > len(name) {
			name = known
		}
	}
	if name == "" {
		name, _, _ = strings.Cut(path, ".")
	}
	return name, strings.TrimPrefix(path[len(name):], ".")
}

// fieldWords formats the value at a path.
func fieldWords(env map[string]any, path string) string {
	v, _ := lookup(env, path)
	switch x := v.(type) {
	case nil:
		return "missing"
	case float64:
		if math.IsInf(x, 1) {
			return Never
		}
		return fmt.Sprintf("%.6g", x)
	case string:
		return fmt.Sprintf("%q", x)
	default:
		return fmt.Sprint(x)
	}
}

// CellOfTrial is one figure of a trial under its path in run.json.
type CellOfTrial struct {
	Path  string
	Value string // empty without a figure
}

// Flatten returns the figures of a trial but Stages, those of a workload's entries and probes among
// them, in a fixed order, for a row of a spreadsheet: numbers in Go's notation, times of day in RFC
// 3339, lists and maps in one cell.
func (w Workload) Flatten(t *Trial) (cells []CellOfTrial) {
	for _, p := range fieldsOf(w).places {
		if _, ok := isPlainStruct(p.Type); ok || p.Type == reflect.TypeFor[[]Stage]() {
			continue
		}
		if _, ok := isNamed(p.Type); ok {
			continue
		}
		cell := CellOfTrial{Path: p.path}
		if v := p.value(reflect.ValueOf(t).Elem()); v.IsValid() {
			cell.Value = cellText(v)
		}
		cells = append(cells, cell)
	}
	return cells
}

func cellText(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return cellText(v.Elem())
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	case reflect.Map:
		var words []string
		for key, value := range v.Seq2() {
			words = append(words, key.String()+"="+cellText(value))
		}
		slices.Sort(words)
		return strings.Join(words, " ")
	case reflect.Slice:
		var words []string
		for _, value := range v.Seq2() {
			words = append(words, cellText(value))
		}
		return strings.Join(words, "; ")
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return x.Format(time.RFC3339)
	case Cause:
		return fmt.Sprintf("%s=%d", x.Name, x.Count)
	case Action:
		return x.String()
	case StateCount:
		return fmt.Sprintf("%s %s=%d", x.Protocol, x.State, x.Entries)
	case SourceCount:
		return fmt.Sprintf("%s=%d", x.Address, x.Entries)
	case RuleCount:
		return fmt.Sprintf("%s %s %s %s=%d", x.Family, x.Table, x.Chain, x.Text, x.Packets())
	case FlowCount:
		return fmt.Sprintf("%s %s %s=%d", x.Protocol, x.State, x.Destination, x.Entries)
	case PredictedCount:
		return fmt.Sprintf("%g=%d", x.Seconds, x.Count)
	case Alert:
		return fmt.Sprintf("%g=%g", x.Share, x.Fired)
	default:
		return fmt.Sprint(x)
	}
}
