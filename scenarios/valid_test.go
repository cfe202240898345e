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
