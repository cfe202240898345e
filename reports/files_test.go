package reports

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ParseFiles([]string{"junit=" + at("a.xml"), "html=" + at("b=c.html")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]File{{"junit", at("a.xml")}, {"html", at("b=c.html")}}, got); diff != "" {
		t.Error(diff)
	}
	for text, words := range map[string]string{
		"junit":                        "FORMAT=FILE",
		"junit=":                       "FORMAT=FILE",
		"":                             "FORMAT=FILE",
		"junt=" + at("x"):              `"junit"`,
		"junit=" + at("no/such/x.xml"): "no such file",
		"junit=" + at("plain/x.xml"):   "not a",
	} {
		if _, err := ParseFiles([]string{text}); err == nil ||
			!strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ParseFiles([]string{"csv=" + at("x"), "html=" + dir + "/./x"}); err == nil {
		t.Error("two reports go to one file")
	}
}

// TestWriteFiles: a file holds the output without a terminal, and a file that cannot be written
// costs no other.
func TestWriteFiles(t *testing.T) {
	dir := t.TempDir()
	files := []File{
		{"junit", dir}, {"table", filepath.Join(dir, "t.txt")},
		{"html", filepath.Join(dir, "p.html")},
	}
	o := Options{Width: 200, Color: true, Series: sampled{20}}
	if err := WriteFiles(files, judged(), o); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder was written to: %v", err)
	}
	for _, f := range files[1:] {
		got, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		want := render(t, f.Format, judged(), Options{Series: sampled{20}})
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Error(diff)
		}
	}
}
