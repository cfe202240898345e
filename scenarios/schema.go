package scenarios

import (
	_ "embed"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
	"github.com/invopop/jsonschema"

	"github.com/ctload/ctload/internal/actions"
)

// schemaID names the schema; no program fetches anything from there.
const schemaID = "https://github.com/ctload/ctload/scenarios/experiment"

//go:embed keys.yaml
var keysFile []byte

// meanings returns the descriptions of all keys, by the Go type that holds the key.
var meanings = sync.OnceValue(func() (all map[string]map[string]string) {
	if err := yaml.Unmarshal(keysFile, &all); err != nil {
		panic(err) // the file is embedded
	}
	return all
})

// Schema returns the JSON schema (draft 2020-12) of an experiment file, indented. Editors complete
// and check files with it. It is made from the types that files are decoded into; it leaves open
// what only the loader can check, such as names of scenarios in thresholds.
func Schema() ([]byte, error) {
	top := reflected(Head{})
	top.Version, top.ID, top.Title = jsonschema.Version, schemaID, "a ctload experiment"
	for _, part := range []any{Configuration{}, Entry{}, Action{}} {
		s := reflected(part)
		maps.Copy(top.Definitions, s.Definitions)
		s.Definitions = nil
		top.Definitions[reflect.TypeOf(part).Name()] = s
	}
	for _, part := range []any{Configuration{}, Entry{}, Stage{}, Action{}} {
		allowLists(top.Definitions[reflect.TypeOf(part).Name()], reflect.TypeOf(part))
	}
	allowFiles(top.Definitions["Configuration"])
	allowFiles(top.Definitions["Action"])
	allowNothing(top)
	for _, name := range []string{"Configuration", "Modules", "Documentation"} {
		allowNothing(top.Definitions[name])
	}
	entry, action := top.Definitions["Entry"], top.Definitions["Action"]
	entry.OneOf = []*jsonschema.Schema{
		{Required: []string{"generator"}}, {Required: []string{"probe"}},
	}
	for _, word := range Generator("").Words() {
		onlyKeys(entry, "generator", word, Entry{Generator: Generator(word)}.keys())
	}
	for _, word := range Probe("").Words() {
		onlyKeys(entry, "probe", word, Entry{Probe: Probe(word)}.keys())
	}
	for _, word := range actions.Kind("").Words() {
		onlyKeys(action, "action", word, keysOf(actions.Kind(word)))
	}
	top.Definitions["Scenario"] = scenarioSchema(top.Definitions["Configuration"])

	texts := arrayOf(ofType("string"))
	set := func(key string, value *jsonschema.Schema) { describe(top, "Experiment", key, value) }
	set("dut", anyOf(ref("Configuration"), nothing()))
	set("workload", anyOf(arrayOf(ref("Entry")), overrides()))
	set("steady", anyOf(texts, nothing()))
	set("actions", anyOf(arrayOf(ref("Action")), overrides(), nothing()))
	set("scenarios", anyOf(mapOf(ref("Scenario"), nothing()), nothing()))
	set("thresholds", anyOf(mapOf(ofType("string"), texts, nothing()), nothing()))
	private := &jsonschema.Schema{Description: meanings()["Experiment"]["^x-"]}
	top.PatternProperties = map[string]*jsonschema.Schema{"^x-": private}
	return json.MarshalIndent(top, "", "  ")
}

// reflected returns the schema of a struct as a mapping, also where a file may write it in another
// way.
func reflected(of any) *jsonschema.Schema {
	r := jsonschema.Reflector{
		FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true,
		ExpandedStruct: true, Anonymous: true,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if t == reflect.TypeOf(of) {
				return nil
			}
			return schemaOf(t)
		},
		LookupComment: func(t reflect.Type, field string) string {
			if field == "" {
				return ""
			}
			f, _ := t.FieldByName(field)
			return meanings()[t.Name()][fieldKey(f)]
		},
	}
	s := r.Reflect(of)
	s.Version = ""
	return s
}

func describe(s *jsonschema.Schema, of, key string, value *jsonschema.Schema) {
	value.Description = meanings()[of][key]
	s.Properties.Set(key, value)
}

