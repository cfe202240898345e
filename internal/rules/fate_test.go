package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ctload/ctload/internal/rules"
)

var degrees = map[rules.Fit]string{rules.Never: "no", rules.Maybe: "maybe", rules.Surely: "yes"}

// words tells a fate as "untracked yes by RULE; refused maybe by RULE; to TARGET".
func words(f rules.Fate) string {
	var parts []string
	if f.Untracked > rules.Never {
		parts = append(parts, fmt.Sprintf("untracked %s", degrees[f.Untracked]))
	}
	if f.Refused > rules.Never {
		parts = append(parts, fmt.Sprintf("refused %s by %s", degrees[f.Refused], f.Refusing))
	}
	if f.Target != "" {
		parts = append(parts, "to "+f.Target)
	}
	return strings.Join(parts, "; ")
}

var (
	web     = rules.Flow{Family: rules.IPv4, Protocol: "tcp", Port: 80, In: []string{"eth0"}}
	through = rules.Flow{
		Family: rules.IPv4, Protocol: "tcp", Port: 80, Through: true,
		In: []string{"eth0", "${client.interface}"}, Out: []string{"eth1"},
	}
)

// TestFate_OfEchoes follows pings and their answers through rules about kinds of messages.
func TestFate_OfEchoes(t *testing.T) {
	six := rules.Flow{Family: rules.IPv6, Protocol: "icmpv6", Through: true}
	four := rules.Flow{Family: rules.IPv4, Protocol: "icmp"}
	raw := func(match string) rules.Texts {
		return rules.Texts{IPv6: "*raw\n-A PREROUTING -p ipv6-icmp " + match + " -j DROP\n" +
			"-A PREROUTING -p ipv6-icmp -j CT --notrack\nCOMMIT"}
	}
	input := func(match string) rules.Texts {
		return rules.Texts{IPv4: "*filter\n-A INPUT -p icmp " + match + " -j DROP\nCOMMIT"}
	}
	nft := func(rule string) rules.Texts {
		return rules.Texts{NFT: "table inet x { chain c { type filter hook prerouting priority " +
			"raw; " + rule + "; notrack; }; }"}
	}
	const exempt, dropped, either = "untracked yes", "refused yes",
		"untracked maybe; refused maybe"
	for name, test := range map[string]struct {
		texts       rules.Texts
		flow        rules.Flow
		there, back string
	}{
		"replies":        {raw("--icmpv6-type echo-reply"), six, exempt, dropped},
		"by number":      {raw("-m icmp6 --icmpv6-type 129/0"), six, exempt, dropped},
		"requests":       {raw("--icmpv6-type echo-request"), six, dropped, exempt},
		"all but those":  {raw("! --icmpv6-type 128"), six, exempt, dropped},
		"another code":   {raw("--icmpv6-type 129/1"), six, exempt, exempt},
		"other messages": {raw("--icmpv6-type packet-too-big"), six, exempt, exempt},
		"four":           {input("--icmp-type 0"), four, "", ""},
		"four, requests": {input("--icmp-type echo-req"), four, dropped, ""},
		"any":            {input("--icmp-type any"), four, dropped, ""},
		"nft":            {nft("icmpv6 type echo-reply drop"), six, exempt, dropped},
		"nft, set": {
			nft("icmpv6 type { nd-redirect, echo-request } drop"), six, dropped, exempt,
		},
		"nft, map": {
			nft("icmpv6 type vmap { echo-reply : drop, nd-redirect : accept }"), six, exempt,
			dropped,
		},
		"nft, of IPv4": {nft("icmp type echo-reply drop"), six, exempt, exempt},
		"nft, a range": {nft("icmpv6 type 100-200 drop"), six, either, either},
	} {
		there, back := rules.Read(test.texts).Directions(test.flow)
		for _, way := range []struct {
			fate rules.Fate
			want string
		}{{there, test.there}, {back, test.back}} {
			if got, _, _ := strings.Cut(words(way.fate), " by "); got != way.want {
				t.Errorf("%s: %q, want %q", name, got, way.want)
			}
		}
	}
}

