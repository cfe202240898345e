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
	owner  string // in errors
	page   string // of the documentation that lists the fields
	types  types.Map
	places []place
	known  map[string]reflect.Type
	sorted []string
}

// trialFields are the fields of a trial under their names in run.json.
var trialFields = newFieldSet(reflect.TypeFor[Trial](), "a trial", "docs/fields.md")

func newFieldSet(of reflect.Type, owner, page string) *fieldSet {
	f := &fieldSet{owner: owner, page: page, types: typesOf(of), places: placesIn(of, "", nil)}
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

// place is a field of a struct, or of a struct in it; its Index is the way from the outer struct.
type place struct {
	reflect.StructField
	path string       // in JSON: load.latency_ms.p99
	in   reflect.Type // the struct that has the field
}

// placesIn returns the fields of a struct and of the structs in it, in order.
func placesIn(t reflect.Type, prefix string, index []int) (list []place) {
	eachField(t, func(name string, field reflect.StructField) {
		field.Index = slices.Concat(index, field.Index)
		list = append(list, place{field, prefix + name, t})
		if s, ok := isPlainStruct(field.Type); ok {
			list = append(list, placesIn(s, prefix+name+".", field.Index)...)
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

func typesOf(t reflect.Type) types.Map {
	m := types.Map{}
	eachField(t, func(name string, f reflect.StructField) { _, m[name] = kindOf(f.Type) })
	return m
}

// kindOf returns how expressions take a field: in words, and as a type of the language.
func kindOf(t reflect.Type) (string, types.Type) {
	if s, ok := isPlainStruct(t); ok {
		if s != t {
			return "object or nil", typesOf(s)
		}
		return "object", typesOf(s)
	}
	switch t.Kind() {
	case reflect.Pointer: // an optional time
		return "number or " + Never, types.Float64
	case reflect.Float64:
		return "number", types.Float64
	case reflect.Int64, reflect.Int:
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
	t, ok := f.known[strings.TrimSuffix(path, "."+lastPart(path))]
	return ok && t.Kind() == reflect.Map
}

// FigureAt returns the function that reads the figure at a path of run.json, which must exist, from
// a trial. A time that did not come is +Inf. A trial lacks the figures of a part that it does not
// have, and of a latency without values.
func FigureAt(path string) func(*Trial) (float64, bool) {
	of := slices.IndexFunc(trialFields.places, func(p place) bool { return p.path == path })
	p := trialFields.places[of]
	return func(t *Trial) (float64, bool) {
		trial := reflect.ValueOf(t).Elem()
		v, err := trial.FieldByIndexErr(p.Index)
		if err != nil {
			return 0, false
		}
		around := trial.FieldByIndex(p.Index[:len(p.Index)-1]).Interface()
		if l, ok := around.(Latency); ok && l.Count == 0 {
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
	if c, ok := m["conntrack"].(map[string]any); ok && t.Conntrack.LogMissing != "" {
		delete(c, "log_lines")
		delete(c, "log_suppressed")
		if stack, ok := m["stack"].(map[string]any); ok {
			delete(stack, "memory_faults")
		}
	}
	m[Never] = math.Inf(1)
	return m
}

// valuesOf returns the values of a struct's fields. A distribution of no sample has only its count.
func valuesOf(v reflect.Value) map[string]any {
	if l, ok := v.Interface().(Latency); ok && l.Count == 0 {
		return map[string]any{"count": 0}
	}
	m := map[string]any{}
	eachField(v.Type(), func(name string, f reflect.StructField) {
		m[name] = valueOf(v.FieldByIndex(f.Index))
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
		if v.IsNil() {
			return math.Inf(1)
		}
		return v.Elem().Float()
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
	for name := range strings.SplitSeq(path, ".") {
		switch m := v.(type) {
		case map[string]any:
			v, found = m[name]
		case map[string]int: // what did not occur is 0
			v = m[name]
		default:
			return nil, false
		}
	}
	return v, found
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

// Fields returns the fields of a trial in the order of the model.
func Fields() ([]Field, error) {
	var schema struct {
		Defs map[string]fieldSchema `json:"$defs"`
	}
	if err := json.Unmarshal(Schema, &schema); err != nil {
		return nil, fmt.Errorf("reading the schema of run.json: %w", err)
	}
	var list []Field
	for _, p := range trialFields.places {
		kind, _ := kindOf(p.Type)
		said := schema.Defs[p.in.Name()].Properties[lastPart(p.path)]
		list = append(list, Field{p.path, kind, unitOf(p.path, kind), said.meaning(p.Name)})
	}
	return list, nil
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
		{"lost_cpu", "share"},
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

// Flatten returns the figures of a trial but Stages, in a fixed order, for a row of a spreadsheet:
// numbers in Go's notation, times of day in RFC 3339, lists and maps in one cell.
func Flatten(t *Trial) (cells []CellOfTrial) {
	for _, p := range trialFields.places {
		if _, ok := isPlainStruct(p.Type); ok || p.Type == reflect.TypeFor[[]Stage]() {
			continue
		}
		cell := CellOfTrial{Path: p.path}
		v, err := reflect.ValueOf(t).Elem().FieldByIndexErr(p.Index)
		if err == nil && !(logPaths[p.path] && t.Conntrack.LogMissing != "") {
			cell.Value = cellText(v)
		}
		cells = append(cells, cell)
	}
	return cells
}

// logPaths are the figures that come from the kernel's log.
var logPaths = map[string]bool{"conntrack.log_lines": true, "conntrack.log_suppressed": true}

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
	case Alert:
		return fmt.Sprintf("%g=%g", x.Share, x.Fired)
	default:
		return fmt.Sprint(x)
	}
}
