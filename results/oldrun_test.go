package results

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOldRunIsStillRead: testdata/run-N.json is a document of schema N as it was first written,
// with every field. It is never rewritten: each of its figures must still be read, and keep its
// name.
func TestOldRunIsStillRead(t *testing.T) {
	for version := range SchemaVersion {
		t.Run(fmt.Sprint(version+1), func(t *testing.T) { stillRead(t, version+1) })
	}
}

func stillRead(t *testing.T, version int) {
	data, err := os.ReadFile(fmt.Sprintf("testdata/run-%d.json", version))
	if err != nil {
		t.Fatal(err)
	}
	run, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := Encode(&again, run); err != nil {
		t.Fatal(err)
	}
	var before, after any
	if err := json.Unmarshal(data, &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again.Bytes(), &after); err != nil {
		t.Fatal(err)
	}
	before.(map[string]any)["schema"] = float64(SchemaVersion) // decode returns the current schema
	// Before schema 3 it is a text, which is "x" and no list there.
	if version < 3 {
		before.(map[string]any)["workload"] = []any{map[string]any{"text": "x"}}
	}
	if diff := cmp.Diff(before, common(after, before)); diff != "" {
		t.Errorf("lost or renamed (-then +now):\n%s", diff)
	}
}

// common removes from a document what the other one lacks: later builds add fields.
func common(document, other any) any {
	switch d := document.(type) {
	case map[string]any:
		o, _ := other.(map[string]any)
		kept := map[string]any{}
		for key, value := range d {
			if theirs, ok := o[key]; ok {
				kept[key] = common(value, theirs)
			}
		}
		return kept
	case []any:
		o, _ := other.([]any)
		kept := make([]any, len(d))
		for i := range d {
			var theirs any
			if i < len(o) {
				theirs = o[i]
			}
			kept[i] = common(d[i], theirs)
		}
		return kept
	default:
		return document
	}
}
