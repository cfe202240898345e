package scenarios

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// same compares experiments by their meaning: it ignores places in files.
var same = cmp.Options{
	cmpopts.IgnoreTypes(Position{}),
	cmpopts.IgnoreUnexported(Experiment{}),
	cmpopts.IgnoreFields(Head{}, "Extends", "Omit"), // written out in full
	cmpopts.EquateEmpty(),
}

// roundTrip writes an experiment, reads it again and reports what has changed.
func roundTrip(t *testing.T, e *Experiment) {
	t.Helper()
	text, err := e.MarshalYAML()
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := Parse("again.yaml", text)
	if err != nil {
		t.Fatalf("what was written does not load: %v\n%s", err, text)
	}
	if diff := cmp.Diff(e, again, same); diff != "" {
		t.Fatalf("what was written loads as something else (-was +is):\n%s\n%s", diff, text)
	}
	if diff := cmp.Diff(e.Resolve(), again.Resolve(), same); diff != "" {
		t.Fatalf("what was written resolves to something else (-was +is):\n%s\n%s", diff, text)
	}
	second, err := again.MarshalYAML()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(second)); diff != "" {
		t.Fatalf("written twice, the text differs:\n%s", diff)
	}
}

func TestShippedExperimentsRoundTrip(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			e, _, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, e)
			if err := e.SetKernels([]string{"debian/bookworm", "debian/trixie"}); err != nil {
				t.Fatal(err)
			}
			roundTrip(t, e)
			if err := e.Select([]string{e.Resolve()[1].Name}); err != nil {
				t.Fatal(err)
			}
			e.Trials = 7
			roundTrip(t, e)
		})
	}
}