// TestFate_OfIptables follows a connection to port 80 through rules of iptables.
func TestFate_OfIptables(t *testing.T) {
	const drops = "*filter\n:INPUT DROP [0:0]\n"
	const refused = "refused yes by the policy DROP of chain INPUT of table ip filter"
	for name, test := range map[string]struct{ text, want string }{
		"nothing":           {"", ""},
		"accepted by state": {drops + "-A INPUT -m state --state NEW -j ACCEPT\nCOMMIT", ""},
		"only answers accepted": {
			drops + "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n" +
				"COMMIT", refused,
		},
		"another port":      {drops + "-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT", refused},
		"another interface": {drops + "-A INPUT -i wan0 -j ACCEPT\nCOMMIT", refused},
		"its interface":     {drops + "-A INPUT -i eth+ -j ACCEPT\nCOMMIT", ""},
		"an address": {
			drops + "-A INPUT -s 10.0.0.0/8 -j ACCEPT\nCOMMIT",
			strings.Replace(refused, "yes", "maybe", 1),
		},
		"any address": {drops + "-A INPUT -s 0.0.0.0/0 -j ACCEPT\nCOMMIT", ""},
		"a mark": {
			drops + "-A INPUT -m mark --mark 1 -j ACCEPT\nCOMMIT", refused,
		},
		"a chain that accepts": {
			drops + ":mine - [0:0]\n-A INPUT -j mine\n-A mine -p tcp --dport http -j ACCEPT\n" +
				"COMMIT", "",
		},
		"a chain that returns": {
			drops + ":mine - [0:0]\n-A INPUT -j mine\n-A mine -j RETURN\nCOMMIT", refused,
		},
		"a goto": {
			drops + ":mine - [0:0]\n-A INPUT -g mine\n-A INPUT -j ACCEPT\n-A mine -j LOG\nCOMMIT",
			refused,
		},
		"a loop of chains": {
			drops + ":a - [0:0]\n:b - [0:0]\n-A INPUT -j a\n-A a -j b\n-A b -j a\nCOMMIT",
			strings.Replace(refused, "yes", "maybe", 1),
		},
		"invalid packets dropped": {
			"*filter\n-A INPUT -m conntrack --ctstate INVALID -j DROP\n" +
				"-A INPUT -m comment --comment \"-j DROP\" -j ACCEPT\n-A INPUT -j DROP\nCOMMIT", "",
		},
		"untracked, and accepted as such": {
			"*raw\n-A PREROUTING -p tcp --dport 80 -j CT --notrack\nCOMMIT\n" + drops +
				"-A INPUT -m conntrack --ctstate UNTRACKED -j ACCEPT\nCOMMIT", "untracked yes",
		},
		"untracked, and not accepted": {
			"*raw\n[5:6] -I PREROUTING -p tcp --dport 80 -j CT --notrack\nCOMMIT\n" + drops +
				"-A INPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT\n" +
				"-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT", "untracked yes; " + refused,
		},
		"accepted before": {
			"*raw\n-A PREROUTING -p tcp -j ACCEPT\n-A PREROUTING -j CT --notrack\nCOMMIT", "",
		},
		"the answers' chain": {"*raw\n-A OUTPUT -p tcp --sport 80 -j CT --notrack\nCOMMIT", ""},
		"other ports, by the client's": {
			"*raw\n-A PREROUTING -p tcp --sport 53 -j CT --notrack\nCOMMIT", "",
		},
		"a port of either side": {
			"*raw\n-A PREROUTING -p tcp -m multiport --ports 80,81 -j CT --notrack\nCOMMIT",
			"untracked yes",
		},
		"a redirect": {
			"*nat\n-A PREROUTING -p tcp -j REDIRECT --to-ports 15006\n" +
				"-A PREROUTING -j DNAT --to-destination 192.0.2.1\nCOMMIT", "to :15006",
		},
		"a redirect of another port": {
			"*nat\n-A PREROUTING -p tcp --dport 443 -j REDIRECT --to-ports 15006\nCOMMIT", "",
		},
		"a translation": {
			"*nat\n:KUBE - [0:0]\n-A PREROUTING -j KUBE\n" +
				"-A KUBE -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:8080\nCOMMIT",
			"to 10.0.0.1:8080",
		},
		"a translation by chance": {
			"*nat\n-A PREROUTING -m statistic --mode random --probability 0.5 -j DNAT " +
				"--to-destination 10.0.0.1\nCOMMIT", "",
		},
	} {
		read := rules.Read(rules.Texts{IPv4: test.text})
		if got := words(read.Fate(web)); got != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, test.want)
		}
	}
}

