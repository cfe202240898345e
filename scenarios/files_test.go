package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// beside writes files into a folder, and an experiment that names them, and returns its path.
func beside(t *testing.T, dut string, texts map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	texts["x.yaml"] = "experiment: x\nworkload: [" + load + "]\ndut:\n" + dut
	for name, text := range texts {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(folder, "x.yaml")
}

// TestFiles_ByPath reads every kind of text from a file of its own, once.
func TestFiles_ByPath(t *testing.T) {
	path := beside(t, `  rules: {file: etc/rules.v4}
  rules6: {file: etc/rules.v6}
  nft: {file: ./nftables.conf}
  sysctl: {file: [10.conf, 20.conf]}
`, map[string]string{
		"etc/rules.v4": "# Generated\r\n*filter\r\n:INPUT ACCEPT [0:0]\r\n-A INPUT -m state " +
			"--state NEW -j ACCEPT\r\nCOMMIT\r\n",
		"etc/rules.v6":  "*filter\n-A INPUT -p tcp --dport 80 -j ACCEPT\nCOMMIT",
		"nftables.conf": "#!/usr/sbin/nft -f\ntable ip t {\n}\n",
		"10.conf":       "net.netfilter.nf_conntrack_max = 1000\n",
		"20.conf":       "# none\nnet.core.somaxconn=2000\n",
	})
	e, _, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(e *Experiment) {
		t.Helper()
		c := e.Resolve()[0].DUT
		if !strings.HasPrefix(c.Rules, "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT") ||
			!strings.Contains(c.Rules6, "dport 80") || !strings.Contains(c.NFT, "table ip t {\n}") {
			t.Errorf("%+v", c)
		}
		for key, want := range map[string]string{
			"net.netfilter.nf_conntrack_max": "1000", "net.core.somaxconn": "2000",
		} {
			if got, _ := c.Sysctl.Get(key); got != want {
				t.Errorf("%s is %q, want %s", key, got, want)
			}
		}
	}
	check(e)
	roundTrip(t, e)
	// Another process gets the files as they were read, not as they are now.
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "10.conf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	over, _, err := Unbundle(path, e.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	check(over)
	if _, err := over.SetFiles(map[string][]string{"nft": {path}}); err == nil {
		t.Error("an experiment that was taken over reads a further file")
	}
}

// TestFiles_Problems finds each problem reported at its place in the file that has it.
func TestFiles_Problems(t *testing.T) {
	for name, test := range map[string]struct {
		dut, text, want string
	}{
		"a mistake": {
			"  rules: {file: r}\n", "# a\n\n*filter\n  -A INPUT –dport 80 -j ACCEPT\nCOMMIT\n",
			`r:4:12: "–dport" has a dash`,
		},
		"of nft": {
			"  nft: {file: r}\n", "# a\ntable ip t {\n  chain c { tcp dport $web accept; }\n}\n",
			"r:3:23: there is no variable $web",
		},
		"of sysctls":  {"  sysctl: {file: r}\n", "# a\nnet.core.somaxconn\n", "r:2:1: "},
		"missing":     {"  nft: {file: other}\n", "", "x.yaml:4:15: reading other: no such file"},
		"a folder":    {"  nft: {file: .}\n", "", "reading .: it is not a regular file"},
		"a device":    {"  nft: {file: /dev/zero}\n", "", "it is not a regular file"},
		"a zero byte": {"  nft: {file: r}\n", "a\x00b", "it holds a NUL byte"},
		"and more":    {"  nft: {file: r, at: 3}\n", "\n", `"at" beside it is not read`},
		"a path": {
			"  rules: " +
				"./r\n", "",
			`x.yaml:4:10: "./r" is a path, and rules is a text; write rules: {file: ./r}`,
		},
		"a sysctl path": {
			"  sysctl: /etc/sysctl.d/99.conf\n", "", "write sysctl: {file: /etc/sysctl.d/99.conf}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := beside(t, test.dut, map[string]string{"r": test.text})
			_, _, err := Load(path)
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", "")
			if !strings.Contains(got, test.want) {
				t.Errorf("%s\nlacks %s", got, test.want)
			}
		})
	}
}

// TestSetFiles gives a shipped experiment the rules of a file.
func TestSetFiles(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	for name, text := range map[string]string{
		"rules.v4": "*filter\n-A INPUT -m state --state NEW -j ACCEPT\nCOMMIT\n*nat\n" +
			"-A PREROUTING -i wan0 -j ACCEPT\nCOMMIT\n",
		"99.conf": "net.netfilter.nf_conntrack_max = 77\n",
		"bad":     "*filter\n-A INPUT\nCOMIT\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e, _, err := Load("table-full")
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := e.SetFiles(map[string][]string{"rules": {"rules.v4"}, "sysctl": {"99.conf"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0].String(), "rules.v4:5:18: the DUT "+
		"has no") {
		t.Errorf("warnings: %v", warnings)
	}
	for _, r := range e.Resolve() {
		got, _ := r.DUT.Sysctl.Get("net.netfilter.nf_conntrack_max")
		if want := map[bool]string{true: "77"}[r.Name != "raised-max"]; want != "" && got != want {
			t.Errorf("%s has max %s", r.Name, got)
		}
		if !strings.Contains(r.DUT.Rules, "wan0") {
			t.Errorf("%s has the rules %s", r.Name, r.DUT.Rules)
		}
	}
	if _, err := e.SetFiles(map[string][]string{"rules": {"bad"}}); err == nil ||
		!strings.Contains(err.Error(), "bad:3:1: ") {
		t.Errorf("a wrong file: %v", err)
	}
}
