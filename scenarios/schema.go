package scenarios

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/ctload/ctload/internal/actions"
)

// schemaID names the schema; no program fetches anything from there.
const schemaID = "https://github.com/ctload/ctload/scenarios/experiment"

// Schema returns the JSON schema (draft 2020-12) of an experiment file, indented. Editors complete
// and check files with it. It is made from the types that files are decoded into; it leaves open
// what only the loader can check, such as names of scenarios in thresholds.
func Schema() ([]byte, error) {
	r := &jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, ExpandedStruct: true, Anonymous: true, Mapper: schemaOf}
	top := r.Reflect(document{})
	top.ID = schemaID
	top.Title = "a ctload experiment"
	for _, part := range []any{Configuration{}, Entry{}, Action{}} {
		reflected := r.Reflect(part)
		for name, definition := range reflected.Definitions {
			top.Definitions[name] = definition
		}
		reflected.Definitions, reflected.Version = nil, ""
		top.Definitions[reflect.TypeOf(part).Name()] = reflected
	}
	for _, t := range []reflect.Type{reflect.TypeFor[Configuration](), reflect.TypeFor[Entry](), reflect.TypeFor[Stage](), reflect.TypeFor[Action]()} {
		allowLists(top.Definitions[t.Name()], t)
	}
	for _, s := range []*jsonschema.Schema{top, top.Definitions["Configuration"], top.Definitions["Modules"], top.Definitions["Documentation"]} {
		allowNothing(s)
	}
	entrySchema(top.Definitions["Entry"])
	actionSchema(top.Definitions["Action"])
	top.Definitions["Scenario"] = scenarioSchema(top.Definitions["Configuration"])
	top.PatternProperties = map[string]*jsonschema.Schema{"^x-": {Description: "ignored: a place for anchors"}}
	describe(top, "dut", "the machine under test", anyOf(ref("Configuration"), nothing()))
	describe(top, "workload", "what happens during a trial: generators and probes, all at the same time unless start says otherwise",
		anyOf(arrayOf(ref("Entry")), overridesSchema()))
	describe(top, "steady", steadyMeans, anyOf(arrayOf(ofText()), nothing()))
	describe(top, "actions", actionsMean, anyOf(arrayOf(ref("Action")), overridesSchema(), nothing()))
	describe(top, "scenarios", "the kernel configurations that are compared: names with the changes that each makes to the dut",
		anyOf(&jsonschema.Schema{Type: "object", AdditionalProperties: anyOf(ref("Scenario"), nothing())}, nothing()))
	describe(top, "thresholds", "what must hold: names of scenarios, or all, with expressions over the figures of run.json",
		anyOf(&jsonschema.Schema{
			Type: "object", AdditionalProperties: anyOf(ofText(), arrayOf(ofText()), nothing()),
		}, nothing()))
	return json.MarshalIndent(top, "", "  ")
}

// describe adds a key with its description to the schema of a mapping.
func describe(s *jsonschema.Schema, key, description string, value *jsonschema.Schema) {
	value.Description = description
	s.Properties.Set(key, value)
}

func ref(name string) *jsonschema.Schema { return &jsonschema.Schema{Ref: "#/$defs/" + name} }

func anyOf(schemas ...*jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: schemas}
}

func nothing() *jsonschema.Schema { return &jsonschema.Schema{Type: "null"} }

func ofText() *jsonschema.Schema { return &jsonschema.Schema{Type: "string"} }

func arrayOf(items *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "array", Items: items}
}

func pattern(form string, examples ...any) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: form, Examples: examples}
}

// schemaOf returns the schema of a type that a file writes in another way than Go holds it, or nil.
func schemaOf(t reflect.Type) *jsonschema.Schema {
	zero := reflect.New(t).Elem().Interface()
	if closed, ok := zero.(worder); ok {
		s := &jsonschema.Schema{Type: "string"}
		for _, word := range closed.Words() {
			s.Enum = append(s.Enum, word)
		}
		return s
	}
	whole := &jsonschema.Schema{Type: "integer", Minimum: "0"}
	port := &jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: "65535"}
	switch zero.(type) {
	case Size:
		return pattern(`^[0-9]{1,15}\s*(`+strings.Join(sizeUnits, "|")+`)$`, "512MiB", "2GiB")
	case Duration:
		return pattern(`^([0-9]{1,15}(\.[0-9]{1,9})?(`+strings.Join(timeUnits, "|")+`|µs))+$`, "500ms", "5s", "2m")
	case Rate:
		number := &jsonschema.Schema{Type: "number", Minimum: "0"}
		return anyOf(number, pattern(`^[0-9]{1,15}(\.[0-9]{1,9})?[kM]?(/(`+strings.Join(rateUnits, "|")+`))?$`, "3000/s", "600/min"))
	case Count:
		return anyOf(whole, pattern(`^[0-9]{1,15}[kM]?$`, "5k", "1M"))
	case int, uint64:
		return whole
	case Port:
		return port
	case PortRange:
		return anyOf(port, pattern(`^[0-9]{1,5}(-[0-9]{1,5})?$`, "8000-8063"))
	case Ports:
		one := schemaOf(reflect.TypeFor[PortRange]())
		return anyOf(one, &jsonschema.Schema{Type: "array", Items: one})
	case Settings:
		value := anyOf(&jsonschema.Schema{Type: "string"}, &jsonschema.Schema{Type: "number"}, &jsonschema.Schema{Type: "boolean"})
		return anyOf(
			&jsonschema.Schema{Type: "object", AdditionalProperties: anyOf(orList(value), nothing())},
			&jsonschema.Schema{Type: "array", Items: pattern("=", "net.netfilter.nf_conntrack_max=262144")},
			&jsonschema.Schema{Type: "string", Description: "lines as in sysctl.conf"})
	case Expression:
		return &jsonschema.Schema{Type: "string"}
	case Share:
		return pattern(`^[0-9]{1,3}(\.[0-9]{1,6})?\s*%$`, "2%", "0.5%")
	case Offset:
		return pattern(`^[+-]?([0-9]{1,15}(\.[0-9]{1,9})?(`+strings.Join(timeUnits, "|")+`|µs))+$`, "30s", "-30s")
	case Bandwidth:
		return pattern(`^[0-9]{1,12}(\.[0-9]{1,6})?\s*(`+strings.Join(bandwidths, "|")+`)(/s)?$`, "10Mbit/s")
	case Phases:
		return &jsonschema.Schema{Type: "object", AdditionalProperties: anyOf(schemaOf(reflect.TypeFor[Duration]()), nothing())}
	case Topology:
		type plain Topology
		return anyOf(schemaOf(reflect.TypeFor[TopologyKind]()), mappingOf(plain{}))
	case Recovery:
		type plain Recovery
		return anyOf(schemaOf(reflect.TypeFor[Duration]()), mappingOf(plain{}))
	}
	return nil
}