// TestFate_OfNFT follows a connection to port 80 through the rules of a router.
func TestFate_OfNFT(t *testing.T) {
	const by = " by the policy DROP of chain f of table inet t"
	const yes, maybe = "refused yes" + by, "refused maybe" + by
	for rule, want := range map[string]string{
		"accept":                      "",
		"ct state established accept": yes,
		"ct state vmap { established : accept, related : accept, invalid : drop }": yes,
		"ct state vmap { established : accept, new : jump mine, }":                 "",
		"iifname eth0 oifname { \"eth1\", \"eth2\" } accept":                       "",
		"iifname \"eth9\" accept":                                                  yes,
		"iifname vmap { lo : accept, ${client.interface} : goto mine }":            "",
		"tcp dport vmap { 22 : accept, 80-81 : accept }":                           "",
		"tcp dport vmap { 22 : accept, 443 : accept }":                             yes,
		"tcp dport vmap @known":                                                    maybe,
		"meta mark 7 accept":                                                       yes,
		"meta mark & 0xff == 0 accept":                                             "",
		"ct mark 7 accept":                                                         maybe,
		"ip daddr 10.0.0.1 accept":                                                 maybe,
		"fib daddr type local accept":                                              maybe,
		"counter log prefix \"x \" level info accept":                              "",
		"counter packets 5 bytes 6 meta l4proto tcp th dport 80 accept":            "",
		"meta mark set 0x1 tcp dport 80 accept comment \"web\"":                    "",
		"udp dport 80 accept":                                                      yes,
		"meta nfproto ipv6 accept":                                                 yes,
		"jump { tcp dport 80 accept; }":                                            maybe,
		"limit rate 5/second accept":                                               maybe,
		"tcp flags & (fin | syn | rst | ack) == syn accept":                        "",
		"reject with icmp type admin-prohibited": "refused yes by the rule \"reject with icmp " +
			"type " +
			"admin-prohibited\" in chain f of table inet t",
	} {
		read := rules.NFT("table inet t {\nmap known { type inet_service : verdict; }\n" +
			"chain mine { tcp dport { 80, 443 } accept; }\n" +
			"chain f { type filter hook forward priority 0; policy drop; " + rule + "; }\n}")
		if got := words(read.Fate(through)); got != want || len(read.Problems) > 0 {
			t.Errorf("%s:\n%s\nwant\n%s %v", rule, got, want, read.Problems)
		}
	}
	for rule, want := range map[string]string{
		"tcp dport 80 redirect to :15006":                                   "to :15006",
		"tcp dport 80 redirect":                                             "to dut",
		"tcp dport 80 dnat to 10.0.0.1:8080":                                "to 10.0.0.1:8080",
		"dnat ip to 10.0.0.1 random":                                        "to 10.0.0.1",
		"dnat ip to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }": "to ?",
		"icmp type redirect accept":                                         "",
	} {
		read := rules.NFT("table inet t { chain p { type nat hook prerouting priority dstnat; " +
			rule + "; }; }")
		if got := words(read.Fate(web)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", rule, got, want)
		}
	}
}

// TestUntracked_Reply judges the two directions of a connection by themselves.
func TestUntracked_Reply(t *testing.T) {
	for name, test := range map[string]struct {
		rules     string
		out, back bool
	}{
		"one way": {"-A PREROUTING -p tcp --dport 80 -j CT --notrack", true, false},
		"both ways": {
			"-A PREROUTING -p tcp --dport 80 -j CT --notrack\n" +
				"-A OUTPUT -p tcp --sport 80 -j CT --notrack", true, true,
		},
		"back": {"-A OUTPUT -p tcp --sport 80 -j CT --notrack", false, true},
		"the request's port in the answers' chain": {
			"-A OUTPUT -p tcp --dport 80 -j CT --notrack", false, false,
		},
		"all": {"-A PREROUTING -j NOTRACK\n-A OUTPUT -j NOTRACK", true, true},
	} {
		read := rules.Read(rules.Texts{IPv4: "*raw\n" + test.rules + "\nCOMMIT"})
		out, back := read.Untracked(web), read.Untracked(web.Answer())
		if out != test.out || back != test.back {
			t.Errorf("%s: %v and %v, want %v and %v", name, out, back, test.out, test.back)
		}
	}
}

// TestFate_IsBounded follows a packet through chains that double its way at every jump.
func TestFate_IsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("*filter\n-A INPUT -j c0\n")
	for i := range 40 {
		fmt.Fprintf(&b, "-A c%d -j c%d\n-A c%d -j c%d\n", i, i+1, i, i+1)
	}
	if got := rules.Iptables(rules.IPv4,
		b.String()+"COMMIT").Fate(web); got.Refused != rules.Never {
		t.Errorf("%+v", got)
	}
}
