package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/zip"
)

// moduleRoot is the top of the module, seen from this package.
const moduleRoot = "../.."

// TestModuleFile_InstallsByName checks that go.mod has only what `go install PATH@VERSION` accepts,
// and the last netlink library that works.
func TestModuleFile_InstallsByName(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(moduleRoot, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(file.Exclude)+len(file.Replace) > 0 {
		t.Errorf("go install PATH@VERSION refuses go.mod: %d exclude, %d replace directives",
			len(file.Exclude), len(file.Replace))
	}
	const netlink = "github.com/mdlayher/netlink"
	found := false
	for _, r := range file.Require {
		if r.Mod.Path != netlink {
			continue
		}
		found = true
		if semver.Compare(r.Mod.Version, "v1.10.0-0") >= 0 {
			t.Errorf("go.mod requires %s %s: from v1.10.0 on conntrack.StatsGlobal never returns; "+
				"stay at v1.9.0", netlink, r.Mod.Version)
		}
	}
	if !found {
		t.Errorf("go.mod does not require %s, so that another module decides its version; "+
			"require v1.9.0", netlink)
	}
}

// TestInstall_ByName installs ctload as a user does, with `go install PATH@latest`, from a module
// proxy that serves this tree.
func TestInstall_ByName(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles the program")
	}
	t.Parallel()
	m := module.Version{Path: "github.com/ctload/ctload", Version: "v0.9.1-test"}
	proxy := serveTree(t, m)

	install := exec.Command("go", "install", m.Path+"/cmd/ctload@latest")
	bin, modules := t.TempDir(), t.TempDir()
	install.Dir = bin // outside of every module
	cached := filepath.Join(goEnv(t, "GOMODCACHE"), "cache", "download")
	install.Env = append(os.Environ(), "CGO_ENABLED=0",
		// Packages at the same path of a module compile once, in whatever cache the module is. The
		// test could not remove read-only folders at its end.
		"GOFLAGS=-trimpath -modcacherw",
		"GOBIN="+bin, "GOMODCACHE="+modules,
		// This machine's module cache is a file proxy too.
		"GOPROXY=file://"+proxy+",file://"+cached+","+goEnv(t, "GOPROXY"),
		"GONOSUMDB="+strings.Trim(goEnv(t, "GONOSUMDB")+","+m.Path, ","))
	if o := finish(t, install, 5*time.Minute); o.status != 0 {
		t.Fatalf("%v: exit status %d\n%s%s", install.Args, o.status, o.stdout, o.stderr)
	}
	for _, args := range [][]string{{"version"}, {"--version"}} {
		out, err := exec.Command(filepath.Join(bin, "ctload"), args...).Output()
		want := "ctload " + m.Version + " ("
		if err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("ctload %v: %q, %v; want %q...", args, out, err, want)
		}
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// serveTree makes a folder that is a module proxy with this tree as the only version of m.
func serveTree(t *testing.T, m module.Version) string {
	t.Helper()
	proxy := t.TempDir()
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		t.Fatal(err)
	}
	versions := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		t.Fatal(err)
	}
	goMod, err := os.ReadFile(filepath.Join(moduleRoot, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	info := []byte(`{"Version":"` + m.Version + `","Time":"2026-01-02T03:04:05Z"}`)
	for name, data := range map[string][]byte{
		"list": []byte(m.Version + "\n"), m.Version + ".info": info, m.Version + ".mod": goMod,
		"../@latest": info,
	} {
		if err := os.WriteFile(filepath.Join(versions, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := os.Create(filepath.Join(versions, m.Version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	if err := zip.Create(archive, m, treeFiles(t)); err != nil {
		t.Errorf("the module's files do not fit into a module archive: %v", err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return proxy
}

// treeFiles returns the files of this tree that git has, or would add. As a module proxy does, it
// leaves out all but regular files, such as symbolic links.
func treeFiles(t *testing.T) []zip.File {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = moduleRoot
	out, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var files []zip.File
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		f := treeFile(name)
		// Any other file is deleted, or a link.
		if info, err := f.Lstat(); err == nil && info.Mode().IsRegular() {
			files = append(files, f)
		}
	}
	return files
}

// treeFile is the path of a file in the module.
type treeFile string

func (f treeFile) Path() string                 { return string(f) }
func (f treeFile) Lstat() (os.FileInfo, error)  { return os.Lstat(f.local()) }
func (f treeFile) Open() (io.ReadCloser, error) { return os.Open(f.local()) }
func (f treeFile) local() string                { return filepath.Join(moduleRoot, string(f)) }
