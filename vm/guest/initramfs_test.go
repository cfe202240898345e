package guest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/internal/hosttest"
)

// readArchive lists an archive in the form of ls -l: mode, size or target, by path.
func readArchive(t *testing.T, archive []byte) (listing string, files map[string][]byte) {
	t.Helper()
	files = map[string][]byte{}
	var out strings.Builder
	r := cpio.NewReader(bytes.NewReader(archive))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String(), files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(header.FileInfo().Mode().String() + " " + header.Name)
		if header.Linkname != "" {
			out.WriteString(" -> " + header.Linkname)
		}
		out.WriteByte('\n')
		files[header.Name] = data
	}
}

func TestNewc(t *testing.T) {
	var b bytes.Buffer
	tr := newTree()
	tr.device("dev/null", 0o666, 1, 3)
	tr.regular("init", 0o755, []byte("12345"))
	tr.link("link", "init")
	if err := tr.write(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "newc.golden", b.Bytes())
	listing, files := readArchive(t, b.Bytes())
	want := "drwxr-xr-x dev\nDcrw-rw-rw- dev/null\n-rwxr-xr-x init\nLrwxrwxrwx link -> init\n"
	if diff := cmp.Diff(want, listing); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if string(files["init"]) != "12345" {
		t.Errorf("init holds %q", files["init"])
	}
	// rdevmajor and rdevminor are the tenth and eleventh field.
	header := b.Bytes()[bytes.Index(b.Bytes(), []byte("dev/null"))-110:]
	field := func(i int) string { return string(header[6+8*i:][:8]) }
	if major, _ := strconv.ParseUint(field(9), 16, 32); major != 1 || field(10) != "00000003" {
		t.Errorf("device numbers %s:%s", field(9), field(10))
	}
}

func TestNewcReportsFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = Build(full, Spec{Init: os.Args[0], Boot: []string{}, Carry: []string{}, Tools: []string{},
		Kernel: emptyKernel(t)})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v, want no space", err)
	}
	if err := full.Close(); err != nil {
		t.Fatal(err)
	}
}

// emptyKernel returns a kernel without modules.
func emptyKernel(t *testing.T) Kernel {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte("kernel/net/ipv6/ipv6.ko\n"),
		0o644)
	if err != nil {
		t.Fatal(err)
	}
	return Kernel{Release: "6.1.0-test", ModuleDir: dir}
}

func TestBuildLayout(t *testing.T) {
	init := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(init, []byte("\x7fELF"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "static")
	buildStatic(t, script)
	spec := Spec{
		Init: script, Kernel: emptyKernel(t), Boot: []string{"ipv6"}, Carry: []string{},
		Tools: []string{},
		Files: map[string]File{
			"/etc/a":          {Data: []byte("a")},
			"lib/deep/b":      {Data: []byte("b"), Mode: 0o600},
			"//x/../etc/host": {Source: "/proc/version"},
		},
	}
	var b bytes.Buffer
	if err := Build(&b, spec); err != nil {
		t.Fatal(err)
	}
	listing, files := readArchive(t, b.Bytes())
	golden(t, "layout.golden", []byte(listing))
	if string(files["usr/lib/deep/b"]) != "b" ||
		!bytes.HasPrefix(files["etc/host"], []byte("Linux")) {
		t.Errorf("files of the spec are not as asked for")
	}
	if got := string(files["modules/index"]); got != "\nipv6 \n" {
		t.Errorf("index %q", got)
	}

	spec.Init = init
	if err := Build(io.Discard, spec); err == nil || !strings.Contains(err.Error(), init) {
		t.Errorf("a damaged init: %v, want its path", err)
	}
	spec.Init = script
	spec.Files = map[string]File{"/etc/a": {Source: "/nonexistent"}}
	err := Build(io.Discard, spec)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/etc/a") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// buildStatic writes a small static program.
func buildStatic(t *testing.T, name string) {
	t.Helper()
	data, err := os.ReadFile(buildInit(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestBuildIsDeterministic(t *testing.T) {
	spec := Spec{Init: buildInit(t), Kernel: hostKernelFor(t, bootKernels[0])}
	if err := CheckTools(DefaultTools()...); err != nil {
		hosttest.Skip(t, "%v", err)
	}
	var first bytes.Buffer
	if err := Build(&first, spec); err != nil {
		t.Fatal(err)
	}
	const most = 24 << 20 // init of this test is 3 MB of it
	if first.Len() > most {
		t.Errorf("initramfs of %d bytes", first.Len())
	}
	name := filepath.Join(t.TempDir(), "initramfs")
	size, err := BuildFile(name, spec)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if int(size) != len(second) || !bytes.Equal(first.Bytes(), second) {
		t.Errorf("the same spec gave %d bytes, then %d others", first.Len(), len(second))
	}
}

func TestBuildFileLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "initramfs")
	_, err := BuildFile(name, Spec{Init: "/nonexistent", Kernel: emptyKernel(t), Boot: []string{},
		Carry: []string{}, Tools: []string{}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestLoadable runs a program that loadable has cut down to what the kernel loads.
func TestLoadable(t *testing.T) {
	data, err := os.ReadFile(buildModprobe(t))
	if err != nil {
		t.Fatal(err)
	}
	cut := loadable(data)
	if len(cut) > len(data)*9/10 {
		t.Errorf("%d of %d bytes are left", len(cut), len(data))
	}
	program := filepath.Join(t.TempDir(), "modprobe")
	if err := os.WriteFile(program, cut, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "nf_conntrack").CombinedOutput()
	_, ok := errors.AsType[*exec.ExitError](err)
	if !ok || !strings.HasPrefix(string(out), "modprobe: load module nf_conntrack: ") {
		t.Errorf("it does not run as before: %v: %s", err, out)
	}
	for _, other := range [][]byte{nil, []byte("#!/bin/sh\n"), data[:100]} {
		if got := loadable(other); !bytes.Equal(got, other) {
			t.Errorf("%d bytes that are no program became %d", len(other), len(got))
		}
	}
}

// buildModprobe returns the program of testdata/init under the name of modprobe, which limits it to
// that role.
func buildModprobe(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "modprobe")
	buildStatic(t, name)
	return name
}
