package tuning

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/kernels"
)

func TestSysctlPathStaysBelowProcSys(t *testing.T) {
	for key, want := range map[string]string{
		"net.netfilter.nf_conntrack_max":    "net/netfilter/nf_conntrack_max",
		"net.ipv4.conf.eth0/100.forwarding": "net/ipv4/conf/eth0.100/forwarding",
		"net/ipv4/conf/eth0.100/forwarding": "net/ipv4/conf/eth0.100/forwarding",
	} {
		if got, err := sysctlPath(key); err != nil || got != want {
			t.Errorf("sysctlPath(%q) = %q, %v; want %q", key, got, err, want)
		}
	}
	for _, key := range []string{"", ".", "..", "a.", ".a", "a..b", "a.//.b", "/etc/passwd",
		"../../etc/passwd", "a b", "a\nb", "net.//.//.//.etc"} {
		if path, err := sysctlPath(key); err == nil {
			t.Errorf("sysctlPath(%q) = %q, want an error", key, path)
		}
	}
}

func FuzzSysctlPath(f *testing.F) {
	for _, seed := range []string{"net.netfilter.nf_conntrack_max",
		"net/ipv4/conf/eth0.100/forwarding", "net.ipv4.ip_conntrack_max", "../x", "a.//.b", "//",
		".."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		canonical, _ := kernels.Key(key)
		if again, _ := kernels.Key(canonical); again != canonical {
			t.Errorf("%q -> %q -> %q", key, canonical, again)
		}
		path, err := sysctlPath(key)
		if err != nil {
			return
		}
		joined := filepath.Join("/proc/sys", path)
		if !strings.HasPrefix(joined, "/proc/sys/") || joined != "/proc/sys/"+path {
			t.Errorf("%q leads to %q", key, joined)
		}
	})
}

