package results

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/types"
)

// Never is a time that did not come, in thresholds and reports.
const Never = "never"

// fieldSet holds the names that expressions may use: types for the compiler, and paths.
type fieldSet struct {
	owner    string // in errors
	page     string // of the documentation that lists the fields
	workload Workload
	types    types.Map
	places   []place
	known    map[string]reflect.Type
	sorted   []string
}

// Workload are the entries and the probes of a workload, by name. Of an entry only its unit, its
// role and whether it asks for no answer matter.
type Workload struct {
	Entries map[string]Entry
	Probes  map[string]Probe
}

// WorkloadOf returns the entries and the probes of a run's trials.
func WorkloadOf(r *Run) Workload {
	w := Workload{map[string]Entry{}, map[string]Probe{}}
	for _, s := range r.Scenarios {
		for _, t := range s.Trials {
			maps.Copy(w.Entries, t.Entries)
			maps.Copy(w.Probes, t.Probes)
		}
	}
	return w
}

// named returns the names that a map of a trial has as keys, by the map's name in JSON.
func (w Workload) named(field string) []string {
	switch field {
	case "entries":
		return EntryNames(w.Entries)
	case "probes":
		return slices.Sorted(maps.Keys(w.Probes))
	}
	return nil
}

// trialFields are the fields of a trial under their names in run.json, without those of entries and
// probes.
var trialFields = fieldsOf(Workload{})

// fieldsOf returns the fields of a trial with a workload.
func fieldsOf(w Workload) *fieldSet {
	return newFieldSet(reflect.TypeFor[Trial](), w, "a trial", "docs/fields.md")
}

func newFieldSet(of reflect.Type, w Workload, owner, page string) *fieldSet {
	f := &fieldSet{owner: owner, page: page, workload: w, types: typesOf(of, w)}
	f.places = placesIn(of, w, place{})
	f.types[Never] = types.Float64
	f.known = map[string]reflect.Type{Never: reflect.TypeFor[float64]()}
	for _, p := range f.places {
		f.known[p.path] = p.Type
	}
	f.sorted = slices.Sorted(maps.Keys(f.known))
	return f
}

// eachField calls f for each field of a struct with its name in JSON; it flattens embedded structs.
func eachField(t reflect.Type, f func(name string, field reflect.StructField)) {
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.IsExported() && name != "" && name != "-" {
			f(name, field)
		}
	}
}

// place is a field of a struct, or of a struct in it.
type place struct {
	reflect.StructField
	path string       // in JSON: load.latency_ms.p99
	in   reflect.Type // the struct that has the field
	// around returns that struct, of an outermost one; the zero Value where it is missing.
	around func(reflect.Value) reflect.Value
}

// value returns the field of an outermost struct; the zero Value where it is missing, or where what
// it tells was not measured.
func (p place) value(outermost reflect.Value) reflect.Value {
	v := outermost
	if p.around != nil {
		v = p.around(outermost)
	}
	if !v.IsValid() || unmeasuredIn(v, p.path) != "" {
		return reflect.Value{}
	}
	return v.FieldByIndex(p.Index)
}

// placesIn returns the fields of a struct and of the structs in it, in order; outer has the path of
// the struct itself, and how to get to it. A struct of a map has a place without a field.
func placesIn(t reflect.Type, w Workload, outer place) (list []place) {
	prefix, around := "", outer.around
	if outer.path != "" {
		prefix = outer.path + "."
	}
	// within adds the fields of a struct that of returns from the one around it.
	within := func(path string, s reflect.Type, of func(reflect.Value) reflect.Value) {
		inner := func(v reflect.Value) reflect.Value {
			if around != nil {
				v = around(v)
			}
			if v.IsValid() {
				v = reflect.Indirect(of(v))
			}
			return v
		}
		list = append(list, placesIn(s, w, place{path: path, around: inner})...)
	}
	eachField(t, func(name string, field reflect.StructField) {
		p := place{field, prefix + name, t, around}
		list = append(list, p)
		at := func(v reflect.Value) reflect.Value { return v.FieldByIndex(field.Index) }
		if s, ok := isPlainStruct(field.Type); ok {
			within(p.path, s, at)
		} else if s, ok := isNamed(field.Type); ok {
			for _, key := range w.named(name) {
				whole := place{path: p.path + "." + key, StructField: reflect.StructField{Type: s}}
				list = append(list, whole)
				within(whole.path, s, func(v reflect.Value) reflect.Value {
					return at(v).MapIndex(reflect.ValueOf(key))
				})
			}
		}
	})
	return list
}

// isPlainStruct reports whether a type is one of the model's structs, or a pointer to one.
func isPlainStruct(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t, t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[Trial]().PkgPath()
}

// isNamed reports whether a type is a map of the model's structs by name.
func isNamed(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() != reflect.Map {
		return nil, false
	}
	return isPlainStruct(t.Elem())
}

func typesOf(t reflect.Type, w Workload) types.Map {
	m := types.Map{}
	eachField(t, func(name string, f reflect.StructField) {
		if s, ok := isNamed(f.Type); ok {
			named := types.Map{}
			for _, key := range w.named(name) {
				named[key] = typesOf(s, w)
			}
			m[name] = named
			return
		}
		_, m[name] = kindOf(f.Type)
	})
	return m
}

// kindOf returns how expressions take a field: in words, and as a type of the language.
func kindOf(t reflect.Type) (string, types.Type) {
	if s, ok := isPlainStruct(t); ok {
		if s != t {
			return "object or nil", typesOf(s, Workload{})
		}
		return "object", typesOf(s, Workload{})
	}
	switch t.Kind() {
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Int64 { // an optional count
			return kindOf(t.Elem())
		}
		return "number or " + Never, types.Float64 // an optional time
	case reflect.Float64:
		return "number", types.Float64
	case reflect.Int64, reflect.Int, reflect.Uint64:
		return "integer", types.Int
	case reflect.Bool:
		return "true or false", types.Bool
	case reflect.String:
		return "text", types.String
	case reflect.Slice:
		return "list", types.TypeOf([]any{})
	case reflect.Map:
		return "object", types.TypeOf(map[string]int{})
	default: // a time of day
		return "text", types.TypeOf(reflect.Zero(t).Interface())
	}
}

