package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ctload/ctload/orchestrator"
	"github.com/ctload/ctload/results"
	"github.com/ctload/ctload/scenarios"
)

// TestRunSchema holds the workload and the actions of every shipped experiment, as run.json has
// them, to the schema that report --schema prints: its entries are those of an experiment.
func TestRunSchema(t *testing.T) {
	var b bytes.Buffer
	if err := runSchema(&b); err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(&b)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("run.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("run.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(run *results.Run) error {
		var text bytes.Buffer
		if err := results.Encode(&text, run); err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(&text)
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(document)
	}
	acted := false
	for _, name := range scenarios.Names() {
		_, text, err := scenarios.Read(name, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		experiment, _, err := scenarios.Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := orchestrator.NewPlan(experiment, 1)
		if err != nil {
			t.Fatal(err)
		}
		run := plan.Expected()
		for _, s := range run.Scenarios {
			acted = acted || len(s.Actions) > 0
		}
		if len(run.Workload) == 0 {
			t.Errorf("%s: no workload", name)
		}
		if err := validate(run); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !acted {
		t.Error("no experiment has actions")
	}
	for _, settings := range []results.Settings{
		{"generator": "htpp"}, {"action": "flush", "lasts": "5s"}, {"rate": "5/s"},
	} {
		run := &results.Run{
			Schema: results.SchemaVersion, Scenarios: []results.Scenario{},
			Workload: results.Asked{settings},
		}
		if err := validate(run); err == nil {
			t.Errorf("%v is valid", settings)
		}
	}
}
