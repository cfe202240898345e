package reports

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/results"
)

// TestFieldsPage compares docs/fields.md with the model: each field that a threshold may name, each
// with a meaning.
func TestFieldsPage(t *testing.T) {
	fields, err := results.Fields()
	if err != nil {
		t.Fatal(err)
	}
	workload := func(e results.Entry) results.Workload {
		return results.Workload{
			Entries: map[string]results.Entry{"NAME": e},
			Probes:  map[string]results.Probe{"NAME": {}},
		}
	}
	answered, oneWay := workload(results.Entry{}), workload(results.Entry{
		Attempts: results.Attempts{Sent: new(int64)},
	})
	for _, f := range fields {
		if f.Meaning == "" {
			t.Errorf("the model does not say what %s means", f.Name)
		}
		if f.Kind == "text" || f.Kind == "list" || f.Kind == "object" {
			continue
		}
		w := answered
		if strings.HasSuffix(f.Name, ".sent") {
			w = oneWay
		}
		if _, err := results.CompileThreshold(f.Name+" == "+f.Name, w); err != nil {
			t.Errorf("a threshold cannot name %s: %v", f.Name, err)
		}
	}
	rest, err := results.DocumentFields()
	if err != nil || len(rest) < 100 {
		t.Fatalf("%d further fields: %v", len(rest), err)
	}
	for _, f := range rest {
		if f.Meaning == "" {
			t.Errorf("the model does not say what %s means", f.Name)
		}
	}
	var page bytes.Buffer
	if err := Fields(&page, "markdown", fields, Options{}); err != nil {
		t.Fatal(err)
	}
	const path = "../docs/fields.md"
	if *update {
		if err := os.WriteFile(path, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), page.String()); diff != "" {
		t.Errorf("docs/fields.md is out of date (go test ./reports -run FieldsPage -update):\n%s",
			diff)
	}
}
