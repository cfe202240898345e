package capture

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	invopop "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "rewrite capture.schema.json")

// TestSchema compares the schema with the types and their comments, and a capture with the schema.
func TestSchema(t *testing.T) {
	const name = "capture.schema.json"
	r := &invopop.Reflector{
		AllowAdditionalProperties: true, ExpandedStruct: true,
		BaseSchemaID: "https://github.com/ctload/ctload/capture",
		Mapper: func(typ reflect.Type) *invopop.Schema {
			if typ == reflect.TypeFor[netip.Addr]() {
				return &invopop.Schema{Type: "string"}
			}
			return nil
		},
	}
	if err := r.AddGoComments("github.com/ctload/ctload/capture", "."); err != nil {
		t.Fatal(err)
	}
	for key, text := range r.CommentMap {
		r.CommentMap[key] = strings.Join(strings.Fields(text), " ")
	}
	s := r.Reflect(&Capture{})
	s.Title = "a capture of ctload, uncompressed"
	want, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(Schema)); diff != "" {
		t.Errorf("%s is out of date; run with -update:\n%s", name, diff)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := ParseEntry("udp 17 9 src=192.0.2.1 dst=192.0.2.2 sport=1 dport=53 " +
		"[UNREPLIED] src=192.0.2.2 dst=192.0.2.1 sport=53 dport=1 use=1")
	if err != nil {
		t.Fatal(err)
	}
	c := &Capture{Schema: SchemaVersion, Counts: []Count{{1, 2}}}
	c.Table.Entries = []Entry{entry}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for text, valid := range map[string]bool{
		string(text): true, `{"schema": "one"}`: false,
		strings.Replace(string(text), `"left":9`, `"left":"9"`, 1): false,
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != valid {
			t.Errorf("%s: %v", text, err)
		}
	}
}