// mappingOf returns the schema of a struct that a file writes as a mapping, among other forms.
func mappingOf(of any) *jsonschema.Schema {
	r := &jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, DoNotReference: true, Anonymous: true, Mapper: schemaOf}
	s := r.Reflect(of)
	s.Version = ""
	return s
}

// orList returns the schema of one value, or of the list of values of a matrix.
func orList(s *jsonschema.Schema) *jsonschema.Schema {
	one := uint64(1)
	return anyOf(s, &jsonschema.Schema{Type: "array", Items: s, MinItems: &one})
}

// allowLists accepts a list for every value of a type that can be the axis of a matrix.
func allowLists(s *jsonschema.Schema, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		of := f.Type
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if f.Tag.Get("matrix") == "no" || !isAxis(of) {
			continue
		}
		if property, ok := s.Properties.Get(fieldKey(f)); ok {
			setWide(s, fieldKey(f), property, orList(property))
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

// entrySchema ties the keys of an entry to its kind, so that an editor offers the right ones.
func entrySchema(s *jsonschema.Schema) {
	s.OneOf = []*jsonschema.Schema{{Required: []string{"generator"}}, {Required: []string{"probe"}}}
	for _, word := range Generator("").Words() {
		keys := Entry{Generator: Generator(word)}.keys()
		s.AllOf = append(s.AllOf, onlyKeys("generator", word, keys))
	}
	for _, word := range Probe("").Words() {
		s.AllOf = append(s.AllOf, onlyKeys("probe", word, Entry{Probe: Probe(word)}.keys()))
	}
}

// onlyKeys returns the schema that a mapping with these keys alone meets where a key has that word.
func onlyKeys(key, word string, keys []string) *jsonschema.Schema {
	is := jsonschema.NewProperties()
	is.Set(key, &jsonschema.Schema{Const: word})
	names := &jsonschema.Schema{}
	for _, each := range keys {
		names.Enum = append(names.Enum, each)
	}
	return &jsonschema.Schema{
		If:   &jsonschema.Schema{Properties: is, Required: []string{key}},
		Then: &jsonschema.Schema{PropertyNames: names},
	}
}

// overridesSchema returns the schema of a workload changed by the names of its entries.
func overridesSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", AdditionalProperties: anyOf(&jsonschema.Schema{Type: "object"}, nothing()),
		Description: "entries of the workload by name, with the keys to change"}
}

// scenarioSchema returns the schema of a configuration with the further keys of a scenario.
func scenarioSchema(configuration *jsonschema.Schema) *jsonschema.Schema {
	s := *configuration
	s.Properties = jsonschema.NewProperties()
	s.Properties.Set("summary", &jsonschema.Schema{Type: "string", Description: "one line"})
	for pair := configuration.Properties.Oldest(); pair != nil; pair = pair.Next() {
		s.Properties.Set(pair.Key, pair.Value)
	}
	describe(&s, "workload", "changes to entries of the workload, by name; or a workload of its own",
		anyOf(overridesSchema(), arrayOf(ref("Entry"))))
	describe(&s, "actions", "changes to actions, by name; or actions of its own",
		anyOf(overridesSchema(), arrayOf(ref("Action")), nothing()))
	describe(&s, "steady", steadyMeans+"; in place of the experiment's", anyOf(arrayOf(ofText()), nothing()))
	return &s
}

// Descriptions of the keys, for the schema.
const (
	steadyMeans = "what normal means: expressions over the fields of the time line, which hold before the first action and again when it has healed"
	actionsMean = "faults and emergency fixes on the time line of a trial"
)

// actionSchema ties the keys of an action to its kind.
func actionSchema(s *jsonschema.Schema) {
	for _, word := range actions.Kind("").Words() {
		s.AllOf = append(s.AllOf, onlyKeys("action", word, keysOf(actions.Kind(word))))
	}
}