func ref(name string) *jsonschema.Schema { return &jsonschema.Schema{Ref: "#/$defs/" + name} }

func anyOf(schemas ...*jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: schemas}
}

func ofType(name string) *jsonschema.Schema { return &jsonschema.Schema{Type: name} }

func nothing() *jsonschema.Schema { return ofType("null") }

func arrayOf(items *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "array", Items: items}
}

// mapOf returns the schema of a mapping whose values have one of the schemas.
func mapOf(values ...*jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", AdditionalProperties: anyOf(values...)}
}

func pattern(form string, examples ...any) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: form, Examples: examples}
}

// schemaOf returns the schema of a type that a file writes in another way than Go holds it, or nil.
func schemaOf(t reflect.Type) *jsonschema.Schema {
	zero := reflect.New(t).Elem().Interface()
	if closed, ok := zero.(worder); ok {
		s := ofType("string")
		for _, word := range closed.Words() {
			s.Enum = append(s.Enum, word)
		}
		return s
	}
	whole := &jsonschema.Schema{Type: "integer", Minimum: "0"}
	port := &jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: "65535"}
	timeForm := `([0-9]{1,15}(\.[0-9]{1,9})?(` + strings.Join(timeUnits, "|") + `|µs))+$`
	switch zero.(type) {
	case Size:
		units := strings.Join(sizeUnits, "|")
		return pattern(`^[0-9]{1,15}\s*(`+units+`)$`, "512MiB", "2GiB")
	case Duration:
		return pattern(`^`+timeForm, "500ms", "5s", "2m")
	case Rate:
		form := `^[0-9]{1,15}(\.[0-9]{1,9})?[kM]?(/(` + strings.Join(rateUnits, "|") + `))?$`
		number := &jsonschema.Schema{Type: "number", Minimum: "0"}
		return anyOf(number, pattern(form, "3000/s", "600/min"))
	case Count:
		return anyOf(whole, pattern(`^[0-9]{1,15}[kM]?$`, "5k", "1M"))
	case Lifetime:
		one := schemaOf(reflect.TypeFor[Duration]())
		form := pattern(`^[a-z]+\(.*\)$`, "exponential(3s)", "lognormal(3s, 1.2)")
		quantiles, two := arrayOf(one), uint64(2)
		quantiles.MinItems = &two
		return anyOf(one, form, quantiles)
	case Weights:
		return pattern(`^zipf\([0-9.]+\)$`, "zipf(1.2)")
	case Sources:
		return anyOf(schemaOf(reflect.TypeFor[Count]()), reflected(zero))
	case int, uint64:
		return whole
	case Port:
		return port
	case PortRange:
		return anyOf(port, pattern(`^[0-9]{1,5}(-[0-9]{1,5})?$`, "8000-8063"))
	case Ports:
		one := schemaOf(reflect.TypeFor[PortRange]())
		return anyOf(one, arrayOf(one))
	case Settings:
		value := anyOf(ofType("string"), ofType("number"), ofType("boolean"))
		lines := &jsonschema.Schema{Type: "string", Description: "lines as in sysctl.conf"}
		return anyOf(mapOf(orList(value), nothing()),
			arrayOf(pattern("=", "net.netfilter.nf_conntrack_max=262144")), lines)
	case Expression:
		return ofType("string")
	case Share:
		return pattern(`^[0-9]{1,3}(\.[0-9]{1,6})?\s*%$`, "2%", "0.5%")
	case Offset:
		return pattern(`^[+-]?`+timeForm, "30s", "-30s")
	case Bandwidth:
		units := strings.Join(bandwidths, "|")
		return pattern(`^[0-9]{1,12}(\.[0-9]{1,6})?\s*(`+units+`)(/s)?$`, "10Mbit/s")
	case Phases:
		return mapOf(schemaOf(reflect.TypeFor[Duration]()), nothing())
	case Cards:
		link := ofType("string")
		link.Enum = []any{nodeClient, nodeServer}
		return mapOf(link)
	case Addresses:
		return mapOf(ofType("string"))
	case Topology:
		return anyOf(schemaOf(reflect.TypeFor[TopologyKind]()), reflected(zero))
	case Recovery:
		return anyOf(schemaOf(reflect.TypeFor[Duration]()), reflected(zero))
	}
	return nil
}