// procWith makes a folder in place of /proc with parameters, each 0.
func procWith(t *testing.T, keys ...string) Kernel {
	t.Helper()
	k := Kernel{Proc: t.TempDir(), Sys: t.TempDir()}
	for _, key := range keys {
		file := k.procSys(kernels.SwapSeparators(key))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// TestApplySysctl_AllAtOnce writes what there is, and tells of all that is missing.
func TestApplySysctl_AllAtOnce(t *testing.T) {
	k := procWith(t, "net.core.somaxconn", "net.ipv4.conf.all.rp_filter",
		"net.ipv4.conf.eth0/1.rp_filter", "net.ipv4.conf.lo.rp_filter")
	s := Settings{Sysctl: []Sysctl{
		{Key: "net.core.nothing", Value: "1"},
		{Key: "net.core.somaxconn", Value: "7"},
		{Key: "net.core.neither", Value: "1"},
		{Key: "net.core.optional", Value: "1", Optional: true},
		{Key: "net.ipv4.conf.*.rp_filter", Value: "2"},
		{Key: "net.ipv4.conf.all.rp_filter", Optional: true},
		{Key: "net.ipv4.conf.lo.rp_filter", Value: "1"},
	}}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	err := k.applySysctl(context.Background(), s)
	for _, want := range []string{"net.core.nothing", "net.core.neither"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "optional") {
		t.Errorf("what may be missing is an error: %v", err)
	}
	state, err := k.ReadBack(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"net.core.somaxconn": "7", "net.ipv4.conf.eth0/1.rp_filter": "2",
		"net.ipv4.conf.lo.rp_filter": "1", "net.ipv4.conf.all.rp_filter": "",
	} {
		if got := state.Sysctl[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if got := len(Differences(s, state)); got != 2 { // of those that are missing
		t.Errorf("differences: %q", Differences(s, state))
	}
	state.Sysctl["net.ipv4.conf.eth0/1.rp_filter"] = "0"
	if got := strings.Join(Differences(s, state), "\n"); !strings.Contains(got,
		"net.ipv4.conf.eth0/1.rp_filter is 0, not 2 as asked") {
		t.Errorf("differences: %s", got)
	}
	if got := strings.Join(Remarks(s, state), "\n"); got !=
		"net.core.optional, which may be missing, is not in this kernel" {
		t.Errorf("remarks: %s", got)
	}
}

// TestParameters_AreReadBack holds parameters of modules to what the kernel shows.
func TestParameters_AreReadBack(t *testing.T) {
	k := procWith(t)
	folder := filepath.Join(k.Sys, "module/nf_conntrack/parameters")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"hashsize": "4096\n", "acct": "Y\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for entry, want := range map[string]string{
		"nf_conntrack hashsize=4096 acct=1": "",
		"nf_conntrack hashsize=4000":        "", // rounded
		"nf_conntrack hashize=4096":         "module nf_conntrack has no parameter hashize",
		"nf_conntrack hashsize=131072":      "hashsize of module nf_conntrack is 4096, not 131072",
		"nf_conntrack, nf_conntrack acct=0": "", // too late, as asked
		"nf_conntrack acct=0":               "acct of module nf_conntrack is Y, not 0",
	} {
		s := Settings{LoadModules: strings.Split(entry, ", ")}
		state := State{
			BucketMultiple: 512, Parameters: map[string]string{},
			ModuleStates: map[string]ModuleState{"nf_conntrack": ModuleLoaded},
		}
		k.readParameters(s, &state)
		got := strings.Join(Differences(s, state), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", entry, got, want)
		}
	}
}

// TestApplyModules_ParametersFirst loads a module with parameters before others that need it.
func TestApplyModules_ParametersFirst(t *testing.T) {
	k := procWith(t)
	var loaded []string
	k.LoadModule = func(_ context.Context, name string, parameters ...string) error {
		for _, p := range parameters {
			_, value, _ := strings.Cut(p, "=")
			name += "_" + value
		}
		loaded = append(loaded, name)
		return nil
	}
	for want, listed := range map[string][]string{
		"nf_conntrack_4096 nf_nat xt_x": {"nf_nat", "xt_x", "nf_conntrack hashsize=4096"},
		// One that is there already is not moved: its parameters come too late, as listed.
		"xt_x_1 nf_conntrack nf_conntrack_4096": {
			"nf_conntrack", "nf-conntrack hashsize=4096", "xt_x a=1",
		},
	} {
		loaded = nil
		s := Settings{LoadModules: listed}
		if err := k.applyModules(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(loaded, " "); got != want {
			t.Errorf("%q: loaded %s, want %s", listed, got, want)
		}
	}
}

// TestDifferences_FlushedByTheScript: a script that flushes the ruleset removes rules of iptables.
func TestDifferences_FlushedByTheScript(t *testing.T) {
	s := Settings{
		Rules: "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n", NFT: "flush ruleset\ntable ip t {\n}\n",
	}
	state := State{NFT: "table ip t {\n}\n"}
	if got := Differences(s, state); len(got) > 0 {
		t.Errorf("differences: %q", got)
	}
	s.RulesBackend = BackendLegacy
	if got := Differences(s, state); len(got) == 0 {
		t.Error("the script does not reach legacy rules")
	}
}

// TestLoadRules_InParts loads rules that one transaction has no room for.
func TestLoadRules_InParts(t *testing.T) {
	var b strings.Builder
	b.WriteString("*filter\n:INPUT DROP [0:0]\n:mine - [0:0]\n")
	for i := range 2*partLines + 1 {
		fmt.Fprintf(&b, "-A mine -p tcp --dport %d -j ACCEPT\n", i+1)
	}
	b.WriteString("-A INPUT -j mine\nCOMMIT\n*raw\n-A OUTPUT -j ACCEPT\nCOMMIT\n")
	var parts []string
	k := Kernel{Run: func(_ context.Context, in, name string, args ...string) (string, error) {
		if strings.Count(in, "\n") > partLines+10 {
			e := errors.New("exit status 1")
			return "", &ToolError{name, args, "netlink: Message too long", e}
		}
		parts = append(parts, strings.Join(args, " ")+"\n"+in)
		return "", nil
	}}
	if err := k.LoadRules(context.Background(), Settings{Rules: b.String()}, false); err != nil {
		t.Fatal(err)
	}
	if len(parts) != 6 { // of filter: chains, and 402 rules in three parts; of raw: chains, a rule
		t.Fatalf("%d parts: %q", len(parts), parts)
	}
	if want := "\n*filter\n:INPUT DROP [0:0]\n:mine - [0:0]\nCOMMIT\n"; parts[0] != want {
		t.Errorf("the first part is %q", parts[0])
	}
	loaded := strings.Join(parts, "")
	if n := strings.Count(loaded, "-A "); n != 2*partLines+3 {
		t.Errorf("%d rules are loaded", n)
	}
	for _, part := range parts[1:4] {
		if !strings.HasPrefix(part, "--noflush\n*filter\n-A ") {
			t.Errorf("a part begins with %q", part[:40])
		}
	}
}
