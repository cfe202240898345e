package guest

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
)

// realTool returns the path of a tool of this host.
func realTool(t *testing.T, tool string) string {
	t.Helper()
	host, err := findTool(tool)
	if err != nil {
		hosttest.Skip(t, "no %s: %v", tool, err)
	}
	hosttest.Need(t, filepath.Base(host))
	return host
}

// TestNeedsAsLddSees compares the libraries of real tools with those that ld.so would load.
func TestNeedsAsLddSees(t *testing.T) {
	line := regexp.MustCompile(`^\s*(\S+) (?:=> (\S+) )?\(0x`)
	for _, tool := range append(DefaultTools(), "ip", "tc") {
		t.Run(tool, func(t *testing.T) {
			program := realTool(t, tool)
			out, err := exec.Command("ldd", program).CombinedOutput()
			if err != nil {
				t.Fatalf("ldd: %v: %s", err, out)
			}
			var want []string
			for text := range strings.Lines(string(out)) {
				m := line.FindStringSubmatch(text)
				if m != nil && !strings.HasPrefix(m[1], "linux-vdso") {
					want = append(want, realPath(t, cmp.Or(m[2], m[1])))
				}
			}
			libraries, err := needs(program)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, lib := range libraries {
				got = append(got, realPath(t, lib.host))
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("-ldd +needs:\n%s", diff)
			}
		})
	}
}

func realPath(t *testing.T, name string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

// TestToolsRunInTheirTree runs the tools in a root that holds only the initramfs.
func TestToolsRunInTheirTree(t *testing.T) {
	tr := newTree()
	for _, dir := range mergedDirs {
		tr.link(dir, "usr/"+dir)
	}
	err := tr.addTools([]string{"iptables-nft", "iptables-legacy", "nft", "?conntrack",
		"?no-such-tool"})
	if err != nil {
		if _, ok := errors.AsType[*MissingError](err); ok {
			hosttest.Skip(t, "%v", err)
		}
		t.Fatal(err)
	}
	root := t.TempDir()
	for name, e := range tr.entries {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		switch e.mode &^ 0o7777 {
		case typeLink:
			if err := os.Symlink(string(e.data), name); err != nil {
				t.Fatal(err)
			}
		case typeRegular:
			if err := os.WriteFile(name, e.data, os.FileMode(e.mode&0o777)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, command := range []string{
		"iptables-nft --version", "iptables-legacy-restore --version",
		"ip6tables-legacy-save --version", "iptables --version", "iptables-save --version",
		"iptables-nft -m conntrack --help", "iptables-legacy -m hashlimit --help",
		"iptables-nft -j CT --help", "ip6tables-legacy -j REJECT --help", "nft --version",
	} {
		words := strings.Fields(command)
		cmd := inRoot(root, "/usr/sbin/"+words[0], words[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), " v") {
			t.Errorf("%s: %v: %s", command, err, out)
		}
	}
}

func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := CheckTools("?no-such-tool"); err != nil {
		t.Errorf("an optional tool: %v", err)
	}
	err := CheckTools("no-such-tool", "?other", "no-such-tool", "another")
	missing, ok := errors.AsType[*MissingError](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
	if missing.Fix != Install+"another no-such-tool" {
		t.Errorf("fixed by %q", missing.Fix)
	}
	for tool, want := range map[string]string{"?iptables-nft": "iptables",
		"iptables-legacy": "iptables", "ip6tables-nft-save": "iptables", "?nft": "nftables",
		"conntrack": "conntrack"} {
		if got := toolPackage(strings.TrimPrefix(tool, "?")); got != want {
			t.Errorf("%s is in package %s, want %s", tool, got, want)
		}
	}
}

func TestParseLdConf(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ld.so.conf": "include conf.d/*.conf\n/last # comment\nhwcap 0 nosegneg\n",
		"conf.d/a":   "/not/included\n",
		// The include makes a circle.
		"conf.d/b.conf": "# multiarch\n/usr/local/lib\n/x:/y,/z\ninclude " + dir + "/ld.so.conf\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := parseLdConf(filepath.Join(dir, "ld.so.conf"), 0)
	want := []string{"/usr/local/lib", "/x", "/y", "/z"}
	if len(got) < 5 || !slices.Equal(got[:4], want) || got[len(got)-1] != "/last" {
		t.Errorf("got %q, want %q ... /last", got, want)
	}
	if got := parseLdConf(filepath.Join(dir, "absent"), 0); got != nil {
		t.Errorf("an absent file names %q", got)
	}
}

// TestNeedsByRunpath finds libraries beside the program, and none for another machine.
func TestNeedsByRunpath(t *testing.T) {
	compiler := hosttest.Program(t, "cc")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"lib.c":  "int f(void) { return 0; }",
		"main.c": "int f(void); int main(void) { return f(); }",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{
		"-shared -o own/libown.so lib.c",
		"-o runpath main.c -Lown -lown -Wl,--enable-new-dtags,-rpath,$ORIGIN/own",
		"-o rpath main.c -Lown -lown -Wl,--disable-new-dtags,-rpath,${ORIGIN}/own",
		"-o nopath main.c -Lown -lown",
	} {
		if err := os.MkdirAll(filepath.Join(dir, "own"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(compiler, strings.Fields(args)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cc %s: %v: %s", args, err, out)
		}
	}
	for _, program := range []string{"runpath", "rpath"} {
		libraries, err := needs(filepath.Join(dir, program))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(libraries, func(l library) bool {
			return filepath.Clean(l.host) == filepath.Join(realPath(t, dir), "own/libown.so") &&
				strings.HasPrefix(l.guest, "/usr/lib/")
		}) {
			t.Errorf("%s: libown.so is not among %v", program, libraries)
		}
	}
	_, err := needs(filepath.Join(dir, "nopath"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "library libown.so of ") {
		t.Errorf("nopath: %v", err)
	}
	// needs must skip the same library for another machine.
	lib := filepath.Join(dir, "own/libown.so")
	data, err := os.ReadFile(lib)
	if err != nil {
		t.Fatal(err)
	}
	const machine = 0x12 // e_machine
	data[machine] = byte(elf.EM_SPARCV9)
	if err := os.WriteFile(lib, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := needs(filepath.Join(dir, "runpath")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a library of another machine: %v", err)
	}
	_, err = needs("/proc/version")
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("/proc/version")) {
		t.Errorf("no ELF file: %v", err)
	}
}
