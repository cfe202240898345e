package rules

import (
	"net/netip"
	"testing"
)

func TestDestinationNAT(t *testing.T) {
	syslog := Flow{Family: IPv4, Protocol: "udp", Port: 514}
	for name, tc := range map[string]struct {
		texts Texts
		flow  Flow
		want  bool
	}{
		"a redirect": {
			Texts{IPv4: "*nat\n-A PREROUTING -p udp --dport 514 -j REDIRECT --to-ports 9\nCOMMIT"},
			syslog, true,
		},
		"another port": {
			Texts{IPv4: "*nat\n-A PREROUTING -p udp --dport 53 -j REDIRECT --to-ports 9\nCOMMIT"},
			syslog, false,
		},
		"the address": {
			Texts{IPv4: "*nat\n-A PREROUTING -d 10.0.0.2/32 -p udp " +
				"-j DNAT --to-destination 10.0.0.9\nCOMMIT"},
			syslog, true,
		},
		"another address": {
			Texts{IPv4: "*nat\n-A PREROUTING -d 10.0.0.3 -p udp " +
				"-j DNAT --to-destination 10.0.0.9\nCOMMIT"},
			syslog, false,
		},
		"any other address": {
			Texts{IPv4: "*nat\n-A PREROUTING ! -d 10.0.0.3 -p udp " +
				"-j DNAT --to-destination 10.0.0.9\nCOMMIT"},
			syslog, true,
		},
		"source NAT": {
			Texts{IPv4: "*nat\n-A POSTROUTING -p udp -j SNAT --to-source 10.0.0.9\nCOMMIT"},
			syslog, false,
		},
		"a part of the packets": {
			Texts{IPv4: "*nat\n-A PREROUTING -p udp -m statistic --mode random --probability 0.5 " +
				"-j DNAT --to-destination 10.0.0.9\nCOMMIT"},
			syslog, false,
		},
		"nft": {
			Texts{NFT: "table ip n { chain p { type nat hook prerouting priority dstnat; " +
				"ip daddr 10.0.0.0-10.0.0.5 udp dport 514 dnat to 10.0.0.9; }; }"},
			syslog, true,
		},
		"nft, a redirect to another family": {
			Texts{NFT: "table ip6 n { chain p { type nat hook prerouting priority dstnat; " +
				"udp dport 514 redirect to :5301; }; }"},
			syslog, false,
		},
		"nft, a set of addresses": {
			Texts{NFT: "table ip n { chain p { type nat hook prerouting priority dstnat; " +
				"ip daddr @moved udp dport 514 dnat to 10.0.0.9; }; }"},
			syslog, false,
		},
	} {
		got := Read(tc.texts).DestinationNAT(tc.flow, netip.MustParseAddr("10.0.0.2"))
		if (got != nil) != tc.want {
			t.Errorf("%s: %+v", name, got)
		}
		if got != nil && got.Translates() != "dnat" {
			t.Errorf("%s: translates %q", name, got.Translates())
		}
	}
}

func TestMidStream(t *testing.T) {
	for text, want := range map[string][2]bool{ // mid-stream, out of state
		"-p tcp ! --syn -m conntrack --ctstate NEW -j DROP":                     {true, false},
		"-p tcp -m state --state NEW,INVALID ! --syn -j DROP":                   {true, false},
		"-p tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m state --state NEW -j DROP": {true, false},
		"-p tcp --syn -m conntrack --ctstate NEW -j DROP":                       {false, false},
		"-p tcp ! --syn -j DROP":                                                {false, false},
		"-m conntrack --ctstate INVALID -j DROP":                                {false, true},
		"-m conntrack ! --ctstate INVALID -j DROP":                              {false, false},
		"-m conntrack --ctstate INVALID,NEW -j DROP":                            {false, false},
		"-j DROP":                            {false, false},
		"ct state invalid drop":              {false, true},
		"ct state != invalid drop":           {false, false},
		"tcp flags != syn ct state new drop": {true, false},
		"tcp flags & (fin|syn|rst|ack) != syn ct state new drop": {true, false},
		"tcp flags & (fin|syn|rst|ack) == syn ct state new drop": {false, false},
	} {
		const chain = "table ip f { chain c { type filter hook forward priority 0; "
		texts := Texts{NFT: chain + text + "; }; }"}
		if text[0] == '-' {
			texts = Texts{IPv4: "*filter\n-A FORWARD " + text + "\nCOMMIT"}
		}
		for _, r := range Read(texts).rules() {
			if got := [2]bool{r.MidStream(), r.OutOfState()}; got != want {
				t.Errorf("%s: mid-stream, out of state %v, want %v", text, got, want)
			}
		}
	}
}

func TestLookups(t *testing.T) {
	const saved = `*nat
:PREROUTING ACCEPT [7:420]
:OUTPUT ACCEPT [2:120]
:SERVICES - [0:0]
:UNUSED - [0:0]
[50:3000] -A PREROUTING -p tcp -j SERVICES
[3:180] -A PREROUTING -p udp -j ACCEPT
[40:2400] -A SERVICES -p tcp --dport 80 -j DNAT --to-destination 10.0.0.9
[10:600] -A SERVICES -j RETURN
[99:99] -A UNUSED -j REDIRECT
COMMIT
*filter
:INPUT ACCEPT [1000:1000]
COMMIT
`
	const nft = `table ip n {
	chain p { type nat hook prerouting priority dstnat; policy accept;
		tcp dport 80 counter packets 5 bytes 300 dnat to 10.0.0.9
	}
}`
	for name, tc := range map[string]struct {
		texts Texts
		want  int64
		known bool
	}{
		"iptables":                     {Texts{IPv4: saved}, 7 + 2 + 3 + 40, true},
		"no NAT":                       {Texts{IPv4: "*filter\n:INPUT ACCEPT [1:1]\n"}, 0, false},
		"nft, a policy that is silent": {Texts{NFT: nft}, 0, false},
	} {
		if got, known := Read(tc.texts).Lookups(); got != tc.want || known != tc.known {
			t.Errorf("%s: %d, %v", name, got, known)
		}
	}
}
