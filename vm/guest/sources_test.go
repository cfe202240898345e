package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var oneLineTests = []struct {
	name, text string
	want       []source
}{
	{"plain", "deb http://mirror.example/debian bookworm main contrib\n", []source{
		{uris: []string{"http://mirror.example/debian"}, suites: []string{"bookworm"},
			components: []string{"main", "contrib"}},
	}},
	{"options", "deb [ arch=amd64,arm64 signed-by=/k.gpg ] https://mirror.example/debian/ sid " +
		"main # the best\n", []source{
		{uris: []string{"https://mirror.example/debian/"}, suites: []string{"sid"},
			components: []string{"main"}, signedBy: "/k.gpg"},
	}},
	{"options without blanks", "deb [Signed-By=/k.gpg]http://m.example/debian sid main", []source{
		{uris: []string{"http://m.example/debian"}, suites: []string{"sid"},
			components: []string{"main"}, signedBy: "/k.gpg"},
	}},
	{"list of mirrors", "deb mirror+file:/etc/apt/mirrors/debian.list trixie main\n", []source{
		{uris: []string{"mirror+file:/etc/apt/mirrors/debian.list"}, suites: []string{"trixie"},
			components: []string{"main"}},
	}},
	{"tabs", "deb\thttp://m.example/debian\tsid\tmain", []source{
		{uris: []string{"http://m.example/debian"}, suites: []string{"sid"},
			components: []string{"main"}},
	}},
	{"of no use", `# deb http://m.example/debian sid main
deb-src http://m.example/debian sid main
deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb http://m.example/flat ./
debx http://m.example/debian sid main
deb [arch=amd64 http://m.example/debian sid main
deb
`, nil},
}

func TestParseOneLine(t *testing.T) {
	for _, tt := range oneLineTests {
		t.Run(tt.name, func(t *testing.T) {
			diff := cmp.Diff(tt.want, parseOneLine(tt.text), cmp.AllowUnexported(source{}))
			if diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

var deb822Tests = []struct {
	name, text string
	want       []source
}{
	{"two stanzas", `# comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

types: deb
uris: http://fixes.example/debian-security http://other.example/debian-security
suites: bookworm-security
components: main
enabled: yes
`, []source{
		{
			uris:   []string{"http://mirror.example/debian"},
			suites: []string{"bookworm", "bookworm-updates"}, components: []string{"main"},
			signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg",
		},
		{
			uris: []string{"http://fixes.example/debian-security",
				"http://other.example/debian-security"},
			suites: []string{"bookworm-security"}, components: []string{"main"},
		},
	}},
	{"continued",
		"Types: deb\nURIs:\n http://a.example/debian\n# between\n " +
			"http://b.example/debian\nSuites: sid\nComponents: main\n", []source{
			{uris: []string{"http://a.example/debian", "http://b.example/debian"},
				suites: []string{"sid"}, components: []string{"main"}},
		}},
	{"key in the text",
		"Types: deb\nURIs: http://a.example/x\nSuites: sid\nComponents: main\nSigned-By:\n " +
			"-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n", []source{
			{
				uris: []string{"http://a.example/x"}, suites: []string{"sid"},
				components: []string{"main"},
				signedBy:   "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc",
			},
		}},
	{"of no use", `Types: deb
URIs: http://m.example/debian
Suites: sid
Components: main
Enabled: No

Types: deb-src
URIs: http://m.example/debian
Suites: sid
Components: main

Types: deb
URIs: http://m.example/flat
Suites: ./

Types: deb
URIs: cdrom:x
Suites: sid
Components: main

 stray: value
no colon
`, nil},
}

func TestParseDeb822(t *testing.T) {
	for _, tt := range deb822Tests {
		t.Run(tt.name, func(t *testing.T) {
			diff := cmp.Diff(tt.want, parseDeb822(tt.text), cmp.AllowUnexported(source{}))
			if diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func FuzzSources(f *testing.F) {
	for _, tt := range oneLineTests {
		f.Add(tt.text)
	}
	for _, tt := range deb822Tests {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range append(parseOneLine(text), parseDeb822(text)...) {
			if !s.useful() {
				t.Errorf("%+v is of no use", s)
			}
			// Each URI becomes a part of a line for apt.
			for _, uri := range s.uris {
				if strings.ContainsAny(uri, " \t\n\r[]") {
					t.Errorf("address %q would not stay one word", uri)
				}
			}
		}
	})
}

func TestHostSources(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"sources.list":                   oneLineTests[0].text,
		"sources.list.d/a.list":          oneLineTests[1].text,
		"sources.list.d/b.sources":       deb822Tests[0].text,
		"sources.list.d/c.list.disabled": oneLineTests[3].text,
	}
	if err := os.Mkdir(filepath.Join(dir, "sources.list.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := hostSources(dir)
	if err != nil {
		t.Fatal(err)
	}
	var want []source
	want = append(want, oneLineTests[0].want...)
	want = append(want, oneLineTests[1].want...)
	want = append(want, deb822Tests[0].want...)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(source{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, err := hostSources(filepath.Join(dir, "absent")); err != nil || got != nil {
		t.Errorf("a host without sources gives %v, %v", got, err)
	}
}

// FuzzStanzas checks that fields of control files stay apart.
func FuzzStanzas(f *testing.F) {
	f.Add("Package: a\nVersion: 1\nDepends: b,\n c\n\nPackage: d\n")
	f.Add("\n \n: \n a\nB")
	f.Fuzz(func(t *testing.T, text string) {
		for _, fields := range stanzas(text) {
			for name := range fields {
				if strings.ContainsAny(name, "\n:") || name != strings.ToLower(name) {
					t.Errorf("field %q", name)
				}
			}
		}
	})
}
