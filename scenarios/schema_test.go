package scenarios

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("experiment.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("experiment.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(schema *jsonschema.Schema, text []byte) error {
	converted, err := yaml.YAMLToJSON(text)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(converted))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func TestShippedExperimentsFitTheSchema(t *testing.T) {
	schema := compiledSchema(t)
	for _, name := range Names() {
		text, err := Shipped(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(schema, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		e, _, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		written, err := e.MarshalYAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(schema, written); err != nil {
			t.Errorf("%s as written: %v", name, err)
		}
	}
}

func TestValidFilesFitTheSchema(t *testing.T) {
	schema := compiledSchema(t)
	files, err := filepath.Glob("testdata/valid/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(schema, text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestSchemaRefuses checks that the schema does not accept everything.
func TestSchemaRefuses(t *testing.T) {
	schema := compiledSchema(t)
	const head = "experiment: x\nworkload: [{generator: http, requests: 5, concurrency: 1}]\n"
	if err := validate(schema, []byte(head)); err != nil {
		t.Fatalf("a valid file is refused: %v", err)
	}
	for _, text := range []string{
		"workload: []\n",
		head + "dut: {memroy: 512MiB}\n",
		head + "dut: {memory: 512MB}\n",
		head + "dut: {memory: [512MiB, 2]}\n",
		head + "recovery: 5\n",
		head + "recovery: [5s, 6s]\n",
		head + "recovery: {at-leats: 5s}\n",
		head + "topology: bridge\n",
		head + "scenarios: {a: {sysctls: {a.b: 1}}}\n",
		head + "trials: -1\n",
		head + "unknown: 1\n",
		strings.Replace(head, "requests: 5", "flows: 5", 1),
		strings.Replace(head, "http", "htp", 1),
		strings.Replace(head, "generator: http, ", "", 1),
		strings.Replace(head, "concurrency: 1", "rate: 5zz", 1),
	} {
		if err := validate(schema, []byte(text)); err == nil {
			t.Errorf("the schema accepts\n%s", text)
		}
	}
}

// TestKeys_HaveMeanings requires a description for every key of the language, and no other.
func TestKeys_HaveMeanings(t *testing.T) {
	for _, of := range []any{
		Head{}, Documentation{}, Topology{}, Recovery{}, Configuration{}, Modules{},
		Entry{}, Stage{}, Burst{}, Sine{}, Action{},
	} {
		name := reflect.TypeOf(of).Name()
		keys := slices.Sorted(slices.Values(fieldKeys(reflect.TypeOf(of))))
		described := slices.Sorted(maps.Keys(meanings()[name]))
		if diff := cmp.Diff(keys, described); diff != "" {
			t.Errorf("keys.yaml describes other keys of %s (-key +described):\n%s", name, diff)
		}
	}
}
