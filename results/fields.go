package results

import (
	"cmp"
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
	known  map[string]reflect.Type
	sorted []string
}

// trialFields are the fields of a trial under their names in run.json.
var trialFields = newFieldSet(reflect.TypeFor[Trial](), "a trial", "docs/fields.md")

func newFieldSet(of reflect.Type, owner, page string) *fieldSet {
	f := &fieldSet{owner: owner, page: page, types: typesOf(of), known: map[string]reflect.Type{Never: reflect.TypeFor[float64]()}}
	f.types[Never] = types.Float64
	paths(of, "", f.known)
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

// isPlainStruct reports whether a type is one of the model's structs, or a pointer to one.
func isPlainStruct(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t, t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[Trial]().PkgPath()
}

func typesOf(t reflect.Type) types.Map {
	m := types.Map{}
	eachField(t, func(name string, field reflect.StructField) { m[name] = typeOf(field.Type) })
	return m
}

func typeOf(t reflect.Type) types.Type {
	if s, ok := isPlainStruct(t); ok {
		return typesOf(s)
	}
	switch t.Kind() {
	case reflect.Pointer: // an optional time
		return types.Float64
	case reflect.Int64, reflect.Int:
		return types.Int
	case reflect.String:
		return types.String
	case reflect.Slice:
		return types.TypeOf([]any{})
	case reflect.Map:
		return types.TypeOf(map[string]int{})
	default:
		return types.TypeOf(reflect.Zero(t).Interface())
	}
}

func paths(t reflect.Type, prefix string, into map[string]reflect.Type) {
	eachField(t, func(name string, field reflect.StructField) {
		into[prefix+name] = field.Type
		if s, ok := isPlainStruct(field.Type); ok {
			paths(s, prefix+name+".", into)
		}
	})
}

// underMap reports whether a path leads into a map, whose keys are free: load.causes.timeout.
func (f *fieldSet) underMap(path string) bool {
	at := strings.LastIndexByte(path, '.')
	if at < 0 {
		return false
	}
	t, ok := f.known[path[:at]]
	return ok && t.Kind() == reflect.Map
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

func valuesOf(v reflect.Value) map[string]any {
	m := map[string]any{}
	eachField(v.Type(), func(name string, field reflect.StructField) { m[name] = valueOf(v.FieldByIndex(field.Index)) })
	return m
}

func valueOf(v reflect.Value) any {
	if _, ok := isPlainStruct(v.Type()); ok {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return nil
			}
			v = v.Elem()
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

// fieldWords formats the value at a path.
func fieldWords(env map[string]any, path string) string {
	var v any = env
	for name := range strings.SplitSeq(path, ".") {
		switch m := v.(type) {
		case map[string]any:
			v = m[name]
		case map[string]int:
			v = m[name]
		default:
			return "missing"
		}
	}
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

// Fields returns the fields of a trial in the order of the model, with the comments of the model's
// types.
func Fields() ([]Field, error) {
	var schema struct {
		Defs map[string]fieldSchema `json:"$defs"`
	}
	if err := json.Unmarshal(Schema, &schema); err != nil {
		return nil, fmt.Errorf("reading the schema of run.json: %w", err)
	}
	var list []Field
	var add func(t reflect.Type, prefix string)
	add = func(t reflect.Type, prefix string) {
		eachField(t, func(name string, field reflect.StructField) {
			said := schema.Defs[t.Name()].Properties[name]
			path := prefix + name
			list = append(list, Field{Name: path, Kind: kindOf(field.Type), Unit: unitOf(path, field.Type), Meaning: said.meaning(field.Name)})
			if s, ok := isPlainStruct(field.Type); ok {
				add(s, path+".")
			}
		})
	}
	add(reflect.TypeFor[Trial](), "")
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
	for _, verb := range []string{"is ", "are "} {
		if rest, found := strings.CutPrefix(said, verb); named && found {
			return rest
		}
	}
	return said
}

func kindOf(t reflect.Type) string {
	if s, ok := isPlainStruct(t); ok {
		if s != t {
			return "object or nil"
		}
		return "object"
	}
	switch t.Kind() {
	case reflect.Pointer: // an optional time
		return "number or " + Never
	case reflect.Int64, reflect.Int:
		return "integer"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "list"
	case reflect.Map:
		return "object"
	case reflect.Float64:
		return "number"
	default:
		return "text"
	}
}

// unitOf returns the unit of a figure, derived from its name.
func unitOf(path string, t reflect.Type) string {
	if kind := kindOf(t); kind != "integer" && !strings.HasPrefix(kind, "number") {
		return ""
	}
	last := path[strings.LastIndexByte(path, '.')+1:]
	switch {
	case strings.HasSuffix(last, "_ms"), strings.Contains(path, "_ms.") && last != "count":
		return "ms"
	case strings.HasSuffix(last, "_per_s"):
		return "1/s"
	case strings.HasPrefix(last, "seconds"), strings.HasSuffix(last, "_s"):
		return "s"
	case strings.HasSuffix(last, "_bytes"):
		return "bytes"
	case strings.HasSuffix(last, "_ppm"):
		return "ppm"
	case strings.HasSuffix(last, "_share"), strings.HasSuffix(last, "_error"), path == "steal", path == "lost_cpu":
		return "share"
	}
	return ""
}

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

// Flatten returns the figures of a trial, always the same ones in the same order, as a row of a
// spreadsheet needs it: numbers in Go's notation, times of day in RFC 3339, lists and maps in one
// cell. It leaves out Stages.
func Flatten(t *Trial) []CellOfTrial {
	var cells []CellOfTrial
	flatten(reflect.ValueOf(*t), "", &cells)
	for i := range cells {
		if logPaths[cells[i].Path] && t.Conntrack.LogMissing != "" {
			cells[i].Value = ""
		}
	}
	return cells
}

// logPaths are the figures that come from the kernel's log.
var logPaths = map[string]bool{"conntrack.log_lines": true, "conntrack.log_suppressed": true}

func flatten(v reflect.Value, prefix string, cells *[]CellOfTrial) {
	eachField(v.Type(), func(name string, field reflect.StructField) {
		f := v.FieldByIndex(field.Index)
		if s, ok := isPlainStruct(field.Type); ok {
			if f.Kind() == reflect.Pointer {
				if f.IsNil() {
					blank(s, prefix+name+".", cells)
					return
				}
				f = f.Elem()
			}
			flatten(f, prefix+name+".", cells)
			return
		}
		if field.Type == reflect.TypeFor[[]Stage]() {
			return
		}
		*cells = append(*cells, CellOfTrial{prefix + name, cellText(f)})
	})
}

// blank adds the cells of a missing struct.
func blank(t reflect.Type, prefix string, cells *[]CellOfTrial) {
	from := len(*cells)
	flatten(reflect.Zero(t), prefix, cells)
	for i := from; i < len(*cells); i++ {
		(*cells)[i].Value = ""
	}
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
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int {
			return cmp.Compare(a.String(), b.String())
		})
		var words []string
		for _, key := range keys {
			words = append(words, key.String()+"="+cellText(v.MapIndex(key)))
		}
		return strings.Join(words, " ")
	case reflect.Slice:
		words := make([]string, v.Len())
		for i := range words {
			words[i] = cellText(v.Index(i))
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
