package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDescribeBuild(t *testing.T) {
	const commit = "d2e7a1d7e1d07d4f8e5c7a8cf3b9b6a5a4f3e2d1"
	vcs := []debug.BuildSetting{
		{Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: "true"},
	}
	module := func(version string, settings []debug.BuildSetting) *debug.BuildInfo {
		main := debug.Module{Path: "github.com/ctload/ctload", Version: version}
		return &debug.BuildInfo{Main: main, Settings: settings}
	}
	for name, c := range map[string]struct {
		linked string
		info   *debug.BuildInfo
		want   buildInfo
	}{
		"linked first":    {"v1.2.3", module("v0.9.0", nil), buildInfo{Version: "v1.2.3"}},
		"then the module": {"", module("v0.9.0", nil), buildInfo{Version: "v0.9.0"}},
		"the module, not the VCS": {"", module("v0.9.0", vcs),
			buildInfo{Version: "v0.9.0", Commit: commit, Modified: true}},
		"a clean commit": {"", module("v0.9.0", vcs[:1]),
			buildInfo{Version: "v0.9.0", Commit: commit}},
		"else unknown":        {"", module("(devel)", nil), buildInfo{Version: "unknown"}},
		"without information": {"", nil, buildInfo{Version: "unknown"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Go, c.want.Platform = runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH
			if diff := cmp.Diff(c.want, describeBuild(c.linked, c.info)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestVersionCommand compares version, --version and the JSON with the version that the linker set.
func TestVersionCommand(t *testing.T) {
	line := ctload(t, 2*time.Minute, "version")
	if !strings.HasPrefix(line.stdout, "ctload test (linux/") ||
		strings.Count(line.stdout, "\n") != 1 {
		t.Errorf("ctload version: %q", line.stdout)
	}
	if flag := ctload(t, 2*time.Minute, "--version"); flag.stdout != line.stdout {
		t.Errorf("ctload --version says %q, ctload version %q", flag.stdout, line.stdout)
	}
	var b buildInfo
	o := ctload(t, 2*time.Minute, "version", "--format", "json")
	if json.Unmarshal([]byte(o.stdout), &b) != nil || b.String()+"\n" != line.stdout {
		t.Errorf("ctload version --format json: %q, unlike %q", o.stdout, line.stdout)
	}
	if o := ctload(t, 2*time.Minute, "version", "--format", "yaml"); o.status != statusUsage {
		t.Errorf("--format yaml: exit status %d, want %d", o.status, statusUsage)
	}
}
