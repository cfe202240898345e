package scenarios

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares a text with the file that holds the expected one.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-want +got):\n%s", file, diff)
	}
}

// malformed returns the archives of malformed experiments, by their file: pairs of NAME.yaml and
// NAME.txt, which holds the expected message. A ␀ stands for the byte NUL.
func malformed(t testing.TB) map[string]*txtar.Archive {
	t.Helper()
	files, err := filepath.Glob("testdata/malformed/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	archives := map[string]*txtar.Archive{}
	for _, file := range files {
		if archives[file], err = txtar.ParseFile(file); err != nil {
			t.Fatal(err)
		}
	}
	return archives
}

// experimentIn returns the text of a file of a malformed archive.
func experimentIn(file txtar.File) []byte {
	return bytes.ReplaceAll(file.Data, []byte("␀"), []byte{0})
}

// TestMalformedFiles checks the words of the loader's errors, place and excerpt included.
func TestMalformedFiles(t *testing.T) {
	seen := 0
	for path, archive := range malformed(t) {
		for pair := range slices.Chunk(archive.Files, 2) {
			seen++
			name := strings.TrimSuffix(pair[0].Name, ".yaml")
			if len(pair) != 2 || pair[1].Name != name+".txt" {
				t.Fatalf("%s: %s has no %s.txt behind it", path, pair[0].Name, name)
			}
			t.Run(name, func(t *testing.T) {
				_, _, err := Parse(pair[0].Name, experimentIn(pair[0]))
				var invalid *InvalidError
				if !errors.As(err, &invalid) {
					t.Fatalf("loads, or fails with something else: %v", err)
				}
				said := invalid.Error() + "\n"
				if diff := cmp.Diff(string(pair[1].Data), said); diff != "" && !*update {
					t.Errorf("differs from %s (-want +got):\n%s", path, diff)
				}
				pair[1].Data = []byte(said)
			})
		}
		if *update {
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if seen < 181 {
		t.Errorf("only %d malformed experiments", seen)
	}
}
