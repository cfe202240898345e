package guest

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/agent/modload"
	"github.com/ctload/ctload/internal/hosttest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: -want +got:\n%s", file, diff)
	}
}

func TestModinfo(t *testing.T) {
	tests := []struct {
		name, info string
		want       module
	}{
		{"all", "license=GPL\x00alias=nft-expr-ct\x00alias=nft-obj-3\x00" +
			"depends=nf_tables,nf-conntrack\x00name=nft_ct\x00", module{
			depends: []string{"nf_tables", "nf_conntrack"},
			aliases: []string{"nft_expr_ct", "nft_obj_3"},
		}},
		{"no dependency", "depends=\x00", module{}},
		{"soft ones", "softdep=pre: nf_log_syslog a-b post: c\x00softdep=post: d\x00weakdep=e\x00",
			module{
				softPre: []string{"nf_log_syslog", "a_b"},
			}},
		{"aliases of hardware",
			"alias=virtio:d00000001v*\x00alias=pci:v00001AF4d*sv*\x00alias=x y\x00alias=\x00",
			module{}},
		{"noise", "\x00=\x00alias\x00depends", module{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got module
			got.parse([]byte(tt.info))
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(module{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// FuzzModinfo checks that no module can break the lines of the loader's index.
func FuzzModinfo(f *testing.F) {
	f.Add([]byte("alias=nft-expr-ct\x00depends=a,b\x00softdep=pre: c post: d"))
	f.Fuzz(func(t *testing.T, info []byte) {
		m := &module{name: "m"}
		m.parse(info)
		text := index(&catalogue{builtin: map[string]bool{}}, map[string]*module{"m": m})
		for _, alias := range m.aliases {
			files, ok := modload.Chain(text, alias)
			if !ok || !slices.Equal(files, []string{"m.ko"}) {
				t.Errorf("alias %q leads to %q, %v in\n%s", alias, files, ok, text)
			}
		}
	})
}

func TestModuleNames(t *testing.T) {
	got := moduleNames([]byte("kernel/net/ipv6/ipv6.ko\nkernel/drivers/virtio/virtio-mem.ko.xz\n" +
		"\nnonsense\n.ko\r\nkernel/a.ko"))
	want := map[string]bool{"ipv6": true, "virtio_mem": true, "a": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func FuzzModuleNames(f *testing.F) {
	f.Add([]byte("kernel/net/ipv6/ipv6.ko\nkernel/drivers/virtio/virtio-mem.ko.xz\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for name := range moduleNames(text) {
			if name == "" || strings.ContainsAny(name, "/-\n") {
				t.Errorf("module %q", name)
			}
		}
	})
}

func testCatalogue() *catalogue {
	c := &catalogue{dir: "/m", files: map[string]string{},
		builtin: map[string]bool{"ipv6": true, "virtio_pci": true}}
	for _, name := range []string{"nf_tables", "nft_ct", "nft_limit", "nft_reject_bridge", "xt_CT",
		"virtio_net"} {
		c.files[name] = "kernel/" + name + ".ko"
	}
	return c
}

func TestMatchModules(t *testing.T) {
	tests := []struct {
		names, want []string
	}{
		{[]string{"virtio-net", "virtio_pci", "?virtio_rng"}, []string{"virtio_net"}},
		{[]string{"nft_*", "!*bridge*"}, []string{"nft_ct", "nft_limit"}},
		{[]string{"xt_CT", "xt_[A-Z]*", "?ipt_*"}, []string{"xt_CT", "xt_CT"}},
		{[]string{"ipv6"}, nil},
	}
	for _, tt := range tests {
		got, err := testCatalogue().match(tt.names)
		if err != nil {
			t.Errorf("%q: %v", tt.names, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q: -want +got:\n%s", tt.names, diff)
		}
	}
	const all = "nf_tables, nft_ct, nft_limit, nft_reject_bridge, virtio_net, xt_CT, ipv6, " +
		"virtio_pci"
	for name, want := range map[string]string{
		"nf_tabels": `no module "nf_tabels" in /m; did you mean "nf_tables"?`,
		"virtio-ne": `no module "virtio-ne" in /m; did you mean "virtio_net"?`,
		"zzzzzzzz":  `no module "zzzzzzzz" in /m; valid here: ` + all,
		"ipt_*":     `no module "ipt_*" in /m; valid here: ` + all,
		"nft_[":     `module "nft_[": syntax error in pattern`,
	} {
		if _, err := testCatalogue().match([]string{name}); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", name, err, want)
		}
	}
}

func TestChainAndIndex(t *testing.T) {
	modules := map[string]*module{}
	for _, m := range []*module{
		{name: "libcrc32c"},
		{name: "nf_log_syslog"},
		{name: "nf_conntrack", depends: []string{"libcrc32c"}, aliases: []string{"ip_conntrack"}},
		{name: "x_tables"},
		{name: "xt_CT", depends: []string{"x_tables", "nf_conntrack"},
			aliases: []string{"ipt_CT", "ipt_NOTRACK"}},
		{name: "xt_LOG", depends: []string{"x_tables"},
			softPre: []string{"nf_log_syslog", "absent"}, aliases: []string{"ipt_LOG"}},
		// Names of other modules.
		{name: "xt_TRACE", softPre: []string{"xt_TRACE"},
			aliases: []string{"ipt_LOG", "nf_conntrack"}},
	} {
		modules[m.name] = m
	}
	text := index(&catalogue{builtin: map[string]bool{"ipv6": true, "libcrc32c": false}}, modules)
	golden(t, "index.golden", text)
	for name, want := range map[string][]string{
		"ipt_NOTRACK":  {"x_tables.ko", "libcrc32c.ko", "nf_conntrack.ko", "xt_CT.ko"},
		"nf-conntrack": {"libcrc32c.ko", "nf_conntrack.ko"},
		"xt_LOG":       {"nf_log_syslog.ko", "x_tables.ko", "xt_LOG.ko"},
		"ipv6":         nil,
	} {
		got, ok := modload.Chain(text, name)
		if !ok || !slices.Equal(got, want) {
			t.Errorf("chain of %s: %q, %v; want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"", "nf_conntrac", "conntrack", "x_tables.ko", "\n",
		"nf_conntrack libcrc32c.ko"} {
		if got, ok := modload.Chain(text, name); ok {
			t.Errorf("%q is in the index: %q", name, got)
		}
	}
}

// TestModulesAsDepmodSees compares the dependencies with those that depmod computes from symbols.
func TestModulesAsDepmodSees(t *testing.T) {
	depmod := hosttest.Program(t, "depmod")
	k := hostKernelFor(t, bootKernels[0])
	// depmod writes into the folder that it reads: a copy of links gives it its own.
	dir := filepath.Join(t.TempDir(), "lib/modules", k.Release)
	err := os.CopyFS(dir, onlyFiles{os.DirFS(k.ModuleDir),
		[]string{"modules.order", "modules.builtin", "modules.builtin.modinfo"}})
	if err != nil {
		t.Fatal(err)
	}
	err = os.Symlink(filepath.Join(k.ModuleDir, "kernel"), filepath.Join(dir, "kernel"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(depmod, "-b", strings.TrimSuffix(dir, "/lib/modules/"+k.Release),
		k.Release).CombinedOutput()
	if err != nil {
		t.Fatalf("depmod: %v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		file, deps, _ := strings.Cut(strings.TrimSpace(line), ":")
		var names []string
		for _, dep := range strings.Fields(deps) {
			names = append(names, filepath.Base(dep))
		}
		slices.Sort(names)
		want[filepath.Base(file)] = names
	}

	c, err := readCatalogue(k.ModuleDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.files) != len(want) {
		t.Errorf("%d modules found, depmod finds %d", len(c.files), len(want))
	}
	names, err := c.match(slices.Concat(defaultBoot(), DefaultCarry()))
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := c.load(names)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for name, m := range loaded {
		if len(m.softPre) > 0 {
			continue // depmod lists built-in modules elsewhere
		}
		files := chain(loaded, name)
		got := slices.Sorted(slices.Values(files[:len(files)-1]))
		soft := slices.ContainsFunc(got, func(dep string) bool {
			return len(loaded[strings.TrimSuffix(dep, ".ko")].softPre) > 0
		})
		wanted, ok := want[strings.ReplaceAll(filepath.Base(c.files[name]), ".xz", "")]
		if !soft && (!ok || !slices.Equal(got, wanted)) {
			t.Errorf("%s depends on %q, depmod says %q", name, got, wanted)
		}
		compared++
	}
	if compared < 100 {
		t.Errorf("only %d modules compared", compared)
	}
}

// onlyFiles is a file system with some of the files at the root of another.
type onlyFiles struct {
	fs.FS
	names []string
}

func (o onlyFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(o.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return !slices.Contains(o.names, e.Name())
	}), err
}

func TestDecompress(t *testing.T) {
	plain := bytes.Repeat([]byte("kernel module "), 1000)
	for suffix, program := range map[string][]string{".xz": {"xz", "-c"}, ".zst": {"zstd", "-c"},
		".gz": {"gzip", "-c"}} {
		t.Run(suffix, func(t *testing.T) {
			cmd := exec.Command(hosttest.Program(t, program[0]), program[1:]...)
			cmd.Stdin = bytes.NewReader(plain)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			got, err := decompress(packed)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes, %v; want %d", len(got), err, len(plain))
			}
			if _, err := decompress(packed[:len(packed)/2]); err == nil {
				t.Error("half a file decompresses")
			}
		})
	}
	if got, err := decompress(plain); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("a plain module is changed: %v", err)
	}
}

// TestModulesMissing builds from folders that hold no modules of a kernel.
func TestModulesMissing(t *testing.T) {
	dir := t.TempDir()
	build := func() error {
		return Build(io.Discard, Spec{Init: os.Args[0], Kernel: Kernel{ModuleDir: dir},
			Boot: []string{"a"}, Carry: []string{}, Tools: []string{}})
	}
	if err := build(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	for name, text := range map[string]string{"modules.builtin": "", "kernel/a.ko": "no ELF file"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := build(); err == nil || !strings.Contains(err.Error(), "a.ko") {
		t.Errorf("a module that is none: %v, want its name", err)
	}
	if err := Build(io.Discard, Spec{Init: os.Args[0], Tools: []string{}}); err == nil {
		t.Error("modules without a folder of modules: no error")
	}
}
