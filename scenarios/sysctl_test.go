package scenarios

import (
	"strings"
	"testing"
)

// TestSysctl_AsSysctlReadsIt reads settings as sysctl(8), sysctl.d(5) and guides have them.
func TestSysctl_AsSysctlReadsIt(t *testing.T) {
	const max = "net.netfilter.nf_conntrack_max"
	for text, test := range map[string]struct {
		want     string // settings, "; " between them
		warnings []string
	}{
		"net.core.somaxconn = 5\n; other comment\n": {"net.core.somaxconn=5", nil},
		"-" + max + " = 5":                          {"-" + max + "=5", nil},
		"net/netfilter/nf_conntrack_max=5":          {max + "=5", nil},
		"sysctl -w " + max + "=5 net.core.somaxconn=6": {
			max + "=5; net.core.somaxconn=6", nil,
		},
		"sudo sysctl -q -w net.ipv4.tcp_rmem=\"1 2 3\"":     {"net.ipv4.tcp_rmem=1 2 3", nil},
		"echo 5 > /proc/sys/net/netfilter/nf_conntrack_max": {max + "=5", nil},
		"echo 5 | sudo tee /proc/sys/net/core/somaxconn":    {"net.core.somaxconn=5", nil},
		max + " = 5\n" + max + " = 6": {
			max + "=6", []string{"x.yaml:6:5: " + max + " is given twice, first in line 5"},
		},
		max + " = 5 # default": {
			max + "=5", []string{"x.yaml:5:39: " + max + ": a comment must be a line of its own"},
		},
		"net.core.somaxconn = 16384 12": {
			"net.core.somaxconn=16384", []string{"x.yaml:5:31: net.core.somaxconn: it is one " +
				"number"},
		},
		"net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter": {
			"net.ipv4.conf.*.rp_filter=2; -net.ipv4.conf.all.rp_filter=", nil,
		},
		"kernel.core_pattern = |/bin/x %e # %p": {"kernel.core_pattern=|/bin/x %e # %p", nil},
		"net.ipv4.tcp_sync_retries = 3": {
			"net.ipv4.tcp_sync_retries=3", []string{`did you mean "net.ipv4.tcp_syn_retries"?`},
		},
		"-net.ipv4.tcp_tw_recycle = 1": {
			"-net.ipv4.tcp_tw_recycle=1", []string{"gone since Linux 4.12"},
		},
		max + " = 25000000\nnet.netfilter.nf_conntrack_buckets = 6250000": {
			max + "=25000000", []string{"take 6.0 GiB and more, and the machine has 512MiB"},
		},
	} {
		dut := keyed("sysctl", text) + keyed("rules", stateful)
		data := "experiment: x\nworkload: [" + load + "]\ndut:\n" + dut
		e, warnings, err := Parse("x.yaml", []byte(data))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		roundTrip(t, e)
		var got []string
		for _, s := range e.Resolve()[0].DUT.Sysctl {
			got = append(got, map[bool]string{true: "-"}[s.Optional]+s.Key+"="+s.Value)
		}
		if joined := strings.Join(got, "; "); joined != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", text, joined, test.want)
		}
		if len(warnings) != len(test.warnings) {
			t.Errorf("%s: warnings %v", text, warnings)
			continue
		}
		for i, want := range test.warnings {
			if !strings.Contains(warnings[i].String(), want) {
				t.Errorf("%s:\n%s\nlacks %s", text, warnings[i], want)
			}
		}
	}
	for text, want := range map[string]string{
		"net.ipv4.tcp_tw_recycle = 1\nnet.netfilter.nf_conntrack_helper = 1": "x.yaml:6:5: " +
			"net.netfilter.nf_conntrack_helper is gone since Linux 6.0",
		"echo 5 > " +
			"/sys/module/nf_conntrack/parameters/acct": `write ` +
			`modules: {load: ["nf_conntrack acct=5"]}`,
		"echo 5 > /etc/x":        "is not a sysctl",
		"sysctl -p /etc/x.conf":  "a setting must be key=value",
		"net.core.somaxconn=":    "a setting must be key=value",
		"net.core..somaxconn= 1": "is not the name of a sysctl",
	} {
		data := "experiment: x\nworkload: [" + load + "]\ndut:\n" + keyed("sysctl", text)
		if _, _, err := Parse("x.yaml", []byte(data)); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nlacks %s", text, err, want)
		}
	}
}

// TestModules_ParametersAndOldNames names what the kernel passes over, and today's modules.
func TestModules_ParametersAndOldNames(t *testing.T) {
	parse := func(modules string) (*Experiment, []Warning, error) {
		return Parse("x.yaml", []byte("experiment: x\nworkload: ["+load+"]\ndut:\n  modules: "+
			"{load: "+
			modules+"}\n"+keyed("rules", stateful)))
	}
	if _, _, err := parse(`["nf_conntrack hashize=4096"]`); err == nil ||
		!strings.Contains(err.Error(), `x.yaml:4:20: nf_conntrack has no parameter "hashize"`) ||
		!strings.Contains(err.Error(), `did you mean "hashsize"?`) {
		t.Errorf("a parameter with a mistake: %v", err)
	}
	_, late, err := parse(`[nf_conntrack, "nf_conntrack hashsize=4096"]`)
	if err != nil || len(late) != 1 || !strings.Contains(late[0].String(),
		"x.yaml:4:34: the kernel ignores hashsize=4096: a line before loads nf_conntrack") {
		t.Errorf("a parameter that comes too late: %v, %v", late, err)
	}
	e, warnings, err := parse("[ip_conntrack_ftp, ip_nat_ftp, nf_conntrack_proto_gre]")
	if err != nil || len(warnings) != 3 {
		t.Fatalf("%v, %v", warnings, err)
	}
	got := strings.Join(e.Resolve()[0].DUT.Modules.Load, " ")
	if got != "nf_conntrack_ftp nf_nat_ftp nf_conntrack" {
		t.Errorf("modules: %s", got)
	}
}
