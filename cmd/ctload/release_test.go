package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRelease_NeedsAChangelog refuses to release a version that CHANGELOG.md does not mention.
func TestRelease_NeedsAChangelog(t *testing.T) {
	release := exec.Command("./.ci/release", "v99.0.0")
	release.Dir = moduleRoot
	o := finish(t, release, time.Minute)
	if o.status != 2 || !strings.Contains(o.stderr, `"## v99.0.0 - YYYY-MM-DD"`) {
		t.Errorf("exit status %d, %s", o.status, o.stderr)
	}
}

// TestChangelog_HasTheFormOfReleases compares the headings with what .ci/release searches for.
func TestChangelog_HasTheFormOfReleases(t *testing.T) {
	headings := matches(`(?m)^## (.*)$`, readFile(t, "CHANGELOG.md"))
	form := regexp.MustCompile(`^v\d+\.\d+\.\d+(-rc\.\d+)? - \d{4}-\d{2}-\d{2}$`)
	for i, heading := range headings {
		if i == 0 && heading[1] != "Unreleased" || i > 0 && !form.MatchString(heading[1]) {
			t.Errorf("section %d is %q, want Unreleased, then such as \"v1.2.3 - 2026-01-31\"",
				i+1, heading[1])
		}
	}
	if len(headings) == 0 {
		t.Error("no sections")
	}
}

// TestDocumentedPackages compares the apt-get lines of the documentation with .ci/programs, without
// what every Debian system has.
func TestDocumentedPackages(t *testing.T) {
	everywhere := []string{"apt", "dash", "dpkg"}
	var want []string
	for line := range strings.Lines(readFile(t, ".ci/programs")) {
		f := strings.Fields(line)
		if len(f) == 3 && (f[0] == "run" || f[0] == "run-ubuntu") &&
			!slices.Contains(everywhere, f[2]) {
			want = append(want, f[2])
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	for _, page := range []string{"docs/install.md", "docs/ci.md"} {
		const install = `apt-get install .*--no-install-recommends((?:[ \\\n]+[a-z][a-z0-9-]*)+)`
		lines := matches(install, readFile(t, page))
		if len(lines) == 0 {
			t.Errorf("%s does not say what to install", page)
		}
		for _, match := range lines {
			got := slices.Sorted(strings.FieldsSeq(strings.ReplaceAll(match[1], "\\", "")))
			if !slices.Equal(got, want) {
				t.Errorf("%s installs %v, and ctload needs %v", page, got, want)
			}
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(moduleRoot, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
