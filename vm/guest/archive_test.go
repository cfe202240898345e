package guest

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/kernels"
)

// named returns a copy of a distribution.
func named(t *testing.T, id string) *distro {
	t.Helper()
	for _, d := range distros {
		if d.id == id {
			return &d
		}
	}
	t.Fatalf("no distribution %s", id)
	return nil
}

func TestArchives(t *testing.T) {
	debian := []source{
		{uris: []string{"http://mirror.example/debian/"},
			suites: []string{"bookworm", "bookworm-updates"}, components: []string{"main"}},
		{uris: []string{"http://fixes.example/debian-security"},
			suites: []string{"bookworm-security"}, components: []string{"main"}},
		{uris: []string{"https://apt.example/internal"}, suites: []string{"trixie"},
			components: []string{"main"},
			signedBy:   "/usr/share/keyrings/debian-archive-keyring.gpg"},
	}
	foreign := []source{
		{uris: []string{"https://vendor.example/stable/debian"}, suites: []string{"bookworm"},
			components: []string{"main"}, signedBy: "/usr/share/keyrings/vendor.gpg"},
		{uris: []string{"https://vendor.example/debian"}, suites: []string{"bookworm"},
			components: []string{"stable"}},
		{uris: []string{"https://node.example/debian"}, suites: []string{"nodistro"},
			components: []string{"main"}},
		{uris: []string{"https://vendor.example/tool"}, suites: []string{"bookworm"},
			components: []string{"main"}},
	}
	ubuntu := []source{
		{uris: []string{"http://mirror.example/ubuntu"},
			suites:     []string{"noble", "noble-updates", "noble-security"},
			components: []string{"main", "universe"}},
	}
	tests := []struct {
		name, id, suite string
		host            []source
		want            []string // the first archives; the last may be debootstrap's
	}{
		{"with security", "debian", "bookworm", append(foreign, debian...), []string{
			"mirror.example/debian bookworm|fixes.example/debian-security bookworm-security",
			"apt.example/internal bookworm|fixes.example/debian-security bookworm-security",
		}},
		{"another suite of the host's mirror", "debian", "trixie", debian[:2], []string{
			"mirror.example/debian trixie|fixes.example/debian-security trixie-security",
		}},
		{"backports have no security of their own", "debian", "bookworm-backports", debian[:2],
			[]string{"mirror.example/debian bookworm-backports"}},
		{"nor has sid", "debian", "sid", debian[:2], []string{"mirror.example/debian sid"}},
		{"pockets", "ubuntu", "jammy", append(ubuntu, debian...), []string{
			"mirror.example/ubuntu jammy|mirror.example/ubuntu jammy-updates|" +
				"mirror.example/ubuntu jammy-security",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := named(t, tt.id)
			t.Setenv(d.env, "")
			archives, err := d.archives(t.Context(), tt.suite, tt.host)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range archives[:len(tt.want)] {
				var lines []string
				for _, part := range a {
					_, rest, _ := strings.Cut(part, "://")
					lines = append(lines, strings.TrimSuffix(rest, " main"))
				}
				got = append(got, strings.Join(lines, "|"))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if len(archives) > len(tt.want)+1 {
				t.Errorf("too many archives: %q", archives)
			}
		})
	}
}

func TestArchivesOfTheEnvironment(t *testing.T) {
	d := named(t, "debian")
	t.Setenv(d.env, "http://chosen.example/debian")
	archives, err := d.archives(t.Context(), "sid",
		[]source{{uris: []string{"http://mirror.example/debian"}, suites: []string{"sid"},
			components: []string{"main"}}})
	if err != nil || len(archives) != 1 ||
		!strings.Contains(archives[0][0], "http://chosen.example/debian sid main") {
		t.Errorf("got %q, %v; want the chosen mirror alone", archives, err)
	}
	for _, bad := range []string{"chosen.example", "http://a.example/ b",
		"http://a.example/\ndeb http://b.example/"} {
		t.Setenv(d.env, bad)
		_, err := d.archives(t.Context(), "sid", nil)
		if err == nil || !strings.Contains(err.Error(), d.env) {
			t.Errorf("mirror %q: error %v, want one that names %s", bad, err, d.env)
		}
	}
}

// TestTrusted_WithoutKeyring lets apt trust the keys that ctload brings, and those of the host
// where it has some.
func TestTrusted_WithoutKeyring(t *testing.T) {
	d := named(t, "debian")
	dir := t.TempDir()
	own, host := filepath.Join(dir, "keys.asc"), filepath.Join(dir, "host.gpg")
	d.keyrings = []string{filepath.Join(dir, "absent.gpg"), host}
	for _, want := range []string{own, own + "," + host} {
		files, err := d.trusted(own)
		if err != nil {
			t.Fatal(err)
		}
		got := archive{"http://mirror.example/debian sid main"}.sources(files)
		if line := fmt.Sprintf("deb [arch=%s signed-by=%s target=Packages] "+
			"http://mirror.example/debian sid main\n", runtime.GOARCH, want); got != line {
			t.Errorf("got %q, want %q", got, line)
		}
		writeFile(t, host, "")
	}
	for _, d := range distros {
		if !strings.HasPrefix(d.keys, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n") {
			t.Errorf("%s: the keys are no armored block", d.id)
		}
	}
}

func TestDefaultMirrorWithoutDebootstrap(t *testing.T) {
	d := named(t, "debian")
	d.script = "absent"
	_, err := d.defaultMirror(t.Context(), "trixie")
	missing, ok := errors.AsType[*MissingError](err)
	if !ok || missing.Fix != Install+"debootstrap" {
		t.Errorf("error %v, want the packages to install", err)
	}
}

func TestScriptMirror(t *testing.T) {
	dir, err := filepath.Abs("testdata/debootstrap/scripts")
	if err != nil {
		t.Fatal(err)
	}
	branches := map[string]string{"amd64": "http://mirror.example/ubuntu",
		"arm64": "http://ports.example/ubuntu-ports"}[runtime.GOARCH]
	for name, want := range map[string]string{"branches": branches, "silent": "", "absent": ""} {
		got, err := scriptMirror(t.Context(), filepath.Join(dir, name), "noble")
		if err != nil || got != want {
			t.Errorf("script %s: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestProgramMirror(t *testing.T) {
	const text = "#!/bin/sh\nDEF_HTTPS_MIRROR=\"https://mirror.example/debian\"\n  " +
		"DEF_MIRROR=\"http://mirror.example/debian\"\n"
	if got := programMirror(text); got != "http://mirror.example/debian" {
		t.Errorf("got %q", got)
	}
	if got := programMirror("nothing"); got != "" {
		t.Errorf("got %q from nothing", got)
	}
}

// TestDefaultMirrorOfThisHost asks this host's debootstrap.
func TestDefaultMirrorOfThisHost(t *testing.T) {
	hosttest.Need(t, "debootstrap")
	for _, d := range distros {
		mirror, err := d.defaultMirror(t.Context(), d.codenames[0])
		if err != nil || !strings.HasPrefix(mirror, "http") || !strings.Contains(mirror, d.id) {
			t.Errorf("%s: %q, %v", d.id, mirror, err)
		}
	}
}

func TestKernelNames(t *testing.T) {
	for _, name := range KernelNames() {
		if name == kernels.HostName {
			continue
		}
		d, suite, err := findDistro(name)
		if err != nil || d.id+"/"+suite != name || !d.owns(suite) {
			t.Errorf("%s: %v, %s, %v", name, d, suite, err)
		}
	}
	_, err := new(Store).Kernel(t.Context(), "debian/bokworm")
	unknown, ok := errors.AsType[*UnknownKernelError](err)
	if !ok || unknown.Name != "debian/bokworm" {
		t.Fatalf("error %v, want an UnknownKernelError", err)
	}
	for _, want := range []string{`did you mean "debian/bookworm"?`, "debian/trixie", "host"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}
