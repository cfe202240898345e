package scenarios

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestValidFiles checks the meaning of the language: the golden file of each valid one has its
// warnings and the experiment as it would run.
func TestValidFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/valid/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			e, warnings, err := Parse(filepath.Base(file), data)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, e)
			var b strings.Builder
			for _, w := range warnings {
				fmt.Fprintf(&b, "# %s\n", w)
			}
			text, err := e.MarshalYAML()
			if err != nil {
				t.Fatal(err)
			}
			b.Write(text)
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", b.String())
		})
	}
}

// TestByteOrderMark reads a file that begins as some editors begin it: its places are as without.
func TestByteOrderMark(t *testing.T) {
	const mark = "\ufeff"
	e, _, err := Parse("x.yaml", []byte(mark+"experiment: marked\n"+
		"workload: [{generator: http, requests: 5, concurrency: 1}]\n"))
	if err != nil || e.Name != "marked" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, _, err := Parse("x.yaml", []byte(mark+"experimen: x\n")); err == nil ||
		!strings.Contains(err.Error(), "x.yaml:1:1") {
		t.Errorf("an error after the mark: %v", err)
	}
}
