package tuning_test

import (
	"errors"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctload/ctload/agent/tuning"
	"github.com/ctload/ctload/internal/hosttest"
	"github.com/ctload/ctload/internal/netnstest"
	"github.com/ctload/ctload/results"
)

const statefulRules = `*filter
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m state --state NEW --dport 80 -j ACCEPT
COMMIT
`

// notrackRules has both spellings, which must load: experiments use either.
const notrackRules = `*raw
-A PREROUTING -p tcp --dport 80 -j NOTRACK
-A OUTPUT -p tcp --sport 80 -j CT --notrack
COMMIT
`

func TestApplyIptables(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		for _, backend := range []string{tuning.BackendNFT, tuning.BackendLegacy} {
			t.Run(backend, func(t *testing.T) {
				settings := tuning.Settings{
					Rules: statefulRules + notrackRules,
					// It has no line feed at the end.
					Rules6:       "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT",
					RulesBackend: backend,
					Sysctl: []tuning.Sysctl{
						{Key: "net.netfilter.nf_conntrack_tcp_timeout_time_wait", Value: "5"},
						{Key: "net.ipv4.netfilter.ip_conntrack_udp_timeout", Value: "0x0c"},
						{Key: "net.ipv4.ip_local_port_range", Value: "2000 60000"},
					},
				}
				hosttest.Need(t, settings.Tools()...)
				var kernel tuning.Kernel
				if err := kernel.Apply(t.Context(), settings); err != nil {
					t.Fatal(err)
				}
				state, err := kernel.ReadBack(t.Context(), settings)
				if err != nil {
					t.Fatal(err)
				}
				if d := tuning.Differences(settings, state); len(d) > 0 {
					t.Errorf("differences after applying: %q\n%+v", d, state)
				}
				if got := state.Timeouts["net.netfilter.nf_conntrack_udp_timeout"]; got != 12 {
					t.Errorf("udp timeout %d, want 12", got)
				}
				if got := state.Sysctl["net.ipv4.ip_local_port_range"]; got != "2000\t60000" {
					t.Errorf("port range %q", got)
				}
				if state.Tracking.IPv4 != tuning.Yes || state.Tracking.IPv6 != tuning.No {
					t.Errorf("tracking %+v, want IPv4 only", state.Tracking)
				}
				// A second reading shows no change; a foreign change of a rule and a timeout shows.
				again, err := kernel.ReadBack(t.Context(), settings)
				if err != nil {
					t.Fatal(err)
				}
				if c := tuning.Changes(state, again); len(c) > 0 {
					t.Errorf("changes between two readings: %q", c)
				}
				behind := tuning.Settings{
					Rules:        strings.Replace(statefulRules, "--dport 80", "--dport 81", 1),
					RulesBackend: backend,
					Sysctl: []tuning.Sysctl{{Key: "net.netfilter.nf_conntrack_icmp_timeout",
						Value: "31"}},
				}
				if err := kernel.Apply(t.Context(), behind); err != nil {
					t.Fatal(err)
				}
				if again, err = kernel.ReadBack(t.Context(), settings); err != nil {
					t.Fatal(err)
				}
				want := []string{
					"net.netfilter.nf_conntrack_icmp_timeout changed from 30 to 31",
					`the IPv4 rules changed: "-A INPUT -p tcp -m state --state NEW -m tcp ` +
						`--dport 80 -j ACCEPT" is now "-A INPUT -p tcp -m state --state NEW -m ` +
						`tcp --dport 81 -j ACCEPT"`,
				}
				var got []string
				for _, c := range tuning.Changes(state, again) {
					got = append(got, c.String())
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("changes (-want +got):\n%s", diff)
				}
				if err := kernel.Apply(t.Context(), tuning.Settings{
					Rules:  "*filter\nCOMMIT\n*raw\nCOMMIT\n",
					Rules6: "*filter\n:INPUT ACCEPT\nCOMMIT\n", RulesBackend: backend,
					Sysctl: []tuning.Sysctl{{Key: "net.netfilter.nf_conntrack_icmp_timeout",
						Value: "30"}},
				}); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
}

// TestHitsOfRealRules sends datagrams through rules of each kind and finds them in the rules'
// counters.
func TestHitsOfRealRules(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		rules := "*filter\n-A INPUT -p udp -m udp --dport 9 -j DROP\nCOMMIT\n"
		nft := "table inet ctload {\n chain in {\n type filter hook input priority 0;\n" +
			" udp dport 9 counter drop\n }\n}\n"
		for name, settings := range map[string]tuning.Settings{
			"nft backend":    {Rules: rules},
			"legacy backend": {Rules: rules, RulesBackend: tuning.BackendLegacy},
			"nft":            {NFT: nft},
		} {
			t.Run(name, func(t *testing.T) {
				hosttest.Need(t, settings.Tools()...)
				var kernel tuning.Kernel
				read := func() tuning.State {
					t.Helper()
					state, err := kernel.ReadBack(t.Context(), settings)
					if err != nil {
						t.Fatal(err)
					}
					return state
				}
				if err := kernel.Apply(t.Context(), settings); err != nil {
					t.Fatal(err)
				}
				before := read()
				conn, err := net.Dial("udp4", "127.0.0.1:9")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				for range 12 {
					if _, err := conn.Write([]byte("x")); err != nil {
						t.Fatal(err)
					}
				}
				after := read()
				hits := tuning.RuleCounts(before, after)
				for deadline := time.Now().Add(30 * time.Second); (len(hits) == 0 ||
					hits[0].Packets() < 12) && time.Now().Before(deadline); {
					// The kernel handles packets of a loopback later.
					time.Sleep(10 * time.Millisecond)
					after = read()
					hits = tuning.RuleCounts(before, after)
				}
				if changes := tuning.Changes(before, after); len(changes) > 0 {
					t.Errorf("counters count as changes: %q", changes)
				}
				if len(hits) == 0 || hits[0].Packets() != 12 || hits[0].Effect != results.Drops {
					t.Errorf("12 datagrams: %+v", hits)
				}
				undo := tuning.Settings{NFT: "flush ruleset"}
				if settings.RulesBackend == tuning.BackendLegacy {
					undo = tuning.Settings{Rules: "*filter\nCOMMIT\n",
						RulesBackend: tuning.BackendLegacy}
				}
				if err := kernel.Apply(t.Context(), undo); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
}

func TestApplyNFT(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		hosttest.Need(t, "nft")
		settings := tuning.Settings{NFT: `
table inet ctload {
	chain in {
		type filter hook input priority 0; policy accept;
		ct state established,related accept
	}
}`}
		var kernel tuning.Kernel
		if err := kernel.Apply(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		state, err := kernel.ReadBack(t.Context(), settings)
		if err != nil {
			t.Fatal(err)
		}
		if d := tuning.Differences(settings, state); len(d) > 0 {
			t.Errorf("differences after applying: %q", d)
		}
		if state.Tracking.IPv4 != tuning.Yes || state.Tracking.IPv6 != tuning.Yes {
			t.Errorf("tracking %+v, want both families", state.Tracking)
		}
		if err := kernel.Apply(t.Context(), tuning.Settings{NFT: "flush ruleset"}); err != nil {
			t.Fatal(err)
		}
		if state, err = kernel.ReadBack(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		want := []string{"nft: table inet ctload is not in the kernel"}
		if diff := cmp.Diff(want, tuning.Differences(settings, state)); diff != "" {
			t.Errorf("differences (-want +got):\n%s", diff)
		}
		if state.Tracking.IPv4 != tuning.No {
			t.Errorf("tracking %+v after the flush, want none", state.Tracking)
		}
	})
}

// TestApplyErrors checks that each failure names its step and its reason.
func TestApplyErrors(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		hosttest.Need(t, "iptables-nft-restore", "nft")
		for name, test := range map[string]struct {
			settings tuning.Settings
			contains []string
			is       error
		}{
			"rule": {
				tuning.Settings{Rules: "*filter\n-A INPUT -m nonsense -j ACCEPT\nCOMMIT\n"},
				[]string{"load the IPv4 rules: iptables-nft-restore", "nonsense", "line"}, nil,
			},
			"nft": {
				tuning.Settings{NFT: "table inet x { chain y { nonsense } }"},
				[]string{"load the nft script: nft -f -", "syntax error"}, nil,
			},
			"misspelt key": {
				tuning.Settings{Sysctl: []tuning.Sysctl{{
					Key: "net.netfilter.nf_conntrack_tcp_timeout_timewait", Value: "5",
				}}},
				[]string{"did you mean net.netfilter.nf_conntrack_tcp_timeout_time_wait?"},
				fs.ErrNotExist,
			},
			"no such folder": {
				tuning.Settings{Sysctl: []tuning.Sysctl{{Key: "net.nonsense.key", Value: "5"}}},
				[]string{"this kernel has no net.nonsense"}, fs.ErrNotExist,
			},
			"refused value": {
				tuning.Settings{Sysctl: []tuning.Sysctl{{
					Key: "net.netfilter.nf_conntrack_udp_timeout", Value: "soon",
				}}},
				[]string{"set net.netfilter.nf_conntrack_udp_timeout to soon", "invalid argument"},
				nil,
			},
			"max of another namespace": {
				tuning.Settings{Sysctl: []tuning.Sysctl{{Key: "net.netfilter.nf_conntrack_max",
					Value: "1000"}}},
				[]string{"set net.netfilter.nf_conntrack_max to 1000", "initial network namespace"},
				fs.ErrPermission,
			},
			"hash of another namespace": {
				tuning.Settings{Buckets: 1024}, []string{"set the hash to 1024 buckets",
					"initial network namespace"}, nil,
			},
		} {
			t.Run(name, func(t *testing.T) {
				err := tuning.Kernel{}.Apply(t.Context(), test.settings)
				if err == nil {
					t.Fatal("no error")
				}
				for _, text := range test.contains {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("error %q does not say %q", err, text)
					}
				}
				if test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("error %v is not %v", err, test.is)
				}
			})
		}
	})
}

// TestPolicies: the policy of a chain of nft, and of iptables over nf_tables, counts what it drops.
func TestPolicies(t *testing.T) {
	netnstest.Run(t, func(t *testing.T) {
		hosttest.Need(t, "nft", "iptables-nft-restore")
		for name, settings := range map[string]tuning.Settings{
			"nft": {NFT: `table inet ctload {
				chain in { type filter hook input priority 0; policy drop; tcp dport 1 accept; }
			}`},
			"iptables": {Rules: "*filter\n-P INPUT DROP\n-A INPUT -p tcp --dport 1 -j ACCEPT\n" +
				"COMMIT\n"},
		} {
			var kernel tuning.Kernel
			if err := kernel.Apply(t.Context(), settings); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			read := func() tuning.State {
				t.Helper()
				state, err := kernel.ReadBack(t.Context(), settings)
				if err != nil || state.Unread["policies"] != "" {
					t.Fatalf("%s: %v, %s", name, err, state.Unread["policies"])
				}
				return state
			}
			before := read()
			conn, err := net.Dial("udp4", "127.0.0.1:9")
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				if _, err := conn.Write([]byte("x")); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			var counts []results.RuleCount
			for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
				counts = tuning.RuleCounts(before, read())
				if len(counts) > 0 && counts[0].Packets() == 5 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if len(counts) != 1 || counts[0].Packets() != 5 || counts[0].Text != "policy DROP" ||
				counts[0].Effect != results.Drops {
				t.Errorf("%s: 5 datagrams: %+v", name, counts)
			}
			if changes := tuning.Changes(before, read()); len(changes) > 0 {
				t.Errorf("%s: counters count as changes: %q", name, changes)
			}
			if err := kernel.Apply(t.Context(), tuning.Settings{NFT: "flush ruleset"}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
