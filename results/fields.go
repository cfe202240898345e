package results

import (
	"maps"
	"reflect"
	"slices"
	"strings"

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