// orList returns the schema of one value, or of the list of values of a matrix.
func orList(s *jsonschema.Schema) *jsonschema.Schema {
	list, one := arrayOf(s), uint64(1)
	list.MinItems = &one
	return anyOf(s, list)
}

// allowLists accepts a list for every value of a type that can be the axis of a matrix.
func allowLists(s *jsonschema.Schema, t reflect.Type) {
	for f := range t.Fields() {
		of := f.Type
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		property, ok := s.Properties.Get(fieldKey(f))
		if ok && f.Tag.Get("matrix") != "no" && isAxis(of) {
			setWide(s, fieldKey(f), property, orList(property))
		}
	}
}

// allowFiles accepts {file: PATH} for the keys whose text may stand in a file.
func allowFiles(s *jsonschema.Schema) {
	file := ofType("object")
	file.Properties, file.Required = jsonschema.NewProperties(), []string{"file"}
	file.Properties.Set("file", anyOf(ofType("string"), arrayOf(ofType("string"))))
	file.AdditionalProperties = jsonschema.FalseSchema
	for _, key := range fileKeys {
		if property, ok := s.Properties.Get(key); ok {
			wide := anyOf(property, file)
			if len(property.AnyOf) > 0 {
				wide = anyOf(append(slices.Clip(property.AnyOf), file)...)
			}
			setWide(s, key, property, wide)
		}
	}
}

// allowNothing accepts the keys of a mapping without a value, which is as if they were missing, or
// removes the inherited value.
func allowNothing(s *jsonschema.Schema) {
	for pair := s.Properties.Oldest(); pair != nil; pair = pair.Next() {
		if slices.Contains(s.Required, pair.Key) {
			continue
		}
		wide := anyOf(pair.Value, nothing())
		if len(pair.Value.AnyOf) > 0 {
			wide = anyOf(append(pair.Value.AnyOf, nothing())...)
		}
		setWide(s, pair.Key, pair.Value, wide)
	}
}

// setWide gives a key a wider schema, which takes the description of the narrow one.
func setWide(s *jsonschema.Schema, key string, narrow, wide *jsonschema.Schema) {
	wide.Description, narrow.Description = narrow.Description, ""
	s.Properties.Set(key, wide)
}

// onlyKeys ties the keys of a mapping to its kind, so that an editor offers the right ones: where
// key has that word, only these are valid.
func onlyKeys(s *jsonschema.Schema, key, word string, keys []string) {
	is, names := jsonschema.NewProperties(), &jsonschema.Schema{}
	is.Set(key, &jsonschema.Schema{Const: word})
	for _, each := range keys {
		names.Enum = append(names.Enum, each)
	}
	s.AllOf = append(s.AllOf, &jsonschema.Schema{
		If:   &jsonschema.Schema{Properties: is, Required: []string{key}},
		Then: &jsonschema.Schema{PropertyNames: names},
	})
}

func overrides() *jsonschema.Schema {
	s := mapOf(ofType("object"), nothing())
	s.Description = "entries of the workload by name, with the keys to change"
	return s
}

// scenarioSchema returns the schema of a configuration with the further keys of a scenario.
func scenarioSchema(configuration *jsonschema.Schema) *jsonschema.Schema {
	s := *configuration
	s.Properties = jsonschema.NewProperties()
	set := func(key string, value *jsonschema.Schema) { describe(&s, "Scenario", key, value) }
	set("summary", ofType("string"))
	for pair := configuration.Properties.Oldest(); pair != nil; pair = pair.Next() {
		s.Properties.Set(pair.Key, pair.Value)
	}
	set("workload", anyOf(overrides(), arrayOf(ref("Entry"))))
	set("actions", anyOf(overrides(), arrayOf(ref("Action")), nothing()))
	set("steady", anyOf(arrayOf(ofType("string")), nothing()))
	return &s
}
