package tuning

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeKernel returns a kernel made of files, whose tools are recorded instead of run.
func fakeKernel(t *testing.T, files map[string]string) (Kernel, *[]string) {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var done []string
	return Kernel{
		Proc: filepath.Join(root, "proc"), Sys: filepath.Join(root, "sys"),
		Run: func(_ context.Context, stdin, name string, args ...string) (string, error) {
			done = append(done, strings.TrimSpace(strings.Join(append([]string{name}, args...),
				" ")+" <"+strings.ReplaceAll(stdin, "\n", "|")))
			return "", nil
		},
		LoadModule: func(_ context.Context, name string, parameters ...string) error {
			done = append(done, strings.Join(append([]string{"load", name}, parameters...), " "))
			// The parameters appear with the module.
			folder := filepath.Join(root, "proc/sys/net/netfilter")
			return errors.Join(os.MkdirAll(folder, 0o755),
				os.WriteFile(filepath.Join(folder, "nf_conntrack_max"), []byte("4096\n"), 0o644),
				os.WriteFile(filepath.Join(folder, "nf_conntrack_buckets"), []byte("4096\n"),
					0o644),
				os.WriteFile(filepath.Join(folder, "nf_conntrack_count"), []byte("0\n"), 0o644))
		},
	}, &done
}

func TestApplyOrder(t *testing.T) {
	kernel, done := fakeKernel(t, map[string]string{
		"proc/modules":               "ip_tables 1 0 - Live 0x0\n",
		"proc/sys/kernel/osrelease":  "6.1.0-test\n",
		"proc/sys/net/core/rmem_max": "1\n",
	})
	settings := Settings{
		LoadModules: []string{"xt-conntrack", "ip_tables"},
		Buckets:     65536,
		Rules:       "*filter\nCOMMIT", Rules6: "*filter\nCOMMIT\n", NFT: "table ip x",
		Sysctl: []Sysctl{{Key: "net.ipv4.ip_conntrack_max", Value: "262144"},
			{Key: "net.core.rmem_max", Value: "7"}},
	}
	if err := kernel.Apply(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"load nf_conntrack",
		"load xt_conntrack",
		"iptables-nft-restore <*filter|COMMIT|",
		"ip6tables-nft-restore <*filter|COMMIT|",
		"nft -f - <table ip x|",
	}, *done); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	state, err := kernel.ReadBack(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	if state.Max != 262144 || state.Buckets != 65536 || state.Release != "6.1.0-test" ||
		!state.Loaded || state.Sysctl["net.core.rmem_max"] != "7" {
		t.Errorf("state %+v", state)
	}
}

// TestApplyModuleParameters gives a module its parameters, though a setting needs the module as
// well.
func TestApplyModuleParameters(t *testing.T) {
	kernel, done := fakeKernel(t, map[string]string{"proc/modules": "",
		"proc/sys/net/core/rmem_max": "1\n"})
	settings := Settings{
		LoadModules: []string{"nf-conntrack  hashsize=4096 enable_hooks=1"},
		Sysctl:      []Sysctl{{Key: "net.netfilter.nf_conntrack_max", Value: "100"}},
	}
	if err := kernel.Apply(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"load nf_conntrack hashsize=4096 enable_hooks=1"},
		*done); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	kernel.LoadModule = nil
	*done = nil
	if err := kernel.Load(t.Context(), "ip_vs conn_tab_bits=12"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"modprobe -- ip_vs conn_tab_bits=12 <"}, *done); diff != "" {
		t.Errorf("without a loader (-want +got):\n%s", diff)
	}
}

// TestApplyOldHash resizes where the parameter does not exist (before Linux 4.8).
func TestApplyOldHash(t *testing.T) {
	kernel, _ := fakeKernel(t, map[string]string{
		"proc/sys/net/netfilter/nf_conntrack_count":   "0\n",
		"sys/module/nf_conntrack/parameters/hashsize": "16384\n",
	})
	if err := kernel.Apply(t.Context(), Settings{Buckets: 2048}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(kernel.Sys, "module/nf_conntrack/parameters/hashsize"))
	if err != nil || !strings.HasPrefix(string(text), "2048") {
		t.Errorf("hashsize %q, %v", text, err)
	}
}

