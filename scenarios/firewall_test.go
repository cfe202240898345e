package scenarios

import (
	"fmt"
	"strings"
	"testing"
)

// warningsOf parses an experiment with a dut and returns its warnings, a line each, with places in
// the file.
func warningsOf(t *testing.T, topology, dut, workload string) string {
	t.Helper()
	text := fmt.Sprintf("experiment: x\ntopology: %s\nworkload: [%s]\ndut:\n%s",
		topology, workload, dut)
	_, warnings, err := Parse("x.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var lines []string
	for _, w := range warnings {
		lines = append(lines, w.String())
	}
	return strings.Join(lines, "\n")
}

// keyed returns a text as the value of a key of a dut.
func keyed(key, text string) string {
	return "  " + key + ": |\n    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n   "+
		" ") + "\n"
}

const (
	load     = "{generator: tcp, connections: 10, concurrency: 2}"
	stateful = "*filter\n-A INPUT -m conntrack --ctstate NEW,ESTABLISHED,UNTRACKED -j ACCEPT\n" +
		"COMMIT\n"
	oneWay     = "notrack in one direction only: the replies (OUTPUT, --sport)"
	noTracking = "no rule needs connection tracking"
)

// TestRules_WarnByMeaning holds warnings to what rules do, whatever words are in them.
func TestRules_WarnByMeaning(t *testing.T) {
	for name, test := range map[string]struct {
		topology, key, text string
		want                []string // in this order, one for each warning
	}{
		"a word in a comment": {
			key:  "rules",
			text: "*filter\n-A INPUT -m comment --comment \"no conntrack here\" -j ACCEPT\nCOMMIT",
			want: []string{noTracking},
		},
		"reject with a reset": {
			key: "nft",
			text: "table inet f {\n chain i { type filter hook input priority 0; policy accept;\n" +
				"  tcp dport 25 reject with tcp reset\n }\n}",
			want: []string{noTracking},
		},
		"one direction, counted": {
			key: "rules",
			text: "*raw\n:PREROUTING ACCEPT [1:60]\n[1:60] -A PREROUTING -p tcp --dport 80 -j CT " +
				"--notrack\nCOMMIT\n" + stateful,
			want: []string{"x.yaml:8:5: " + oneWay},
		},
		"one direction, inserted": {
			key:  "rules",
			text: "*raw\n-I PREROUTING -p tcp --dport 80 -j CT --notrack\nCOMMIT\n" + stateful,
			want: []string{oneWay},
		},
		"one direction, in a chain of its own": {
			key: "rules",
			text: "*raw\n:w - [0:0]\n-A PREROUTING -j w\n-A w -p tcp --dport 80 -j CT --notrack\n" +
				"COMMIT\n" + stateful,
			want: []string{"x.yaml:9:5: " + oneWay},
		},
		"one direction, IPv6": {
			topology: "{families: [ipv6]}", key: "rules6",
			text: "*raw\n-A PREROUTING -p tcp --dport 80 -j CT --notrack\nCOMMIT\n" + stateful,
			want: []string{oneWay},
		},
		"one direction, of a connection of the DUT's own": {
			key:  "rules",
			text: "*raw\n-A OUTPUT -p tcp --dport 3306 -j CT --notrack\nCOMMIT\n" + stateful,
			want: []string{"the replies (PREROUTING, --sport)"},
		},
		"one direction, nft, and refused": {
			key: "nft",
			text: "table ip raw {\n chain p { type filter hook prerouting priority raw;\n" +
				"  tcp dport 80 notrack\n }\n}\ntable ip filter {\n chain input { type filter " +
				"hook " +
				"input priority 0; policy drop;\n  ct state established accept\n" +
				"  tcp dport 80 ct state new accept\n }\n}",
			want: []string{
				"x.yaml:8:7: " + oneWay, "refuses untracked packets (tcp to port 80)",
			},
		},
		"untracked packets refused beside another port": {
			key: "rules",
			text: "*raw\n-A PREROUTING -p tcp --dport 80 -j CT --notrack\n-A OUTPUT -p tcp " +
				"--sport " +
				"80 -j CT --notrack\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp " +
				"--dport 22 " +
				"-j ACCEPT\n-A INPUT -p tcp --dport 80 -m state --state NEW -j ACCEPT\nCOMMIT",
			want: []string{"Accept UNTRACKED in INPUT"},
		},
		"other traffic exempt": {
			key: "rules",
			text: "*raw\n-A PREROUTING -p udp --dport 53 -j CT --notrack\n" +
				"-A OUTPUT -p udp --sport 53 -j CT --notrack\nCOMMIT\n" + stateful,
		},
		"loopback exempt": {
			key: "rules",
			text: "*raw\n-A PREROUTING -i lo -j CT --notrack\n-A OUTPUT -o lo -j CT --notrack\n" +
				"COMMIT\n" + stateful,
		},
		"other traffic exempt, and all refused": {
			key: "rules",
			text: "*raw\n-A PREROUTING -p udp --dport 53 -j CT --notrack\n-A OUTPUT -p udp " +
				"--sport " +
				"53 -j CT --notrack\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n" +
				"-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT",
			want: []string{
				"x.yaml:11:5: the policy DROP of chain INPUT of table ip filter refuses the load",
			},
		},
		"both directions of a router's own service": {
			topology: "router", key: "rules",
			text: "*raw\n-A PREROUTING -d 169.254.20.10/32 -p udp --dport 53 -j CT --notrack\n-A " +
				"OUTPUT -s 169.254.20.10/32 -p udp --sport 53 -j CT --notrack\nCOMMIT\n*filter\n" +
				"-A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT\nCOMMIT",
		},
		"one direction of the load, which a router forwards": {
			topology: "router", key: "rules",
			text: "*raw\n-A PREROUTING -p tcp --dport 80 -j CT --notrack\n-A OUTPUT -p tcp " +
				"--sport 80 -j CT --notrack\nCOMMIT\n*filter\n-A FORWARD -m conntrack --ctstate " +
				"NEW,ESTABLISHED,UNTRACKED -j ACCEPT\nCOMMIT",
			want: []string{"x.yaml:7:5: notrack in one direction only: the replies (PREROUTING"},
		},
		"accepted before the notrack": {
			key: "nft",
			text: "table ip r {\n chain w { accept; }\n chain p { type filter hook prerouting " +
				"priority -300; jump w; notrack; }\n chain o { type filter hook output priority " +
				"-300; jump w; notrack; }\n chain i { type filter hook input priority 0; ct " +
				"state " +
				"new accept; }\n}",
		},
		"no such interface": {
			key: "rules",
			text: "*filter\n:INPUT DROP [0:0]\n-A INPUT -i wan0 -p tcp --dport 80 -j ACCEPT\n" +
				"-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT",
			want: []string{
				"refuses the load",
				`x.yaml:8:17: the DUT has no interface "wan0": it has eth0 (client)`,
			},
		},
		"another address of the DUT": {
			key: "rules",
			text: "*filter\n:INPUT DROP [0:0]\n-A INPUT -d 203.0.113.5/32 -p tcp --dport 80 -j " +
				"ACCEPT\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT",
			want: []string{
				"refuses the load",
				"x.yaml:8:5: the rule is about 203.0.113.5/32, and no node of the lab has that " +
					"address: the load \"tcp\" does not match; addresses: " +
					"{203.0.113.5: dut}",
			},
		},
		"addresses of other clients, in a chain": {
			key: "nft",
			text: "table ip t {\n chain office { tcp dport 80 accept; }\n chain i { type filter " +
				"hook input priority 0; policy drop;\n  ip saddr { 192.168.7.0/24 } ct state new " +
				"jump office\n  ct state established accept\n }\n}",
			want: []string{"refuses the load", "addresses: {192.168.7.0/24: client}"},
		},
		"an address that is led on": {
			topology: "router", key: "rules",
			text: stateful + "*nat\n-A PREROUTING -d 203.0.113.5 -p tcp --dport 80 -j DNAT " +
				"--to-destination ${server.address}\nCOMMIT",
			want: []string{
				"no rule of the DUT is about the load", "the rule is about 203.0.113.5, and",
			},
		},
		"addresses of the lab": {
			topology: "router", key: "rules",
			text: "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -s 10.0.0.0/8 -d " +
				"${server.network} -m conntrack --ctstate NEW -j ACCEPT\n-A FORWARD -d " +
				"${client.address} -j ACCEPT\nCOMMIT",
		},
		"its loopback": {
			key: "rules",
			text: stateful + "*nat\n-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination " +
				"127.0.0.1:8080\nCOMMIT",
		},
		"not on another interface": {
			key:  "rules",
			text: stateful + "*nat\n-A POSTROUTING ! -o docker0 -j MASQUERADE\nCOMMIT",
		},
		"rules about another port": {
			key: "rules",
			text: "*filter\n-A INPUT -p tcp --dport 8080 -m conntrack --ctstate NEW -j ACCEPT\n" +
				"COMMIT",
			want: []string{"no rule of the DUT is about the load"},
		},
		"a lab's own interface": {
			topology: "router", key: "nft",
			text: "table ip f { chain f { type filter hook forward priority 0; policy drop; " +
				"iifname ${client.interface} ct state new accept; ct state established accept; } }",
		},
	} {
		t.Run(name, func(t *testing.T) {
			topology := test.topology
			if topology == "" {
				topology = "server"
			}
			got := warningsOf(t, topology, keyed(test.key, test.text), load)
			lines := strings.Split(got, "\n")
			if got == "" {
				lines = nil
			}
			if len(lines) != len(test.want) {
				t.Fatalf("%d warnings, want %d:\n%s", len(lines), len(test.want), got)
			}
			for i, want := range test.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("%s\nlacks %q", lines[i], want)
				}
			}
		})
	}
}

// TestModulesRemoved_BesideRulesThatTrackNothing removes nf_conntrack beside a reject.
func TestModulesRemoved_BesideRulesThatTrackNothing(t *testing.T) {
	dut := "  modules: {remove: [nf_conntrack]}\n" + keyed("nft",
		"table inet f { chain i { type filter hook input priority 0;\n"+
			"tcp dport 25 reject with tcp reset\n} }")
	if got := warningsOf(t, "server", dut, load); got != "" {
		t.Error(got)
	}
}