// underMap reports whether a path leads into a map, whose keys are free: load.causes.timeout.
func (f *fieldSet) underMap(path string) bool {
	t, ok := f.known[outerPart(path)]
	if !ok || t.Kind() != reflect.Map {
		return false
	}
	_, named := isNamed(t)
	return !named
}

// partial is a part of a trial some of whose fields may tell nothing.
type partial interface {
	// unmeasured returns why the field at a path tells nothing; "" where it tells.
	unmeasured(path string) string
}

// unmeasuredIn returns why the field of a struct at a path tells nothing; "" where it tells.
func unmeasuredIn(s reflect.Value, path string) string {
	if p, ok := s.Interface().(partial); ok {
		return p.unmeasured(path)
	}
	return ""
}

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

// Field is a figure of a trial that thresholds may name.
type Field struct {
	Name    string `json:"name"` // as in thresholds and in run.json: load.latency_ms.p99
	Kind    string `json:"kind"` // number, integer, text, list, true or false, object
	Unit    string `json:"unit,omitempty"`
	Meaning string `json:"meaning"` // from the model's comments
}

// exampleName stands for the name of an entry or a probe in the documentation of fields.
const exampleName = "NAME"

// Fields returns the fields of a trial in the order of the model.
func Fields() ([]Field, error) {
	schema, err := readSchema()
	if err != nil {
		return nil, err
	}
	var list []Field
	example := Workload{map[string]Entry{exampleName: {}}, map[string]Probe{exampleName: {}}}
	for _, p := range fieldsOf(example).places {
		if p.in != nil {
			list = append(list, schema.field(p.in, p.StructField, p.path))
		}
	}
	return list, nil
}

// DocumentFields returns the fields of run.json that no threshold names: those of the run itself,
// and of the elements of lists, whose paths have [] after the list's name.
func DocumentFields() ([]Field, error) {
	schema, err := readSchema()
	if err != nil {
		return nil, err
	}
	var list []Field
	var add func(t reflect.Type, prefix string, known bool)
	add = func(t reflect.Type, prefix string, known bool) {
		eachField(t, func(name string, f reflect.StructField) {
			path := prefix + name
			if !known {
				list = append(list, schema.field(t, f, path))
			}
			if s, ok := isPlainStruct(f.Type); ok {
				add(s, path+".", known)
			} else if s, ok := isNamed(f.Type); ok {
				add(s, path+"."+exampleName+".", known)
			} else if f.Type.Kind() == reflect.Slice {
				if s, ok := isPlainStruct(f.Type.Elem()); ok {
					add(s, path+"[].", s == reflect.TypeFor[Trial]())
				}
			}
		})
	}
	add(reflect.TypeFor[Run](), "", false)
	return list, nil
}

// runSchema is the part of the schema of run.json that describes fields.
type runSchema struct {
	fieldSchema                        // of the run
	Defs        map[string]fieldSchema `json:"$defs"`
}

func readSchema() (schema runSchema, err error) {
	if err := json.Unmarshal(Schema, &schema); err != nil {
		return schema, fmt.Errorf("reading the schema of run.json: %w", err)
	}
	return schema, nil
}

// field describes a field of a struct.
func (s runSchema) field(in reflect.Type, f reflect.StructField, path string) Field {
	of := s.Defs[in.Name()]
	if in == reflect.TypeFor[Run]() {
		of = s.fieldSchema
	}
	kind, _ := kindOf(f.Type)
	return Field{path, kind, unitOf(path, kind), of.Properties[lastPart(path)].meaning(f.Name)}
}

// fieldSchema is the part of a JSON schema that describes fields.
type fieldSchema struct {
	Description string                 `json:"description"`
	Properties  map[string]fieldSchema `json:"properties"`
}

// meaning returns the comment of a field without its Go name, which thresholds do not use.
func (s fieldSchema) meaning(name string) string {
	said, named := strings.CutPrefix(s.Description, name+" ")
	for _, verb := range []string{"is ", "are ", "counts "} {
		if rest, found := strings.CutPrefix(said, verb); named && found {
			return rest
		}
	}
	return said
}

// unitOf returns the unit of a figure, derived from its name.
func unitOf(path, kind string) string {
	if kind != "integer" && !strings.HasPrefix(kind, "number") {
		return ""
	}
	last := lastPart(path)
	if strings.Contains(path, "_ms.") && last != "count" {
		return "ms"
	}
	for _, end := range []struct{ name, unit string }{
		{"_ms", "ms"}, {"_per_s", "1/s"}, {"_s", "s"}, {"_bytes", "bytes"}, {"_ppm", "ppm"},
		{"_share", "share"}, {"_error", "share"}, {"fill", "share"}, {"steal", "share"},
		{"lost_cpu", "share"}, {"loss", "share"},
	} {
		if strings.HasSuffix(last, end.name) {
			return end.unit
		}
	}
	if strings.HasPrefix(last, "seconds") {
		return "s"
	}
	return ""
}

// lastPart returns the name at the end of a path.
func lastPart(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// Schema is the JSON schema (draft 2020-12) of run.json, made from the types of this package by its
// tests (go test ./results -run Schema -update). It allows fields that it does not know, since a
// newer build of the same [SchemaVersion] may add some.
//
//go:embed run.schema.json
var Schema []byte

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