func TestApplyRemovesRulesFirst(t *testing.T) {
	kernel, done := fakeKernel(t, map[string]string{
		"proc/modules":             "nf_tables 1 0 - Live 0x0\n",
		"proc/net/ip_tables_names": "raw\nfilter\n",
	})
	if err := kernel.Apply(t.Context(),
		Settings{RemoveModules: []string{"nf_conntrack"}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"nft flush ruleset <",
		"iptables-legacy-restore <*raw|COMMIT|*filter|COMMIT|"}, *done); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestApplyStopsWithTheContext(t *testing.T) {
	kernel, done := fakeKernel(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	err := kernel.Apply(ctx, Settings{NFT: "table ip x"})
	if !errors.Is(err, context.Canceled) || len(*done) > 0 {
		t.Errorf("%v after %q", err, *done)
	}
}

func TestValidate(t *testing.T) {
	for text, settings := range map[string]Settings{
		`backend "ebtables"`:       {RulesBackend: "ebtables"},
		"buckets -1: negative":     {Buckets: -1},
		"not the name of a kernel": {Sysctl: []Sysctl{{Key: "../etc", Value: "1"}}},
		"more than one line":       {Sysctl: []Sysctl{{Key: "net.a", Value: "1\n2"}}},
		"empty value":              {Sysctl: []Sysctl{{Key: "net.a", Value: " "}}},
		"nf_conntrack_max: given": {Sysctl: []Sysctl{{Key: "net.netfilter.nf_conntrack_max",
			Value: "1"}, {Key: "net.ipv4.ip_conntrack_max", Value: "2"}}},
		"not the name of a module": {LoadModules: []string{"a/b"}},
		"\"x y=\\\"1\\\"\": not":   {LoadModules: []string{"x y=\"1\""}},
		"\"nf_nat x=1\": not":      {RemoveModules: []string{"nf_nat x=1"}},
		"both loaded and removed": {LoadModules: []string{"nf-nat"},
			RemoveModules: []string{"nf_nat"}},
		"nf_conntrack: removed, but": {Buckets: 512, RemoveModules: []string{"nf_conntrack"}},
	} {
		if err := settings.Validate(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", settings, err, text)
		}
	}
	if err := (Settings{}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestTools(t *testing.T) {
	got := Settings{Rules: "x", Rules6: "x", NFT: "x", RulesBackend: BackendLegacy}.Tools()
	want := []string{"iptables-legacy-restore", "iptables-legacy-save", "ip6tables-legacy-restore",
		"ip6tables-legacy-save", "nft"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExecCarriesTheComplaint(t *testing.T) {
	out, err := Exec(t.Context(), "hello", "sh", "-c", "cat; echo no good >&2; exit 3")
	tool, ok := errors.AsType[*ToolError](err)
	if !ok || out != "hello" || tool.Stderr != "no good\n" ||
		!strings.Contains(err.Error(), "exit status 3: no good") {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := Exec(t.Context(), "", "/nonexistent/tool"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestParseHook(t *testing.T) {
	name := append([]byte("ipv4_conntrack_in"), 0)
	message := append([]byte{2, 0, 0, 0, byte(4 + len(name)), 0, hookFunction, 0}, name...)
	for len(message)%4 != 0 {
		message = append(message, 0)
	}
	if got, err := parseHook(message); err != nil || got != "ipv4_conntrack_in" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := parseHook([]byte{1}); err == nil {
		t.Error("no error for a short message")
	}
}

func FuzzParseHook(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, 4, 0, 'a', 'b', 'c', 0})
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = parseHook(data) })
}
