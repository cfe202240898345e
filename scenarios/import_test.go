package scenarios

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestImport_WholeFiles imports texts as projects print them, and asks what they do with the load.
func TestImport_WholeFiles(t *testing.T) {
	const folder = "../internal/rules/testdata/"
	for file, want := range map[string]struct {
		topology TopologyKind
		notes    []string
		fails    string // nothing tells the policy of a timeout
	}{
		"ufw.rules":    {Server, []string{"ufw.rules is read as rules"}, ""},
		"ufw.rules6":   {Server, []string{"ufw.rules6 is read as rules6"}, `no object "web"`},
		"docker.rules": {Router, []string{"is read as rules"}, ""},
		"kube-proxy.rules": {
			Router, []string{"ct_state_invalid_dropped_pkts is made before the rules"}, "",
		},
		"istio.rules":   {Server, []string{"is read as rules"}, ""},
		"firewalld.nft": {"", []string{"is read as nft"}, ""},
		"gateway.nft":   {Router, []string{"is read as nft"}, ""},
	} {
		made, err := Import([]string{folder + file})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		notes := strings.Join(made.Notes, "\n")
		for _, note := range want.notes {
			if !strings.Contains(notes, note) {
				t.Errorf("%s: the notes lack %q:\n%s", file, note, notes)
			}
		}
		e, warnings, err := Parse("x.yaml", made.Text)
		if err != nil {
			if want.fails == "" || !strings.Contains(err.Error(), want.fails) {
				t.Errorf("%s: %v\n%s", file, err, made.Text)
			}
			continue
		}
		t.Logf("%s: %s\n%s\nwarnings: %v", file, e.Topology.Kind, notes, warnings)
		if want.topology != "" && e.Topology.Kind != want.topology {
			t.Errorf("%s: topology %s, want %s", file, e.Topology.Kind, want.topology)
		}
	}
}

