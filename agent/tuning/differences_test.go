package tuning

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDifferences(t *testing.T) {
	proved := State{
		Loaded: true, Max: 262144, Buckets: 65536, BucketMultiple: 512,
		Sysctl:       map[string]string{"net.netfilter.nf_conntrack_max": "262144"},
		ModuleStates: map[string]ModuleState{},
	}
	for name, test := range map[string]struct {
		settings Settings
		state    func(*State)
		want     []string
		remarks  []string
	}{
		"as asked": {settings: Settings{Buckets: 65536,
			Sysctl: []Sysctl{{Key: "net.netfilter.nf_conntrack_max", Value: "262144"}}}},
		"numbers are compared as the kernel reads them": {
			settings: Settings{Sysctl: []Sysctl{{Key: "net.netfilter.nf_conntrack_max",
				Value: " 0x40000 "}}},
		},
		"white space": {
			settings: Settings{Sysctl: []Sysctl{{Key: "net.ipv4.tcp_rmem",
				Value: "4096 131072  6291456"}}},
			state: func(s *State) { s.Sysctl["net.ipv4.tcp_rmem"] = "4096\t131072\t6291456" },
		},
		"a word": {
			settings: Settings{Sysctl: []Sysctl{{Key: "net.ipv4.tcp_congestion_control",
				Value: "bbr"}}},
			state: func(s *State) { s.Sysctl["net.ipv4.tcp_congestion_control"] = "cubic" },
			want:  []string{"net.ipv4.tcp_congestion_control is cubic, not bbr as asked"},
		},
		"another value": {
			settings: Settings{Sysctl: []Sysctl{{Key: "net.netfilter.nf_conntrack_max",
				Value: "1000000"}}},
			want: []string{"net.netfilter.nf_conntrack_max is 262144, not 1000000 as asked"},
		},
		"an old name": {
			settings: Settings{Sysctl: []Sysctl{{Key: "net.ipv4.ip_conntrack_max",
				Value: "262144"}}},
			remarks: []string{"net.ipv4.ip_conntrack_max is called " +
				"net.netfilter.nf_conntrack_max in this kernel"},
		},
		"slashes are no remark": {
			settings: Settings{Sysctl: []Sysctl{{
				Key: "net/netfilter/nf_conntrack_max", Value: "262144",
			}}},
		},
		"unread": {
			settings: Settings{Sysctl: []Sysctl{{Key: "net.a", Value: "1"}}},
			state:    func(s *State) { s.Unread = map[string]string{"net.a": "gone"} },
			want:     []string{"net.a could not be read: gone"},
		},
		"rounded hash": {
			settings: Settings{Buckets: 65100,
				Sysctl: []Sysctl{{Key: "net.netfilter.nf_conntrack_buckets", Value: "65025"}}},
			state: func(s *State) { s.Sysctl["net.netfilter.nf_conntrack_buckets"] = "65536" },
			remarks: []string{
				"the kernel rounded the hash from 65100 up to 65536 buckets, a multiple of 512",
				"the kernel rounded net.netfilter.nf_conntrack_buckets from 65025 up to 65536, " +
					"a multiple of 512",
			},
		},
		"another hash": {
			settings: Settings{Buckets: 65024},
			want:     []string{"the hash has 65536 buckets, not 65024 as asked"},
		},
		"no hash": {
			settings: Settings{Buckets: 512},
			state:    func(s *State) { s.Loaded, s.Buckets = false, -1 },
			want: []string{"the size of the hash could not be read: connection tracking is " +
				"not loaded"},
		},
		"modules": {
			settings: Settings{LoadModules: []string{"nf-conntrack"},
				RemoveModules: []string{"nf_nat"}},
			state: func(s *State) {
				s.ModuleStates = map[string]ModuleState{"nf_conntrack": ModuleAbsent,
					"nf_nat": ModuleBuilt}
			},
			want: []string{"module nf_conntrack is not loaded",
				"module nf_nat is still there (built in)"},
		},
		"rules": {
			settings: Settings{Rules: "*filter\n:INPUT DROP\n-A INPUT -j ACCEPT\n" +
				"-A INPUT -s a.example -j ACCEPT\n-A FORWARD -j DROP\nCOMMIT\n*nat\n" +
				":OUTPUT ACCEPT\nCOMMIT\n"},
			state: func(s *State) {
				s.Rules = "*filter\n:INPUT ACCEPT [1:1]\n:FORWARD ACCEPT [0:0]\n" +
					"-A INPUT -j ACCEPT\nCOMMIT\n"
			},
			want: []string{
				"IPv4 rules: chain FORWARD of table filter holds 0, not 1 as asked",
				"IPv4 rules: the policy of chain INPUT of table filter is ACCEPT, not DROP as " +
					"asked",
			},
		},
		"rules that could not be listed": {
			settings: Settings{Rules6: "*filter\nCOMMIT\n", NFT: "table ip x {}"},
			state: func(s *State) {
				s.Unread = map[string]string{"rules6": "no tool",
					"nft": "no nft"}
			},
			want: []string{"the IPv6 rules could not be listed: no tool",
				"the nft rules could not be listed: no nft"},
		},
		"nft": {
			settings: Settings{NFT: "table ip x {}\ntable inet y {}"},
			state:    func(s *State) { s.NFT = "table ip x {\n}\n" },
			want:     []string{"nft: table inet y is not in the kernel"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			state := proved
			state.Sysctl = map[string]string{"net.netfilter.nf_conntrack_max": "262144"}
			if test.state != nil {
				test.state(&state)
			}
			if diff := cmp.Diff(test.want, Differences(test.settings, state),
				cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("differences (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.remarks, Remarks(test.settings, state),
				cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("remarks (-want +got):\n%s", diff)
			}
		})
	}
}

// texts returns changes in words.
func texts(changes []Change) (list []string) {
	for _, c := range changes {
		list = append(list, c.String())
	}
	return list
}

func TestChanges(t *testing.T) {
	before := State{
		Release: "6.1.0", Loaded: true, Max: 4096, Buckets: 4096, Count: 3,
		Sysctl:   map[string]string{"net.netfilter.nf_conntrack_max": "4096"},
		Timeouts: map[string]int64{"net.netfilter.nf_conntrack_udp_timeout": 30},
		Rules:    "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n",
		Modules:  []Module{{Name: "nf_conntrack"}},
	}
	same := before
	same.Count, same.Rules = 4000, "*filter\n:INPUT ACCEPT [99:9999]\nCOMMIT\n"
	same.Modules = []Module{{Name: "nf_conntrack", References: 7}, {Name: "nf_conntrack_netlink"},
		{Name: "nfnetlink_hook"}, {Name: "virtio_rng"}}
	if got := Changes(before, same); len(got) > 0 {
		t.Errorf("the fill, counters and references count as changes: %q", got)
	}
	after := State{
		Release: "6.1.1", Loaded: true, Max: 5000, Buckets: 8192,
		Sysctl:   map[string]string{"net.netfilter.nf_conntrack_max": "5000"},
		Timeouts: map[string]int64{"net.netfilter.nf_conntrack_udp_timeout": 31},
		NFT:      "table ip x {\n}\n",
		Modules:  []Module{{Name: "nf_conntrack"}, {Name: "nft_ct"}},
	}
	want := []string{
		"the kernel changed from 6.1.0 to 6.1.1",
		"net.netfilter.nf_conntrack_buckets changed from 4096 to 8192",
		"net.netfilter.nf_conntrack_max changed from 4096 to 5000",
		"net.netfilter.nf_conntrack_udp_timeout changed from 30 to 31",
		`the IPv4 rules changed: "*filter" is now ""`,
		`the nft rules changed: "" is now "table ip x {"`,
		"module nft_ct was not loaded and is loaded",
	}
	if diff := cmp.Diff(want, texts(Changes(before, after))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Changes(before, State{Release: "6.1.0", Max: 4096, Buckets: 4096,
		Sysctl: before.Sysctl, Timeouts: before.Timeouts,
		Rules: before.Rules}); !strings.Contains(strings.Join(texts(got), "\n"),
		"connection tracking was loaded and is not loaded") {
		t.Errorf("an unloaded module: %q", got)
	}
}

func TestInferTracking(t *testing.T) {
	stateful := "*filter\n-A INPUT -m state --state NEW -j ACCEPT\nCOMMIT\n"
	for name, test := range map[string]struct {
		state      State
		ipv4, ipv6 Answer
		evidence   string
	}{
		"no rule": {State{}, No, No, "nothing is tracked, because no rule asks for it"},
		"IPv4": {State{Rules: stateful}, Yes, No,
			"tracking is on because of the rule -A INPUT -m state --state NEW -j ACCEPT"},
		"IPv6": {State{Rules6: stateful}, No, Yes,
			"tracking is on because of the rule -A INPUT -m state --state NEW -j ACCEPT"},
		"nft": {State{NFT: "table inet x {\n chain c {\n  ct state new drop\n }\n}"},
			Yes, Yes, "tracking is on because of the rule ct state new drop"},
		"an object": {State{NFT: "table ip6 x {\n ct timeout t {\n  protocol tcp\n }\n}"},
			No, Yes, "tracking is on because of the object ct timeout t"},
		"entries, no rule": {State{Count: 5}, Unknown, Unknown,
			"the table holds entries, though no rule that was seen asks for tracking"},
		"rules unread": {State{Unread: map[string]string{"rules": "x"}}, Unknown, No,
			"no rule that could be listed asks for tracking, but not all could be listed"},
		"one of them unread": {State{Rules: stateful, Unread: map[string]string{"rules6": "x"}},
			Yes, Unknown,
			"tracking is on because of the rule -A INPUT -m state --state NEW -j ACCEPT"},
	} {
		got := inferTracking(test.state)
		if got.IPv4 != test.ipv4 || got.IPv6 != test.ipv6 || got.Evidence != test.evidence {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
