package results

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

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