// TestImport_EveryKind tells by the content of a file what it is.
func TestImport_EveryKind(t *testing.T) {
	folder := t.TempDir()
	var settings strings.Builder
	for range manySettings {
		settings.WriteString("vm.swappiness = 60\n")
	}
	texts := map[string]string{
		"saved": "*filter\n:INPUT ACCEPT [5:6]\n[5:6] -A INPUT -m state --state NEW -j " +
			"ACCEPT\nCOMMIT\n",
		"commands": "#!/bin/sh\niptables -F\nsudo iptables -t nat -P PREROUTING ACCEPT\n" +
			"iptables -t nat -A POSTROUTING -o wan0 -j MASQUERADE\nfor x in $LIST; do\n",
		"nft":     "#!/usr/sbin/nft -f\ntable inet t {\n\tchain c {\n\t}\n}\n",
		"99.conf": "net.netfilter.nf_conntrack_max = 5000\nvm.swappiness = 10\nkernel.panic = 1\n",
		"all": settings.String() + "net.netfilter.nf_conntrack_max = 7\n" +
			"net.netfilter.nf_conntrack_count = 3\nnet.core.somaxconn = 9\n",
		"mod": "options nf_conntrack hashsize=4096\nblacklist pcspkr\noptions kvm " +
			"nested=1\nnf_conntrack_ftp\n",
		"sets": "create blocked hash:ip family inet hashsize 1024 maxelem 65536\nadd " +
			"blocked 192.0.2.1\n",
		"other": "hello, world\n",
	}
	path := func(name string) string { return filepath.Join(folder, name) }
	for name, text := range texts {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for names, want := range map[string]struct {
		text, note string
		check      func(Configuration) bool
	}{
		"saved": {
			"", "saved is read as " +
				"rules", func(c Configuration) bool {
				return strings.Contains(c.Rules, "--state "+
					"NEW")
			},
		},
		"commands": {"topology: router", "1 lines that are no plain " +
			"command", func(c Configuration) bool {
			return strings.Contains(c.Rules, "*nat\n:PREROUTING ACCEPT [0:0]\n-A POSTROUTING -o "+
				"wan0") && slices.Contains(c.Cards, Card{"wan0", nodeServer})
		}},
		"nft": {
			"", "nft is read as " +
				"nft", func(c Configuration) bool {
				return strings.Contains(c.NFT, "table inet "+
					"t")
			},
		},
		"99.conf": {"", "1 settings of vm.* are left out", func(c Configuration) bool {
			v, _ := c.Sysctl.Get("net.netfilter.nf_conntrack_max")
			return v == "5000" && len(c.Sysctl) == 1
		}},
		"all": {"", "settings of vm.* are left out", func(c Configuration) bool {
			v, _ := c.Sysctl.Get("net.netfilter.nf_conntrack_max")
			return v == "7" && len(c.Sysctl) == 1
		}},
		"mod": {"", "mod is read as modprobe", func(c Configuration) bool {
			return slices.Equal(c.Modules.Load, []string{"nf_conntrack " +
				"hashsize=4096", "nf_conntrack_ftp"})
		}},
		"sets": {
			"", "sets is read as " +
				"ipset", func(c Configuration) bool {
				return strings.HasPrefix(c.IPSet, "create "+
					"blocked")
			},
		},
	} {
		made, err := Import([]string{path(names)})
		if err != nil {
			t.Errorf("%s: %v", names, err)
			continue
		}
		notes := strings.Join(made.Notes, "\n")
		if !strings.Contains(string(made.Text), want.text) || !strings.Contains(notes, want.note) {
			t.Errorf("%s:\n%s\n%s", names, notes, made.Text)
		}
		e, _, err := Parse("x.yaml", made.Text)
		if err != nil {
			t.Errorf("%s: %v\n%s", names, err, made.Text)
			continue
		}
		roundTrip(t, e)
		if c := e.Resolve()[0].DUT; !want.check(c) {
			t.Errorf("%s: %+v", names, c)
		}
	}
	if _, err := Import([]string{path("other")}); err == nil {
		t.Error("any text is imported")
	}
	if _, err := Import([]string{path("missing")}); err == nil {
		t.Error("a missing file is imported")
	}
}

// TestObjects_MustExist names sets and objects that nothing makes.
func TestObjects_MustExist(t *testing.T) {
	const set = "*filter\n-A INPUT -m set --match-set blocked src -j DROP\n" +
		"-A INPUT -m state --state NEW -j ACCEPT\nCOMMIT\n"
	const timeout = "*raw\n-A PREROUTING -p tcp --dport 80 -j CT --timeout web-short\nCOMMIT\n"
	for name, test := range map[string]struct{ dut, want string }{
		"no set":    {keyed("rules", set), `x.yaml:6:33: there is no set "blocked"`},
		"a set":     {keyed("rules", set) + keyed("ipset", "create blocked hash:ip"), ""},
		"no object": {keyed("rules", timeout), `there is no object "web-short", which nfct makes`},
		"an object": {
			keyed("rules", timeout) + "  setup: [nfct add timeout web-short inet tcp " +
				"established 100]\n", "",
		},
		"a shell": {"  setup: [\"nfct x | cat\"]\n", "no shell runs it"},
		"a path":  {"  setup: [../sbin/nfct x]\n", "names its program by a path"},
	} {
		_, _, err := Parse("x.yaml", []byte("experiment: x\nworkload: ["+load+"]\ndut:\n"+test.dut))
		switch {
		case test.want == "" && err != nil, test.want != "" && err == nil:
			t.Errorf("%s: %v", name, err)
		case err != nil && !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %v\nlacks %s", name, err, test.want)
		}
	}
}

// TestInterfaces_HaveTheNamesOfTheRules gives the DUT's cards names, and warns of exchanged roles.
func TestInterfaces_HaveTheNamesOfTheRules(t *testing.T) {
	const rules = "*nat\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n"
	named := strings.ReplaceAll(rules, "eth0", "wan0")
	for name, test := range map[string]struct{ topology, dut, want string }{
		"exchanged": {
			"router", keyed("rules", rules), "interfaces: {eth0: server, eth1: client} exchanges",
		},
		"named": {
			"router", keyed("rules", named) + "  interfaces: {wan0: server, lan0: client}\n", "",
		},
		"unknown": {"router", keyed("rules", named), `the DUT has no interface "wan0"`},
		"of a setting": {"router", keyed("sysctl", "net.ipv4.conf.ens3.rp_filter = 0\n"+
			"-net.ipv4.conf.ens4.rp_filter = 0\nnet.ipv4.conf.eth1.rp_filter = 0") +
			keyed("rules", stateful), `the DUT has no interface "ens3"`},
	} {
		if got := warningsOf(t, test.topology, test.dut, load); !strings.Contains(got, test.want) ||
			test.want == "" && got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
	for dut, want := range map[string]string{
		"  interfaces: {wan0: server}\n":         `the server topology has no link "server"`,
		"  interfaces: {a: client, b: client}\n": "has the name a already",
		"  interfaces: {a/b: client}\n":          "is not the name of a network card",
		"  interfaces: wan0\n":                   "interfaces must be names with links",
	} {
		_, _, err := Parse("x.yaml", []byte("experiment: x\nworkload: ["+load+"]\ndut:\n"+dut))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nlacks %s", dut, err, want)
		}
	}
}

// FuzzImport makes experiments of any text: the texts of an experiment are those that were taken,
// and nothing else of it comes from them.
func FuzzImport(f *testing.F) {
	for _, want := range wholeFiles {
		for name := range strings.FieldsSeq(want.files) {
			text, err := os.ReadFile(filepath.Join("testdata/imports", name))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(name, string(text))
		}
	}
	f.Add("up.sh", "iptables -t nat -A POSTROUTING -o wan0 -j MASQUERADE\niptables -N x | y\n")
	f.Add("a", "net.ipv4.ip_forward = 1\nvm.swappiness=1\n")
	f.Add("m", "options nf_conntrack hashsize=4096\n")
	f.Add("s\nexperiment: other", "create a hash:ip\nadd a 10.0.0.1\n")
	f.Fuzz(func(t *testing.T, name, text string) {
		if strings.ContainsFunc(name+text, func(r rune) bool {
			return r == utf8.RuneError || unicode.IsControl(r) && r != '\n' && r != '\t'
		}) {
			return
		}
		i := importer{texts: map[string]string{}}
		if !i.take(name, text) {
			return
		}
		made, err := i.experiment()
		if err != nil {
			t.Fatal(err)
		}
		p := newProblems()
		top := parse(p, "x.yaml", made.Text)
		if p.err() != nil || top.get("experiment").text != "imported" {
			t.Fatalf("%v\n%s", p.err(), made.Text)
		}
		for key, taken := range i.texts {
			if want := plain(taken); strings.TrimSpace(want) != "" &&
				strings.TrimRight(top.get("dut").get(key).text, "\n") !=
					strings.TrimRight(want, "\n") {
				t.Errorf("%s is %q, want %q", key, top.get("dut").get(key).text, want)
			}
		}
	})
}
